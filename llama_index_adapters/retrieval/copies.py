"""Passages with equal vectors under different ids: no ranking tells one from the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import row_blocks
from llama_index_adapters.retrieval.relevance import Relevance

_FIRST_NUMBERS = 16  # enough to tell nearly all vectors that differ


def first_copies(vectors: FloatArray) -> NDArray[np.int64]:
    """Return for each row of ``(n, dim)`` the first row that is equal to it, ``(n,)``.

    A row that equals no earlier one is its own. Equal is equal number by number, as the same text
    is through the same model.
    """
    digests = np.concatenate([_digests(block[:, :_FIRST_NUMBERS]) for block in row_blocks(vectors)])
    _, group, size = np.unique(digests, return_inverse=True, return_counts=True)
    first: dict[bytes, int] = {}
    copies = np.arange(len(vectors))
    for row in np.flatnonzero(size[group.reshape(-1)] > 1).tolist():
        numbers = vectors[row] + np.float32(0)  # -0.0 equals 0.0
        copies[row] = first.setdefault(numbers.tobytes(), row)
    return copies


def with_copies(relevance: Relevance, copies: NDArray[np.int64]) -> Relevance:
    """Return the relevance in which every copy of a relevant passage is relevant too.

    Args:
        relevance: the relevant passages of each query.
        copies: ``(n_passages,)`` what :func:`first_copies` gave for the passages.
    """
    sizes = np.bincount(copies, minlength=len(copies))
    if sizes.max(initial=0) < 2:
        return relevance
    by_group = np.argsort(copies, kind="stable")
    starts = np.cumsum(sizes) - sizes
    groups = copies[relevance.passages]
    counts = sizes[groups]
    queries = np.repeat(relevance.queries, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    passages = by_group[np.repeat(starts[groups], counts) + within]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(queries, minlength=len(relevance)))])
    grades = None if relevance.grades is None else np.repeat(relevance.grades, counts)
    return Relevance(offsets, passages, grades).distinct(len(copies))


def merged(relevance: Relevance, copies: NDArray[np.int64]) -> Relevance:
    """Return the relevance in which the first of equal passages stands for all of them."""
    if (copies == np.arange(len(copies))).all():
        return relevance
    named = Relevance(relevance.offsets, copies[relevance.passages], relevance.grades)
    return named.distinct(len(copies))


def _digests(rows: FloatArray) -> NDArray[np.uint64]:
    """Return a number of 64 bits for each row, the same for equal rows."""
    bits = np.ascontiguousarray(rows + np.float32(0)).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) * 2 + 1
    digests: NDArray[np.uint64] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return digests
