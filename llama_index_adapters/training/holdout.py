"""Hold out part of a question set in the way it will be used, and say how certain a gain is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from llama_index_adapters.retrieval.asked_passages import AskedPassages
from llama_index_adapters.retrieval.copies import merged
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

HoldoutUnit = Literal["query", "passage"]

# So many queries say what needs saying; fewer judge over a corpus that takes long to rank,
# bounded by the multiply-adds of one ranking.
MOST_JUDGED = 4000
_MOST_MULTIPLY_ADDS = 4e11
# A validation set of at least this size judges alone; a smaller one beside the training folds.
ENOUGH_JUDGED = 300
# The least share of later questions that is expected to be about unseen passages.
_LEAST_UNSEEN = 0.1


@dataclass(frozen=True)
class Fold:
    """One part to learn from, one to judge by.

    Attributes:
        train: the remaining queries, over the whole corpus.
        validation: the held-out queries, over the whole corpus.
        unseen: where passages are held out, the rows of those that only held-out queries ask
            about, and of their copies: training must not use them, not even as negatives.
    """

    train: VectorDataset
    validation: VectorDataset
    unseen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """``(n_held_out,)``: whether the part to learn from asks about a query's passages too."""
        return AskedPassages.of(self.train).seen_by(self.validation)


def holdout_unit(data: VectorDataset) -> HoldoutUnit:
    """Return what to hold out so that validation imitates use.

    Where passages are asked about by several queries, later queries will ask about known
    passages: hold out queries. Where every passage has one query, later queries will ask about
    passages nobody asked about before: hold out passages, unless most queries hang together
    through shared ones, so that no part of the passages could be held out. Passages with equal
    vectors are the same passage.
    """
    asked = np.unique(_merged(data).passages, return_counts=True)[1]
    largest = np.bincount(_groups(data, "passage")).max()
    apart = np.median(asked) == 1 and 2 * largest <= len(data.queries)
    return "passage" if apart else "query"


def asked_again(data: VectorDataset) -> NDArray[np.bool_]:
    """Return for each query ``(n_queries,)`` whether another one asks about a passage of its."""
    relevance = _merged(data)
    asked = np.bincount(relevance.passages, minlength=len(data.passages))
    again: NDArray[np.bool_] = np.logical_or.reduceat(
        asked[relevance.passages] > 1, relevance.offsets[:-1]
    )
    return again


def expected_unseen_share(data: VectorDataset, corpus_size: int) -> float:
    """Return what share of later queries is expected to be about passages nobody asked about.

    It is the mean of two: the share of queries whose passages no other query asks about, which
    estimates it where people go on asking as they did (Good, Biometrika 1953), and the share of
    the corpus that nobody asked about, which is it where they come to ask about everything. At
    least a tenth, since documents are added.

    Args:
        data: the training set.
        corpus_size: how many passages will be searched.
    """
    alone = 1 - float(asked_again(data).mean())
    asked = len(np.unique(_merged(data).passages))
    never_asked = 1 - min(1.0, asked / corpus_size)
    return max((alone + never_asked) / 2, _LEAST_UNSEEN)


def most_judged(data: VectorDataset) -> int:
    """Return how many queries are enough to judge an adapter by, over a corpus of that size."""
    affordable = int(_MOST_MULTIPLY_ADDS / data.passages.size)
    return min(MOST_JUDGED, max(ENOUGH_JUDGED, affordable))


def fold_numbers(
    data: VectorDataset, n_folds: int, *, unit: HoldoutUnit, seed: int
) -> NDArray[np.int64]:
    """Assign every query to a fold of about equal size.

    Queries that belong together stay together: those with equal vectors, because their texts
    are the same, and for ``"passage"`` also those that share a relevant passage, or have relevant
    passages with equal vectors.

    Returns:
        ``(n_queries,)`` numbers from 0 to ``n_folds - 1``.
    """
    groups = _groups(data, unit)
    names, members = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(members)[order]
    # Cut the shuffled groups where the running number of queries passes each fold's share.
    middle = np.cumsum(sizes) - sizes / 2
    fold_of_group = np.empty(len(names), np.int64)
    fold_of_group[order] = np.minimum(
        (middle * n_folds / len(members)).astype(np.int64), n_folds - 1
    )
    return fold_of_group[members]


def hold_out(data: VectorDataset, held: NDArray[np.bool_], *, unit: HoldoutUnit) -> Fold:
    """Split off the queries marked in ``held`` (``(n_queries,)``)."""
    copies = data.copies  # looked for once: the parts, made after it, have it too
    train = data.select_queries(np.flatnonzero(~held))
    validation = data.select_queries(np.flatnonzero(held))
    if unit == "query":
        return Fold(train, validation)
    unseen = np.setdiff1d(_merged(validation).passages, _merged(train).passages)
    return Fold(train, validation, np.flatnonzero(np.isin(copies, unseen)))


def why_none_held_out(data: VectorDataset, unit: HoldoutUnit) -> str:
    """Return why queries cannot be split, and what to do, in two sentences at most."""
    many = len(data.queries)
    advice = "Give more queries, or a validation set of their own."
    if many == 1:
        return advice
    if (data.queries == data.queries[0]).all():
        return (
            f"All {many} have the same vector: where their texts differ, look at the embedding "
            "model; where they do not, give more queries, or a validation set of their own."
        )
    if unit == "passage" and len(np.unique(_groups(data, unit))) == 1:
        return f"They all share passages, directly or through others. {advice}"
    return advice


def _merged(data: VectorDataset) -> Relevance:
    return merged(data.relevance, data.copies)


def _groups(data: VectorDataset, unit: HoldoutUnit) -> NDArray[np.int64]:
    """Return a number for each query ``(n_queries,)``, the same for those that stay together."""
    _, same_text = np.unique(data.queries, axis=0, return_inverse=True)
    n_queries = len(data.queries)
    nodes = [np.stack([np.arange(n_queries), n_queries + same_text.reshape(-1)])]
    if unit == "passage":
        relevance = _merged(data)
        nodes.append(np.stack([relevance.queries, 2 * n_queries + relevance.passages]))
    rows, columns = np.concatenate(nodes, axis=1)
    size = 2 * n_queries + len(data.passages)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1][:n_queries]
    return groups


def lower_end(gains: NDArray[np.float64], certainty: float) -> float:
    """Return the lower end of the one-sided interval of a mean, by the t distribution.

    Args:
        gains: ``(n_queries,)`` paired differences.
        certainty: how often the mean of all queries lies above it, for example 0.995.

    Returns:
        The lower end; -1 for a single query, which says nothing of how queries differ.
    """
    if len(gains) < 2:
        return -1.0
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean() - stats.t.ppf(certainty, len(gains) - 1) * error)
