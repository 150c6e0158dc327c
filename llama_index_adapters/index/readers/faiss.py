"""FaissVectorStore: vectors by row number; node ids and texts are in the index and its docstore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index_adapters.errors import UnsupportedStoreError
from llama_index_adapters.index.pages import Page, Reading
from llama_index_adapters.retrieval.ranking import Similarity

# Kinds that keep the vectors as they were given; the others keep codes.
_EXACT = ("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexHNSWFlat", "IndexIVFFlat")


def read(store: Any, page_size: int) -> Reading:
    """Read a FaissVectorStore.

    Raises:
        UnsupportedStoreError: for a metric other than inner product and L2.
    """
    return Reading(
        similarity_of(store.client),
        _pages(store.client, page_size),
        exact=is_exact(inner_index(store.client)),
        mapped_ids=True,
        dimension=store.client.d,
    )


def similarity_of(index: Any) -> Similarity:
    """Return the similarity of a Faiss index.

    Raises:
        UnsupportedStoreError: for a metric other than inner product and L2.
    """
    import faiss  # type: ignore[import-not-found,import-untyped,unused-ignore]

    if index.metric_type == faiss.METRIC_INNER_PRODUCT:
        return "dot_product"
    if index.metric_type == faiss.METRIC_L2:
        return "euclidean"
    raise UnsupportedStoreError(
        f"The Faiss index compares by metric {index.metric_type}; only inner product "
        f"({faiss.METRIC_INNER_PRODUCT}) and L2 ({faiss.METRIC_L2}) can be trained for."
    )


def inner_index(index: Any) -> Any:
    """Return the index that holds the vectors, out of an id map, as its own class."""
    import faiss

    index = faiss.downcast_index(index)
    return inner_index(index.index) if hasattr(index, "id_map") else index


def is_exact(index: Any) -> bool:
    """Return whether a Faiss index gives back the vectors it was given."""
    return type(index).__name__ in _EXACT


def _pages(index: Any, page_size: int) -> Iterator[Page]:
    for start in range(0, index.ntotal, page_size):
        count = min(page_size, index.ntotal - start)
        ids = [str(row) for row in range(start, start + count)]
        yield Page(ids, index.reconstruct_n(start, count))
