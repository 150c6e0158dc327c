"""QdrantVectorStore: one collection, scrolled until the server says that it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llama_index_adapters.errors import UnsupportedStoreError
from llama_index_adapters.index.pages import Page, Reading, similarity_called
from llama_index_adapters.retrieval.ranking import Similarity

# LlamaIndex keeps the text in the payload, either inside the node or under one of these.
_TEXT_KEYS = ("text", "doc_text")
_SIMILARITIES: dict[str, Similarity] = {
    "Cosine": "cosine",
    "Dot": "dot_product",
    "Euclid": "euclidean",
}


def read(store: Any, page_size: int) -> Reading:
    """Read a QdrantVectorStore; of a hybrid collection, the dense vectors.

    Under cosine Qdrant stores vectors at length one, which ranks as the originals do.

    Raises:
        UnsupportedStoreError: for a store with an asynchronous client alone, and for a distance
            other than cosine, dot product and Euclidean.
    """
    client, name = store._client, store.collection_name
    if client is None:
        raise UnsupportedStoreError(
            "The QdrantVectorStore has only an asynchronous client. Open the collection with "
            "QdrantVectorStore(collection_name, client=QdrantClient(...)) to read it."
        )
    if not client.collection_exists(name):
        made = store._dense_config  # what the store will make the collection with
        similarity = "cosine" if made is None else _similarity(made, name)
        dimension = None if made is None else made.size
        return Reading(similarity, (), dimension=dimension, sparse=bool(store.enable_hybrid))
    config = client.get_collection(name).config.params
    vectors = config.vectors
    if isinstance(vectors, dict):
        vectors = vectors.get(store.dense_vector_name) or next(iter(vectors.values()))
    return Reading(
        _similarity(vectors, name),
        _pages(store, page_size),
        dimension=vectors.size,
        sparse=bool(config.sparse_vectors) or bool(store.enable_hybrid),
    )


def _similarity(vectors: Any, name: str) -> Similarity:
    distance = str(vectors.distance.value)
    return similarity_called(distance, _SIMILARITIES, f"Qdrant collection {name}")


def _pages(store: Any, page_size: int) -> Iterator[Page]:
    offset = None
    while True:
        points, offset = store._client.scroll(
            store.collection_name,
            limit=page_size,
            offset=offset,
            with_vectors=True,
            with_payload=True,
        )
        page = _page(points, store.dense_vector_name)
        # Numbers as Python objects take eight times the memory; they go before the next page.
        del points
        yield page
        if offset is None:
            return


def _page(points: Sequence[Any], vector_name: str) -> Page:
    payloads = [point.payload or {} for point in points]
    return Page(
        [str(point.id) for point in points],
        np.array([_dense(point.vector, vector_name) for point in points], dtype=np.float32),
        [_text(payload) for payload in payloads],
        payloads,
    )


def _dense(vector: Any, name: str) -> Any:
    if isinstance(vector, dict):
        return vector[name] if name in vector else vector[""]
    return vector


def _text(payload: dict[str, Any]) -> str | None:
    return next((payload[key] for key in _TEXT_KEYS if payload.get(key)), None)
