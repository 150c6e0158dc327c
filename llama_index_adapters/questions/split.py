"""Split a question set so that what is learned on one side is measured fairly on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from llama_index_adapters.checks import seeded_generator
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset, Questions
from llama_index_adapters.questions.views import AnyQuestions, QuestionView, Rows, view_of
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

Fractions = Sequence[float]
Side = EmbeddingQAFinetuneDataset | VectorDataset
DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)

_Set = TypeVar("_Set")


@overload
def split_by_query(
    dataset: VectorDataset, fractions: Fractions = ..., *, seed: int = ...
) -> tuple[VectorDataset, ...]: ...


@overload
def split_by_query(
    dataset: Questions, fractions: Fractions = ..., *, seed: int = ...
) -> tuple[EmbeddingQAFinetuneDataset, ...]: ...


def split_by_query(
    dataset: AnyQuestions, fractions: Fractions = DEFAULT_FRACTIONS, *, seed: int = 0
) -> tuple[Side, ...]:
    """Divide the queries; every side keeps the whole corpus.

    This measures new questions about known passages. Queries of the same text or vector stay
    together; of equal passages it does not matter, because every side has all of them.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors. The
            sides are of the same kind; sides of vectors share the passages' memory.
        fractions: the share of the queries for each side; positive, with the sum 1.
        seed: the same seed and order of queries give the same split.

    Returns:
        One dataset for each fraction, queries in their original order.

    Raises:
        InvalidOptionError: for fractions that are not that, or a seed that is none.
        InvalidDatasetError: when there are fewer distinct queries than sides.
    """
    shares = checked_fractions(fractions)
    return queries_divided(view_of(dataset), shares, seed=seed)


@overload
def split_by_passage(
    dataset: VectorDataset, fractions: Fractions = ..., *, seed: int = ...
) -> tuple[VectorDataset, ...]: ...


@overload
def split_by_passage(
    dataset: Questions, fractions: Fractions = ..., *, seed: int = ...
) -> tuple[EmbeddingQAFinetuneDataset, ...]: ...


def split_by_passage(
    dataset: AnyQuestions, fractions: Fractions = DEFAULT_FRACTIONS, *, seed: int = 0
) -> tuple[Side, ...]:
    """Divide the passages with the queries that ask about them.

    This measures questions about passages that were never trained on: no query of one side asks
    about a passage of another. Queries that share a passage or a text stay together, and so do
    passages of the same text under different ids (of vectors, those that are equal); a side misses
    its share by at most the size of such a group. Passages nobody asks about are divided too.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors. The
            sides are of the same kind; a side of vectors has copies of its passages in memory and
            no ``search``, which would find passages of the other sides.
        fractions: the share of the queries for each side; positive, with the sum 1.
        seed: the same seed and order of queries and passages give the same split.

    Returns:
        One dataset for each fraction, with its own part of the corpus, in the original order.

    Raises:
        InvalidOptionError: for fractions that are not that, or a seed that is none.
        InvalidDatasetError: when there are fewer groups of connected queries than sides.
    """
    return passages_divided(view_of(dataset), checked_fractions(fractions), seed=seed)


def queries_divided(
    view: QuestionView[_Set], shares: NDArray[np.float64], *, seed: int
) -> tuple[_Set, ...]:
    """Divide the queries of anything, as :func:`split_by_query` says."""
    sides = _assign(view.same_queries, shares, seeded_generator(seed), "distinct queries")
    return tuple(view.part(np.flatnonzero(sides == side)) for side in range(len(shares)))


def passages_divided(
    view: QuestionView[_Set], shares: NDArray[np.float64], *, seed: int
) -> tuple[_Set, ...]:
    """Divide the passages of anything, as :func:`split_by_passage` says."""
    rng = seeded_generator(seed)
    passages = view.same_passages
    query_groups, passage_groups = _connected(view)
    query_sides = _assign(
        query_groups, shares, rng, "groups of queries that share no passage or text"
    )
    side_of_group = dict(zip(query_groups.tolist(), query_sides.tolist(), strict=True))
    # Passages of the same text are one to the sides.
    _, first_rows, numbers = np.unique(passages, return_index=True, return_inverse=True)
    sides = np.array([side_of_group.get(group, -1) for group in passage_groups[first_rows]])
    unasked = rng.permutation(np.flatnonzero(sides < 0))
    cuts = np.rint(np.cumsum(shares[:-1]) * len(unasked)).astype(np.int64)
    for side, rows in enumerate(np.split(unasked, cuts)):
        sides[rows] = side
    passage_sides = sides[numbers.reshape(-1)]
    return tuple(
        view.part(np.flatnonzero(query_sides == side), np.flatnonzero(passage_sides == side))
        for side in range(len(shares))
    )


def checked_fractions(fractions: Fractions) -> NDArray[np.float64]:
    """Return the shares of the sides.

    Raises:
        InvalidOptionError: for anything but two or more positive numbers with the sum 1.
    """
    try:
        shares = np.asarray(fractions, dtype=np.float64)
    except (TypeError, ValueError):  # no numbers: refused below
        shares = np.zeros(0)
    usable = shares.ndim == 1 and len(shares) >= 2 and bool((shares > 0).all())
    if not usable or not math.isclose(float(shares.sum()), 1, abs_tol=1e-6):
        raise InvalidOptionError(
            f"fractions is {fractions!r}; expected two or more positive numbers with the sum 1, "
            "such as (0.8, 0.2)."
        )
    return shares


def _connected(view: QuestionView[object]) -> tuple[Rows, Rows]:
    """Return numbers of queries and of passages, the same for what hangs together.

    Equal queries hang together, equal passages, and a query with the passages that answer it.
    """
    queries, passages, relevance = view.same_queries, view.same_passages, view.relevance
    n_queries = int(queries.max()) + 1
    asked, answers = queries[relevance.queries], n_queries + passages[relevance.passages]
    size = n_queries + int(passages.max()) + 1
    graph = coo_array((np.ones(len(asked)), (asked, answers)), shape=(size, size))
    components = connected_components(graph, directed=False)[1].astype(np.int64)
    return components[queries], components[n_queries + passages]


def _assign(groups: Rows, shares: NDArray[np.float64], rng: np.random.Generator, noun: str) -> Rows:
    """Give every query a side, whole groups at a time, close to the shares in queries.

    Large groups are placed first, each where it leaves the largest part of a side's share open:
    the sides come close to their size, and each gets large and small groups alike.
    """
    labels, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(labels) < len(shares):
        raise InvalidDatasetError(
            f"The question set has {len(labels)} {noun}, too few for {len(shares)} sides; "
            "give fewer fractions or more questions."
        )
    wanted = _whole_numbers(shares, len(groups))
    placed = np.zeros(len(shares), dtype=np.int64)
    side_of = np.empty(len(labels), dtype=np.int64)
    shuffled = rng.permutation(len(labels))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    for position, label in enumerate(order):
        room = (wanted - placed - sizes[label]) / wanted
        empty = placed == 0
        if len(order) - position == np.count_nonzero(empty):
            room[~empty] = -np.inf  # the last groups go to the sides that have none yet
        side = int(np.argmax(room))
        side_of[label] = side
        placed[side] += sizes[label]
    return side_of[members]


def _whole_numbers(shares: NDArray[np.float64], total: int) -> Rows:
    """Return whole numbers near ``shares * total`` with that sum, each at least 1."""
    wanted = np.maximum(np.floor(shares * total), 1).astype(np.int64)
    while wanted.sum() != total:
        step = 1 if wanted.sum() < total else -1
        distance = (shares * total - wanted) * step
        distance[(wanted + step) < 1] = -np.inf
        wanted[int(np.argmax(distance))] += step
    return wanted
