"""MilvusVectorStore: one collection, read by Milvus's query iterator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llama_index_adapters.index.pages import Page, Reading, similarity_called
from llama_index_adapters.retrieval.ranking import Similarity

_SIMILARITIES: dict[str, Similarity] = {
    "IP": "dot_product",
    "L2": "euclidean",
    "COSINE": "cosine",
}


def read(store: Any, page_size: int) -> Reading:
    """Read a MilvusVectorStore's collection.

    Raises:
        UnsupportedStoreError: for a metric other than inner product, L2 and cosine.
    """
    similarity = similarity_called(
        str(store.similarity_metric), _SIMILARITIES, f"Milvus collection {store.collection_name}"
    )
    pages, sparse = _pages(store, page_size), bool(store.enable_sparse)
    return Reading(similarity, pages, dimension=store.dim, sparse=sparse)


def _pages(store: Any, page_size: int) -> Iterator[Page]:
    client, name, field = store.client, store.collection_name, store.embedding_field
    if not client.has_collection(name):
        return
    # Every field of the row but these is metadata, the dynamic ones included.
    own = {field, store.text_key, store.sparse_embedding_field, "id"}
    rows = client.query_iterator(name, batch_size=page_size, output_fields=["*"])
    try:
        while page := rows.next():
            yield Page(
                [row["id"] for row in page],
                np.array([row[field] for row in page], dtype=np.float32),
                [row.get(store.text_key) for row in page],
                [{key: row[key] for key in row if key not in own} for row in page],
            )
    finally:
        rows.close()
