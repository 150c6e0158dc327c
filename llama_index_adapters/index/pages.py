"""What a reader gives: the stored vectors of a vector store, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from llama_index_adapters.ranking import Similarity


@dataclass(frozen=True)
class Page:
    """Some stored vectors.

    Attributes:
        ids: the node ids, or what the store has in their place when the index maps them.
        vectors: ``(n, dim)``, one for each id.
        texts: the text of each node; None when the store keeps no texts, which are then looked
            up in the docstore.
        metadata: what LlamaIndex stored beside each text, with ``_node_content`` and
            ``_node_type``; None when nodes have no metadata, or the docstore has it.
    """

    ids: Sequence[str]
    vectors: ArrayLike
    texts: Sequence[str | None] | None = None
    metadata: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Reading:
    """A vector store that is being read.

    Attributes:
        similarity: how the store compares a query with its vectors.
        pages: all of them, once; only one page needs to be in memory.
        exact: whether the vectors are those that were stored. False when the store keeps codes
            that give them back approximately.
        mapped_ids: whether the ids are the store's own (Faiss counts its rows), so that only
            the index knows the nodes.
    """

    similarity: Similarity
    pages: Iterable[Page]
    exact: bool = True
    mapped_ids: bool = False


# Takes the vector store and the number of vectors a page may have.
Reader = Callable[[Any, int], Reading]
