"""Exact ranking of passages for queries, and how good a ranking is.

Metrics follow trec_eval, as ``pytrec_eval`` computes them. LlamaIndex's
own metric classes agree with two exceptions, both where ``k`` cuts something off:

- nDCG: theirs divides by the gain of *all* relevant passages, so a query with more than ``k``
  of them can never reach 1. Ours divides by what ``k`` places can hold, as trec_eval does.
- precision: theirs divides by the number of passages retrieved, ours by ``k``. They differ
  only when the corpus has fewer than ``k`` passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llama_index_adapters.checks import require_one_of
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.relevance import Relevance

Similarity = Literal["cosine", "dot_product", "euclidean"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
METRICS: tuple[str, ...] = ("hit_rate", "mrr", "ndcg", "recall", "precision", "map")

BLOCK_BYTES = 64 * 2**20
_BYTES_PER_SCORE = 10  # the score, its copy in the partition, the mask, and room for candidates
_QUERIES_PER_BLOCK = 256  # enough for the matrix product to run at full speed
_ROWS_PER_BLOCK = 2**16
_PAIRS_PER_STEP = 512  # small enough for the vectors of a step to stay in the processor's cache


class TopK(NamedTuple):
    """The best passages of every query.

    Attributes:
        passages: ``(n_queries, k)`` rows of the passage matrix, best first.
        scores: ``(n_queries, k)`` their similarity, higher is better; for euclidean the
            negative distance.
    """

    passages: NDArray[np.int64]
    scores: NDArray[np.float32]


def row_blocks(matrix: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield a matrix a block of rows at a time, for what would take as much memory as it has."""
    for start in range(0, len(matrix), _ROWS_PER_BLOCK):
        yield matrix[start : start + _ROWS_PER_BLOCK]


def unit_rows(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return the vectors ``(n, dim)`` scaled to length 1; rows of zeros stay zeros."""
    rows = np.asarray(vectors, dtype=np.float32)
    lengths = _lengths(rows)[..., None]
    units = np.zeros_like(rows)
    np.divide(rows, lengths, out=units, where=lengths > 0, casting="same_kind", dtype=np.float64)
    return units


def scoring_form(
    passages: ArrayLike, similarity: Similarity
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Write a similarity as a matrix product.

    Args:
        passages: ``(n_passages, dim)``.
        similarity: one of :data:`SIMILARITIES`.

    Returns:
        ``(matrix, offset)`` of shapes ``(n_passages, dim)`` and ``(n_passages,)``, so that
        ``q @ matrix.T + offset`` orders the passages for a query ``q`` of shape ``(dim,)``.
        ``None`` stands for an offset of zero. For euclidean the offset is ``-|p|^2 / 2``,
        because ``-|q - p|^2 / 2 = q.p - |p|^2 / 2 - |q|^2 / 2``.

    Raises:
        InvalidOptionError: for an unknown similarity.
    """
    require_one_of(similarity, "similarity", SIMILARITIES)
    if similarity == "cosine":
        return unit_rows(passages), None
    matrix = np.asarray(passages, dtype=np.float32)
    if similarity == "dot_product":
        return matrix, None
    return matrix, (-0.5 * _lengths(matrix) ** 2).astype(np.float32)


def top_k(
    queries: ArrayLike,
    passages: ArrayLike,
    k: int,
    *,
    similarity: Similarity = "cosine",
    block_bytes: int = BLOCK_BYTES,
) -> TopK:
    """Rank every passage for every query and keep the best ``k``.

    The result is exact and does not depend on the block size: a float32 matrix product
    finds all passages that can be among the best given its rounding error, and these are
    scored again in float64. Scores are then rounded to float32; equal scores are ordered by
    the lower passage row.

    Args:
        queries: ``(n_queries, dim)``.
        passages: ``(n_passages, dim)``.
        k: how many passages to keep; capped at ``n_passages``.
        similarity: how a query is compared with a passage.
        block_bytes: about how much memory to use besides the arguments and the result.

    Returns:
        The best ``min(k, n_passages)`` passages of every query.

    Raises:
        InvalidVectorsError: for ``k`` below 1, arrays that are not matrices of one
            dimension, no passages, NaN or infinity.
        InvalidOptionError: for an unknown similarity.
    """
    matrix = _matrix(passages, "passages")
    return top_k_of_checked(queries, matrix, k, similarity=similarity, block_bytes=block_bytes)


def top_k_of_checked(
    queries: ArrayLike,
    matrix: NDArray[np.float32],
    k: int,
    *,
    similarity: Similarity = "cosine",
    block_bytes: int = BLOCK_BYTES,
) -> TopK:
    """Rank as :func:`top_k` does, without a look at every passage for NaN first.

    Args:
        queries: ``(n_queries, dim)``, which are checked.
        matrix: ``(n_passages, dim)`` passages that are known to be finite.
        k: how many passages to keep; capped at ``n_passages``.
        similarity: how a query is compared with a passage.
        block_bytes: about how much memory to use besides the arguments and the result.

    Raises:
        InvalidVectorsError: for anything else that :func:`top_k` refuses.
    """
    if k < 1:
        raise InvalidVectorsError(f"k is {k}; ask for at least 1 passage.")
    asked = _matrix(queries, "queries")
    if asked.shape[1] != matrix.shape[1]:
        raise InvalidVectorsError(
            f"queries have dimension {asked.shape[1]} and passages {matrix.shape[1]}; they can "
            f"only be compared in one space. Adapt the queries to the passages' dimension first."
        )
    if not len(matrix):
        raise InvalidVectorsError("There are no passages to rank; the corpus is empty.")
    if similarity == "cosine":
        asked = unit_rows(asked)
    tolerance = _rounding_tolerance(asked, matrix, similarity)

    k = min(k, len(matrix))
    cells = max(1, block_bytes // _BYTES_PER_SCORE)
    width = min(len(matrix), max(1, cells // max(1, min(len(asked), _QUERIES_PER_BLOCK))))
    height = max(1, cells // width)
    best = TopK(np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32))
    for left in range(0, len(matrix), width):
        # Only a block is ever scaled, so a corpus may be larger than memory.
        block, offset = scoring_form(matrix[left : left + width], similarity)
        for top in range(0, len(asked), height):
            rows = slice(top, top + height)
            ranked = _top_k_of_block(asked[rows], block, offset, tolerance[rows], k)
            ranked = TopK(ranked.passages + left, ranked.scores)
            ranked_before = min(k, left)
            if ranked_before:
                earlier = TopK(
                    best.passages[rows, :ranked_before], best.scores[rows, :ranked_before]
                )
                ranked = _merged(earlier, ranked, k)
            places = slice(ranked.passages.shape[1])
            best.passages[rows, places], best.scores[rows, places] = ranked
    return best


def metrics_at_k(top: TopK, relevance: Relevance, k: int = 10) -> dict[str, NDArray[np.float64]]:
    """Score a ranking, query by query.

    Definitions are trec_eval's (https://github.com/usnistgov/trec_eval); ``R`` is the number of
    relevant passages of a query, ``g`` those among its best ``k``:

    - ``hit_rate`` (trec_eval's success): 1 when ``g`` is at least 1;
    - ``mrr`` (recip_rank of the best k): 1 / rank of the first relevant passage, else 0;
    - ``ndcg`` (ndcg_cut): the sum of ``grade / log2(rank + 1)`` over relevant passages, divided
      by the largest sum that ``k`` passages can have; the grade is 1 where there are none. The
      other metrics look at whether a passage is relevant and not at its grade;
    - ``recall``: ``g / R``;
    - ``precision`` (P): ``g / k``, also where the corpus has fewer than ``k`` passages;
    - ``map`` (map_cut): the sum of the precision at each relevant passage found, over ``R``.

    A query without a relevant passage scores 0 everywhere.

    Args:
        top: what :func:`top_k` gave, for at least ``k`` passages (or the whole corpus).
        relevance: the relevant passages of the same queries in the same order. A passage
            named twice counts once, with the best of its grades.
        k: how many passages to look at.

    Returns:
        ``{"hit_rate@10": (n_queries,), ...}`` with one entry per name in :data:`METRICS`.

    Raises:
        InvalidVectorsError: for ``k`` below 1, or a ranking that is of other queries or
            shorter than ``k``.
    """
    if k < 1:
        raise InvalidVectorsError(f"k is {k}; ask for at least 1 passage.")
    n_queries, n_ranked = top.passages.shape
    if n_queries != len(relevance):
        raise InvalidVectorsError(
            f"The ranking is of {n_queries} queries and the relevance of {len(relevance)}; "
            f"give both for the same queries in the same order."
        )
    rows = max(top.passages.max(initial=-1), relevance.passages.max(initial=-1)) + 1
    if n_ranked < min(k, rows):
        raise InvalidVectorsError(
            f"The ranking holds {n_ranked} passages a query, too few for metrics at {k}; "
            f"rank with k={k}."
        )

    ranked = top.passages[:, :k]
    once = relevance.distinct(rows)
    judged = once.queries * rows + once.passages
    n_relevant = once.counts
    keys = np.arange(n_queries)[:, None] * rows + ranked
    hits = np.isin(keys, judged).astype(np.float64)

    ranks = np.arange(1, ranked.shape[1] + 1)
    discounts = 1 / np.log2(ranks + 1)
    retrieved = hits.sum(axis=1)
    # With nothing relevant every numerator is 0, so any divisor but 0 will do.
    relevant = np.maximum(n_relevant, 1).astype(np.float64)
    per_query = {
        "hit_rate": (retrieved > 0).astype(np.float64),
        "mrr": (hits / ranks).max(axis=1, initial=0.0),
        "ndcg": (_gains(hits, keys, judged, once) * discounts).sum(axis=1) / _ideal(once, k),
        "recall": retrieved / relevant,
        "precision": retrieved / k,
        "map": (hits * np.cumsum(hits, axis=1) / ranks).sum(axis=1) / relevant,
    }
    return {f"{name}@{k}": per_query[name] for name in METRICS}


def _gains(
    hits: NDArray[np.float64],
    keys: NDArray[np.int64],
    judged: NDArray[np.int64],
    relevance: Relevance,
) -> NDArray[np.float64]:
    """``(n_queries, k)``: the grade of each passage that was ranked, 0 where it does not answer."""
    if relevance.grades is None:
        return hits
    place = np.minimum(np.searchsorted(judged, keys), len(judged) - 1)
    return hits * relevance.grades[place]


def _ideal(relevance: Relevance, k: int) -> NDArray[np.float64]:
    """``(n_queries,)``: the most that ``k`` passages can gain; above 0 where nothing answers."""
    if relevance.grades is None:
        sums = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        best: NDArray[np.float64] = sums[np.clip(relevance.counts, 1, k)]
        return best
    order = np.lexsort((-relevance.grades, relevance.queries))
    ranks = np.arange(len(order)) - np.repeat(relevance.offsets[:-1], relevance.counts) + 1
    gains = np.where(ranks <= k, relevance.grades[order] / np.log2(ranks + 1), 0.0)
    graded = np.bincount(relevance.queries, weights=gains, minlength=len(relevance))
    return np.where(relevance.counts > 0, graded, 1.0)


def mean_metrics(per_query: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the mean over queries of each metric.

    Raises:
        InvalidVectorsError: when there are no queries.
    """
    if any(len(values) == 0 for values in per_query.values()):
        raise InvalidVectorsError("There are no queries, so there is no mean; give at least one.")
    return {name: float(np.mean(values)) for name, values in per_query.items()}


def _matrix(vectors: ArrayLike, name: str) -> NDArray[np.float32]:
    matrix = np.asarray(vectors, dtype=np.float32)
    if matrix.ndim != 2:
        raise InvalidVectorsError(
            f"{name} has shape {matrix.shape}; expected a matrix (n, dim), one vector a row."
        )
    if not all(np.isfinite(block).all() for block in row_blocks(matrix)):
        raise InvalidVectorsError(
            f"{name} has NaN or infinite values (after conversion to float32); remove those rows."
        )
    return matrix


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    # In float64, where the square of no float32 overflows or vanishes.
    squares: NDArray[np.float64] = np.einsum("...i,...i->...", rows, rows, dtype=np.float64)
    return np.sqrt(squares)


def _rounding_tolerance(
    queries: NDArray[np.float32], matrix: NDArray[np.float32], similarity: Similarity
) -> NDArray[np.float64]:
    """``(n_queries,)``: how far apart two float32 scores can be and still be in doubt.

    A float32 dot product is off by at most ``dim * eps/2 * |q| |p|`` in any order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Both
    scores can be off; a few eps more cover the offset and the final rounding.
    """
    lengths = _lengths(queries)
    longest = 1.0  # up to rounding, which the few eps more cover
    if similarity != "cosine":
        longest = max(float(_lengths(block).max()) for block in row_blocks(matrix))
    scale = (lengths + longest) ** 2 if similarity == "euclidean" else lengths * longest
    if scale.max(initial=0.0) > np.finfo(np.float32).max:
        raise InvalidVectorsError(
            f"Vectors are up to {max(lengths.max(), longest):.1e} long, so their products do not "
            f"fit float32; scale them down."
        )
    tolerance: NDArray[np.float64] = (matrix.shape[1] + 8) * np.finfo(np.float32).eps * scale
    return tolerance


def _top_k_of_block(
    queries: NDArray[np.float32],
    matrix: NDArray[np.float32],
    offset: NDArray[np.float32] | None,
    tolerance: NDArray[np.float64],
    k: int,
) -> TopK:
    k = min(k, len(matrix))
    scores = queries @ matrix.T
    if offset is not None:
        scores += offset
    floor = _lower_bound_of_kth(scores, k) - tolerance
    in_doubt = np.flatnonzero(scores >= floor.astype(np.float32)[:, None])
    rows, columns = np.divmod(in_doubt, len(matrix))
    exact = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_PER_STEP):
        part = slice(start, start + _PAIRS_PER_STEP)
        left, right = queries[rows[part]], matrix[columns[part]]
        if offset is None:
            exact[part] = np.multiply(left, right, dtype=np.float64).sum(axis=1)
        else:
            apart = np.subtract(left, right, dtype=np.float64)
            exact[part] = -np.sqrt(np.square(apart, out=apart).sum(axis=1))
    order = np.lexsort((columns, -exact, rows))
    first = np.searchsorted(rows, np.arange(len(queries)))
    best = order[first[:, None] + np.arange(k)]
    return TopK(columns[best], exact[best])


def _lower_bound_of_kth(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """``(n_queries,)``: a score that at least ``k`` columns of each row reach.

    The k-th largest of the maxima of groups of columns: rarely below the k-th largest score,
    and found ten times as fast, because only the maxima are partitioned. Groups are strided,
    since near-duplicates tend to be neighbours.
    """
    size = max(1, min(64, scores.shape[1] // (8 * k)))
    n_groups = scores.shape[1] // size
    grouped = scores[:, : n_groups * size].reshape(len(scores), size, n_groups)
    maxima: NDArray[np.float32] = grouped.max(axis=1)
    maxima.partition(n_groups - k, axis=1)
    return maxima[:, n_groups - k]


def _merged(earlier: TopK, later: TopK, k: int) -> TopK:
    """Merge two rankings; every passage row of ``later`` is above those of ``earlier``."""
    scores = np.concatenate([earlier.scores, later.scores], axis=1)
    passages = np.concatenate([earlier.passages, later.passages], axis=1)
    # Stable, so equal scores keep the lower passage row first.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return TopK(
        np.take_along_axis(passages, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )
