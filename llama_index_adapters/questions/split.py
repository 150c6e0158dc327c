"""Split a question set so that what is learned on one side is measured fairly on another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from llama_index_adapters.checks import seeded_generator
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Questions,
    as_dataset,
)

Fractions = Sequence[float]
_Rows = NDArray[np.int64]


def split_by_query(
    dataset: Questions,
    fractions: Fractions = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
) -> tuple[EmbeddingQAFinetuneDataset, ...]:
    """Divide the queries; every side keeps the whole corpus.

    This measures new questions about known passages. Queries of the same text stay together; of
    passages with the same text it does not matter, because every side has all of them.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
        fractions: the share of the queries for each side; positive, with the sum 1.
        seed: the same seed and order of queries give the same split.

    Returns:
        One dataset for each fraction, queries in their original order.

    Raises:
        InvalidOptionError: for fractions that are not that, or a seed that is none.
        InvalidDatasetError: when there are fewer distinct queries than sides.
    """
    shares, whole = _checked(fractions), as_dataset(dataset)
    sides = _assign(
        _text_numbers(whole.queries), shares, seeded_generator(seed), "distinct queries"
    )
    everything = list(whole.corpus)
    return tuple(
        _side(whole, np.flatnonzero(sides == side), everything) for side in range(len(shares))
    )


def split_by_passage(
    dataset: Questions,
    fractions: Fractions = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
) -> tuple[EmbeddingQAFinetuneDataset, ...]:
    """Divide the passages with the queries that ask about them.

    This measures questions about passages that were never trained on: no query of one side asks
    about a passage of another. Queries that share a passage or a text stay together, and so do
    passages of the same text under different ids; a side misses its share by at most the size of
    such a group. Passages nobody asks about are divided too.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
        fractions: the share of the queries for each side; positive, with the sum 1.
        seed: the same seed and order of queries and passages give the same split.

    Returns:
        One dataset for each fraction, with its own part of the corpus, in the original order.

    Raises:
        InvalidOptionError: for fractions that are not that, or a seed that is none.
        InvalidDatasetError: when there are fewer groups of connected queries than sides.
    """
    shares, whole = _checked(fractions), as_dataset(dataset)
    rng = seeded_generator(seed)
    texts, passages = _text_numbers(whole.queries), _text_numbers(whole.corpus)
    groups = _connected(whole, texts, passages)
    query_groups, passage_groups = groups[: len(texts)], groups[len(texts) :]
    query_sides = _assign(
        query_groups, shares, rng, "groups of queries that share no passage or text"
    )
    side_of_group = dict(zip(query_groups.tolist(), query_sides.tolist(), strict=True))
    # Passages of the same text are one to the sides.
    _, first_rows = np.unique(passages, return_index=True)
    sides = np.array([side_of_group.get(group, -1) for group in passage_groups[first_rows]])
    unasked = rng.permutation(np.flatnonzero(sides < 0))
    cuts = np.rint(np.cumsum(shares[:-1]) * len(unasked)).astype(np.int64)
    for side, numbers in enumerate(np.split(unasked, cuts)):
        sides[numbers] = side

    ids, passage_sides = list(whole.corpus), sides[passages]
    return tuple(
        _side(
            whole,
            np.flatnonzero(query_sides == side),
            [ids[row] for row in np.flatnonzero(passage_sides == side)],
        )
        for side in range(len(shares))
    )


def _checked(fractions: Fractions) -> NDArray[np.float64]:
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


def _text_numbers(texts: Mapping[str, str]) -> _Rows:
    """Give every id a number that it shares with the ids of the same text."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(text, len(numbers)) for text in texts.values()], dtype=np.int64
    )


def _connected(dataset: EmbeddingQAFinetuneDataset, texts: _Rows, passages: _Rows) -> _Rows:
    """Return a number for each query, then for each passage, the same for what hangs together.

    Args:
        dataset: the question set.
        texts: a number for the text of each query.
        passages: a number for the text of each passage.
    """
    number_of = dict(zip(dataset.corpus, passages.tolist(), strict=True))
    n_texts = int(texts.max()) + 1
    edges = np.array(
        [
            (text, n_texts + number_of[passage])
            for text, query_id in zip(texts, dataset.queries, strict=True)
            for passage in dataset.relevant_docs[query_id]
        ],
        dtype=np.int64,
    )
    size = n_texts + int(passages.max()) + 1
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    components = connected_components(graph, directed=False)[1].astype(np.int64)
    return np.concatenate([components[texts], components[n_texts + passages]])


def _assign(
    groups: _Rows, shares: NDArray[np.float64], rng: np.random.Generator, noun: str
) -> _Rows:
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


def _whole_numbers(shares: NDArray[np.float64], total: int) -> _Rows:
    """Return whole numbers near ``shares * total`` with that sum, each at least 1."""
    wanted = np.maximum(np.floor(shares * total), 1).astype(np.int64)
    while wanted.sum() != total:
        step = 1 if wanted.sum() < total else -1
        distance = (shares * total - wanted) * step
        distance[(wanted + step) < 1] = -np.inf
        wanted[int(np.argmax(distance))] += step
    return wanted


def _side(
    dataset: EmbeddingQAFinetuneDataset, query_rows: _Rows, passages: list[str]
) -> EmbeddingQAFinetuneDataset:
    ids = list(dataset.queries)
    chosen = [ids[row] for row in query_rows]
    return EmbeddingQAFinetuneDataset(
        queries={query_id: dataset.queries[query_id] for query_id in chosen},
        corpus={passage: dataset.corpus[passage] for passage in passages},
        relevant_docs={query_id: dataset.relevant_docs[query_id] for query_id in chosen},
        mode=dataset.mode,
    )
