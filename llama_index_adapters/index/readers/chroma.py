"""ChromaVectorStore: one collection, read by limit and offset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index_adapters.index.pages import Page, Reading, similarity_called
from llama_index_adapters.retrieval.ranking import Similarity

_SIMILARITIES: dict[str, Similarity] = {
    "l2": "euclidean",
    "cosine": "cosine",
    "ip": "dot_product",
}


def read(store: Any, page_size: int) -> Reading:
    """Read a ChromaVectorStore's collection.

    Raises:
        UnsupportedStoreError: for a space other than l2, cosine and ip.
    """
    collection = store.client
    return Reading(_similarity(collection), _pages(collection, page_size))


def _similarity(collection: Any) -> Similarity:
    configuration = getattr(collection, "configuration", None) or {}
    index = configuration.get("hnsw") or configuration.get("spann") or {}
    space = index.get("space") or (collection.metadata or {}).get("hnsw:space", "l2")
    return similarity_called(space, _SIMILARITIES, f"Chroma collection {collection.name}")


def _pages(collection: Any, page_size: int) -> Iterator[Page]:
    offset = 0
    while True:
        rows = collection.get(
            limit=page_size, offset=offset, include=["embeddings", "documents", "metadatas"]
        )
        if not rows["ids"]:
            return
        yield Page(rows["ids"], rows["embeddings"], rows["documents"], rows["metadatas"])
        offset += len(rows["ids"])
