"""A question set as arrays: what training and evaluation read."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llama_index_adapters.checks import require_one_of
from llama_index_adapters.display.html import facts
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.copies import first_copies
from llama_index_adapters.retrieval.query_blocks import QueryBlock, base_number, block_of
from llama_index_adapters.retrieval.ranking import (
    SIMILARITIES,
    Similarity,
    TopK,
    row_blocks,
    top_k_of_checked,
)
from llama_index_adapters.retrieval.relevance import Relevance

# Takes queries (n, passage_dim) and k; gives rows of passages (n, k), best first, -1 for none.
PassageSearch = Callable[[FloatArray, int], NDArray[np.int64]]


@dataclass(frozen=True, repr=False)
class VectorDataset:
    """Query vectors, passage vectors and their relevance.

    Whoever has vectors already (an index, a file) builds one and trains without an
    embedding model. The arrays are converted to float32 and checked once, here: what is made of a
    dataset by its methods is not checked again, because a look at every number of a large corpus
    takes as long as reading it. Arrays that are float32 already are used as they are, so
    ``passages`` may be memory-mapped and larger than memory.

    Attributes:
        queries: ``(n_queries, query_dim)`` float32.
        passages: ``(n_passages, passage_dim)`` float32; the two dimensions may differ.
        relevance: the relevant passage rows of each query, at least one each.
        similarity: how the vector store compares a query with a passage.
        query_ids: a name for each query row; defaults to its position.
        passage_ids: a name for each passage row; defaults to its position.
        search: finds the rows of the passages nearest to queries, as a vector store does; for
            mining negatives where ranking every passage would take too long.
        blocks: which model each column of the queries comes from, when several models embed
            queries: their vectors side by side, as
            :func:`llama_index_adapters.retrieval.query_blocks.side_by_side` makes them. When left
            out, queries of as many dimensions as the passages are taken for those of the
            passages' own model, and others for those of another.

    Raises:
        InvalidVectorsError: for a wrong shape, NaN or infinity, a query without a
            relevant passage, a passage row that does not exist, or blocks that do not fit.
        InvalidOptionError: for an unknown similarity.
    """

    queries: FloatArray
    passages: FloatArray
    relevance: Relevance
    similarity: Similarity = "cosine"
    query_ids: tuple[str, ...] = ()
    passage_ids: tuple[str, ...] = ()
    search: PassageSearch | None = field(default=None, repr=False, compare=False)
    blocks: tuple[QueryBlock, ...] = ()

    def __post_init__(self) -> None:
        """Convert the arrays and refuse what cannot be trained on."""
        object.__setattr__(self, "queries", as_matrix(self.queries, "queries"))
        object.__setattr__(self, "passages", as_matrix(self.passages, "passages"))
        require_one_of(self.similarity, "similarity", SIMILARITIES)
        if len(self.relevance) != len(self.queries):
            raise InvalidVectorsError(
                f"relevance covers {len(self.relevance)} queries, but there are "
                f"{len(self.queries)} query vectors."
            )
        without = np.flatnonzero(self.relevance.counts == 0)
        if without.size:
            raise InvalidVectorsError(
                f"{without.size} queries have no relevant passage, the first in rows "
                f"{without[:5].tolist()}. Leave them out."
            )
        rows = self.relevance.passages
        if rows.size and (rows.min() < 0 or rows.max() >= len(self.passages)):
            raise InvalidVectorsError(
                f"relevance names passage rows from {rows.min()} to {rows.max()}, but there "
                f"are {len(self.passages)} passage vectors."
            )
        for name, vectors in (("query_ids", self.queries), ("passage_ids", self.passages)):
            ids = getattr(self, name) or tuple(str(row) for row in range(len(vectors)))
            if len(ids) != len(vectors):
                raise InvalidVectorsError(
                    f"{name} has {len(ids)} entries for {len(vectors)} vectors."
                )
            object.__setattr__(self, name, tuple(ids))
        self._check_blocks()

    def __repr__(self) -> str:
        """Say how much there is, without the vectors and ids."""
        return (
            f"VectorDataset({', '.join(f'{name} {text}' for name, text in self._facts().items())})"
        )

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook."""
        return facts("VectorDataset", self._facts())

    def _facts(self) -> dict[str, str]:
        (queries, query_dim), (passages, passage_dim) = self.queries.shape, self.passages.shape
        return {
            "queries": f"{queries:,} x {query_dim}",
            "passages": f"{passages:,} x {passage_dim}",
            "relevant pairs": f"{len(self.relevance.passages):,}",
            "similarity": self.similarity,
        }

    def _check_blocks(self) -> None:
        query_dim, passage_dim = self.queries.shape[1], self.passages.shape[1]
        if not self.blocks:
            block = QueryBlock(query_dim, "base" if query_dim == passage_dim else "other")
            object.__setattr__(self, "blocks", (block,))
            return
        dims = [block.dim for block in self.blocks]
        if sum(dims) != query_dim:
            raise InvalidVectorsError(
                f"blocks has {' and '.join(map(str, dims))} columns, but queries {query_dim}."
            )
        bases = [block.dim for block in self.blocks if block.role == "base"]
        if bases and bases != [passage_dim]:
            raise InvalidVectorsError(
                f"blocks names {len(bases)} base models of {' and '.join(map(str, bases))} "
                f"dimensions; the passages come from one, of {passage_dim}."
            )

    @property
    def base_queries(self) -> FloatArray | None:
        """``(n_queries, passage_dim)`` the vectors of the passages' own model, None without it."""
        number = base_number(self.blocks)
        return None if number is None else block_of(self.queries, self.blocks, number)

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """``(n_passages,)``: for each passage the first row with an equal vector, often its own."""
        return first_copies(self.passages)

    @property
    def n_copies(self) -> int:
        """How many passages have the vector of an earlier one."""
        return int(np.count_nonzero(self.copies != np.arange(len(self.copies))))

    def select_queries(self, rows: NDArray[np.int64]) -> VectorDataset:
        """Return the same corpus with only some of the queries, in the order given.

        Args:
            rows: ``(n,)`` rows of queries, at least one.

        Raises:
            InvalidVectorsError: for anything else.
        """
        rows = _rows_among(rows, len(self.queries), "queries")
        return self._with(
            queries=self.queries[rows],
            relevance=self.relevance.select(rows),
            query_ids=tuple(self.query_ids[row] for row in rows),
        )

    def select_passages(self, rows: NDArray[np.int64]) -> VectorDataset:
        """Return the same queries with only some of the passages, which are copied.

        The ``search`` is left out, since it finds passages among all of them.

        Args:
            rows: ``(n,)`` rows of passages without repetition, with every relevant one among them.

        Raises:
            InvalidVectorsError: for anything else.
        """
        rows = _rows_among(rows, len(self.passages), "passages")
        place = np.full(len(self.passages), -1)
        place[rows] = np.arange(len(rows))
        relevant = place[self.relevance.passages]
        if len(np.unique(rows)) < len(rows) or (relevant < 0).any():
            raise InvalidVectorsError(
                f"rows repeats {len(rows) - len(np.unique(rows))} passages and lacks "
                f"{len(np.unique(self.relevance.passages[relevant < 0]))} relevant ones; expected "
                "each once, with every relevant one among them."
            )
        part = self._with(
            passages=self.passages[rows],
            relevance=Relevance(self.relevance.offsets, relevant, self.relevance.grades),
            passage_ids=tuple(self.passage_ids[row] for row in rows),
            search=None,
        )
        part.__dict__.pop("copies", None)  # those of the whole corpus
        return part

    def with_shared_relevance(self) -> VectorDataset:
        """Return the same data with equal queries as one, which has the answers of all.

        Training needs this: a passage that answers one of two equal queries must not count as a
        negative for the other. The first of them is kept.
        """
        first = first_copies(self.queries)
        kept, numbers = np.unique(first, return_inverse=True)
        if len(kept) == len(first):
            return self
        relevance = self.relevance
        owners = numbers.reshape(-1)[relevance.queries]
        shared = Relevance.from_pairs(owners, relevance.passages, relevance.grades, len(kept))
        part = self.select_queries(kept)
        return part._with(relevance=shared.distinct(len(self.passages)))

    def with_search(self, search: PassageSearch) -> VectorDataset:
        """Return the same data with another way to find the passages nearest to queries."""
        return self._with(search=search)

    def with_blocks(self, blocks: tuple[QueryBlock, ...]) -> VectorDataset:
        """Return the same data that says more of the models of its queries."""
        return self._with(blocks=blocks)

    def top_k(self, queries: ArrayLike, k: int) -> TopK:
        """Rank every passage for queries ``(n, passage_dim)`` and return the best ``k``.

        Raises:
            InvalidVectorsError: as :func:`llama_index_adapters.retrieval.ranking.top_k`.
        """
        return top_k_of_checked(queries, self.passages, k, similarity=self.similarity)

    def _with(self, **parts: Any) -> VectorDataset:
        """Return a copy with other parts, which are known to fit."""
        derived = copy.copy(self)  # unlike dataclasses.replace, it checks nothing
        for name, part in parts.items():
            object.__setattr__(derived, name, part)
        return derived

    def fingerprint(self) -> str:
        """Return a sha256 over vectors, relevance and similarity: the same data, the same text."""
        digest = hashlib.sha256(self.similarity.encode())
        judged = (self.relevance.offsets, self.relevance.passages, self.relevance.grades)
        for array in (self.queries, self.passages, *judged):
            if array is None:
                continue
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        if len(self.blocks) > 1:
            digest.update(repr([(block.dim, block.role) for block in self.blocks]).encode())
        return digest.hexdigest()


def as_matrix(vectors: ArrayLike, name: str) -> FloatArray:
    """Return vectors as a finite float32 matrix ``(n, dim)``.

    Raises:
        InvalidVectorsError: when they are not that, saying what was found.
    """
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):  # what numpy says of it would repeat a text
        raise InvalidVectorsError(
            f"{name} cannot be read as one float32 matrix; "
            "every vector needs the same number of dimensions, all of them numbers."
        ) from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InvalidVectorsError(
            f"{name} has shape {matrix.shape}; expected (n, dim) with at least one vector."
        )
    finite = [np.isfinite(block).all(axis=1) for block in row_blocks(matrix)]
    bad = np.flatnonzero(~np.concatenate(finite))
    if bad.size:
        raise InvalidVectorsError(
            f"{name} holds NaN or infinity in {bad.size} rows, the first {bad[:5].tolist()}."
        )
    return matrix


def _rows_among(rows: ArrayLike, count: int, noun: str) -> NDArray[np.int64]:
    found = np.asarray(rows)
    whole = found.ndim == 1 and found.dtype.kind in "iu" and found.size > 0
    if not whole or found.min() < 0 or found.max() >= count:
        raise InvalidVectorsError(
            f"rows has shape {found.shape} and type {found.dtype}; expected at least one row of "
            f"the {count} {noun}, as whole numbers from 0 to {count - 1}."
        )
    return found
