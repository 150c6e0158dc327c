"""LanceDBVectorStore: one table, read in Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index_adapters.errors import UnsupportedStoreError
from llama_index_adapters.index.pages import Page, Reading, similarity_called
from llama_index_adapters.retrieval.ranking import Similarity

_SIMILARITIES: dict[str, Similarity] = {
    "l2": "euclidean",
    "cosine": "cosine",
    "dot": "dot_product",
}


def read(store: Any, page_size: int) -> Reading:
    """Read a LanceDBVectorStore's table; L2 unless an index on the vectors says otherwise.

    Raises:
        UnsupportedStoreError: for another metric than L2, cosine and dot, or a remote table,
            which cannot be read in batches.
    """
    if store._table is None:
        return Reading("euclidean", ())
    table = store._table
    if not hasattr(table, "to_lance"):
        raise UnsupportedStoreError(
            f"The LanceDB table {table.name} is remote and cannot be read in batches. Open the "
            "database by its storage path."
        )
    column = table.schema.field(store.vector_column_name).type
    return Reading(
        _similarity(table, store.vector_column_name),
        _pages(store, page_size),
        dimension=getattr(column, "list_size", None),
    )


def _similarity(table: Any, column: str) -> Similarity:
    for index in table.list_indices():
        if column in index.columns:
            metric = str(table.index_stats(index.name).distance_type).lower()
            return similarity_called(metric, _SIMILARITIES, f"LanceDB table {table.name}")
    return "euclidean"


def _pages(store: Any, page_size: int) -> Iterator[Page]:
    columns = ["id", store.vector_column_name, store.text_key, "metadata"]
    dataset = store._table.to_lance()
    present = [name for name in columns if name in dataset.schema.names]
    for batch in dataset.to_batches(columns=present, batch_size=page_size):
        if not batch.num_rows:
            continue
        vectors = batch.column(store.vector_column_name)
        yield Page(
            batch.column("id").to_pylist(),
            vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1),
            batch.column(store.text_key).to_pylist(),
            batch.column("metadata").to_pylist() if "metadata" in present else None,
        )
