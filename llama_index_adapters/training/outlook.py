"""How much could be gained, before training; and what was, with the questions it was judged on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import metrics_at_k
from llama_index_adapters.training.closed_form import regression
from llama_index_adapters.training.holdout import Fold
from llama_index_adapters.training.result import SELECTION_METRIC, BestTrial, Outlook

# A gain that is worth having: how many questions would show it?
WORTHWHILE_GAIN = 0.02
_NEAR = 100
_MOST_QUESTIONS = 10**7
_NO_SPREAD = 1e-9


def outlook_of(folds: Sequence[Fold], certainty: float) -> Outlook | None:
    """Return how far the base model is from its ceiling, by the questions that are held out.

    The spread of gains is not known before there are any. That of a regression on the labels,
    which takes no gradient step, stands for it.

    Args:
        folds: what trials learn from and are judged by.
        certainty: how certain a gain has to be, one-sided.

    Returns:
        The outlook; None when queries cannot be compared with passages before they are adapted.
    """
    data = folds[0].validation
    if data.queries.shape[1] != data.passages.shape[1]:
        return None
    near, found, differences = [], [], []
    for fold in folds:
        judged = fold.validation
        top = judged.top_k(judged.queries, _NEAR)
        near.append(metrics_at_k(top, judged.relevance, _NEAR)[f"hit_rate@{_NEAR}"])
        base = metrics_at_k(top, judged.relevance, 10)
        found.append(base["hit_rate@10"])
        weight = regression(fold.train, pull=1.0)
        adapted = adapt(partial(_mapped, weight), judged.queries, unit_input=True)
        after = metrics_at_k(judged.top_k(adapted, 10), judged.relevance, 10)
        differences.append(after[SELECTION_METRIC] - base[SELECTION_METRIC])
    gains = np.concatenate(differences)
    spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    in_first_10, in_first_100 = (np.concatenate(hits).mean() for hits in (found, near))
    return Outlook(
        queries=sum(map(len, found)),
        found=float(in_first_10),
        within_reach=float(in_first_100 - in_first_10),
        worthwhile_gain=WORTHWHILE_GAIN,
        queries_needed=queries_needed(spread, WORTHWHILE_GAIN, certainty),
        certainty=certainty,
    )


def _mapped(weight: NDArray[np.float32], queries: FloatArray) -> FloatArray:
    mapped: FloatArray = queries @ weight.T
    return mapped


def best_trial(
    name: str, gain: float, low: float, n_queries: int, certainty: float, *, kept: bool
) -> BestTrial:
    """Return what held-out questions said of the best that was tried.

    Args:
        name: what was tried.
        gain: its mean gain over the base model.
        low: the lower end of that gain.
        n_queries: how many questions it was judged on.
        certainty: how certain a gain has to be, one-sided.
        kept: whether it became the adapter.
    """
    spread = 0.0
    if n_queries > 1:
        spread = (gain - low) / float(stats.t.ppf(certainty, n_queries - 1)) * np.sqrt(n_queries)
    return BestTrial(
        name=name,
        queries=n_queries,
        gain=gain,
        low=low,
        high=min(2 * gain - low, 1.0),
        certainty=certainty,
        queries_needed=queries_needed(spread, gain, certainty),
        kept=kept,
    )


def queries_needed(spread: float, gain: float, certainty: float) -> int | None:
    """Return how many queries make a mean gain certain, with such a spread of gains.

    It is the smallest ``n`` with ``gain > t(certainty, n - 1) · s / sqrt(n)``, where ``s`` is the
    spread: the paired t test. When the gain of all queries
    is that large, about half of all samples of ``n`` queries show it.

    Args:
        spread: the standard deviation of the paired differences.
        gain: the mean gain that is to be certain.
        certainty: how certain, one-sided.

    Returns:
        The number; None when no number of queries would do, or more than ten million.
    """
    if gain <= 0 or spread < _NO_SPREAD:  # gains without a spread say nothing about others
        return None

    def enough(count: int) -> bool:
        return bool(gain > stats.t.ppf(certainty, count - 1) * spread / np.sqrt(count))

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_QUESTIONS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
