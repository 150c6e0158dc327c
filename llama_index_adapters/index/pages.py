"""What a reader gives: the stored vectors of a vector store, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    UnsupportedStoreError,
)
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity


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
        dimension: of the vectors that the store was made for; None where any will do.
        sparse: whether it keeps sparse vectors beside those that are read.
    """

    similarity: Similarity
    pages: Iterable[Page]
    exact: bool = True
    mapped_ids: bool = False
    dimension: int | None = None
    sparse: bool = False


# Takes the vector store and the number of vectors a page may have.
Reader = Callable[[Any, int], Reading]


def similarity_called(name: str, known: Mapping[str, Similarity], collection: str) -> Similarity:
    """Return the similarity behind a store's own name of a distance.

    Args:
        name: what the store says.
        known: the similarity of every name that can be trained for.
        collection: what is read, for the message: "Chroma collection x".

    Raises:
        UnsupportedStoreError: for a name that is not known.
    """
    if name not in known:
        raise UnsupportedStoreError(
            f"The {collection} compares by {name}; only {', '.join(known)} can be trained for."
        )
    return known[name]


def require_reading(reading: object, store: str) -> None:
    """Refuse what a reader gave when it cannot be read.

    Raises:
        InvalidOptionError: saying what it gave.
    """
    if not isinstance(reading, Reading) or not isinstance(reading.pages, Iterable):
        raise InvalidOptionError(
            f"The reader of {store} gave a {type(reading).__name__}; expected a Reading with an "
            "iterable of pages."
        )
    if reading.similarity not in SIMILARITIES:
        raise InvalidOptionError(
            f"The reader of {store} says similarity={reading.similarity!r}; use one of "
            f"{', '.join(SIMILARITIES)}."
        )


def require_page(page: object) -> None:
    """Refuse a page whose parts do not belong to its ids; vectors are checked when they are read.

    Raises:
        InvalidDatasetError: saying what the page has.
    """
    if not isinstance(page, Page):
        raise InvalidDatasetError(
            f"A reader gave a {type(page).__name__} among its pages; expected a Page."
        )
    if not all(isinstance(stored_id, str) for stored_id in page.ids):
        raise InvalidDatasetError("A page of the vector store has ids that are not str.")
    columns = {"texts": page.texts, "metadata": page.metadata}
    kinds = {"texts": (str, type(None)), "metadata": (Mapping, type(None))}
    for name, values in columns.items():
        if values is None:
            continue
        if len(values) != len(page.ids):
            raise InvalidDatasetError(
                f"A page of the vector store has {len(page.ids)} ids and {len(values)} {name}; a "
                f"reader gives one for each id, or leaves {name} out."
            )
        if not all(isinstance(value, kinds[name]) for value in values):
            raise InvalidDatasetError(
                f"A page of the vector store has {name} of another type; expected "
                f"{'str' if name == 'texts' else 'a mapping'} or None for each id."
            )


def require_ids(ids: Collection[str], n_vectors: int) -> None:
    """Refuse a page with another number of vectors than of ids.

    Raises:
        InvalidDatasetError: saying both.
    """
    if len(ids) != n_vectors:
        raise InvalidDatasetError(
            f"A page of the vector store has {len(ids)} ids and {n_vectors} vectors; a reader "
            "gives one vector for each id."
        )
