"""SimpleVectorStore: a dictionary of lists; texts are in the docstore."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from llama_index_adapters.index.pages import Page, Reading


def read(store: Any, page_size: int) -> Reading:
    """Read a SimpleVectorStore, which ranks by cosine."""
    return Reading("cosine", _pages(store.data.embedding_dict, page_size))


def _pages(vectors: dict[str, list[float]], page_size: int) -> Iterator[Page]:
    items = iter(vectors.items())
    while rows := list(islice(items, page_size)):
        yield Page([node_id for node_id, _ in rows], [vector for _, vector in rows])
