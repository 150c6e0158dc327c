"""FaissMapVectorStore: a Faiss index with ids, and the node of each id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from llama_index_adapters.index.pages import Page, Reading
from llama_index_adapters.index.readers.faiss import inner_index, is_exact, similarity_of


def read(store: Any, page_size: int) -> Reading:
    """Read a FaissMapVectorStore; ids that no node has any more are left out."""
    kind = inner_index(store.client)
    pages = _pages(store.client, store._faiss_id_to_node_id_map, page_size)
    similarity, exact = similarity_of(store.client), is_exact(kind)
    return Reading(similarity, pages, exact=exact, dimension=store.client.d)


def _pages(index: Any, nodes: Mapping[int, str], page_size: int) -> Iterator[Page]:
    import faiss  # type: ignore[import-not-found,import-untyped,unused-ignore]

    faiss_ids = faiss.vector_to_array(index.id_map)
    for start in range(0, len(faiss_ids), page_size):
        ids = faiss_ids[start : start + page_size].tolist()
        vectors = index.index.reconstruct_n(start, len(ids))
        has_node = np.array([faiss_id in nodes for faiss_id in ids])
        yield Page([nodes[faiss_id] for faiss_id in ids if faiss_id in nodes], vectors[has_node])
