"""What training gives: the adapter, what judged it, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.base import BaseAdapter

SELECTION_METRIC = "ndcg@10"

PerQueryMetrics = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history.

    Attributes:
        epoch: passes over the queries so far; 0 is the adapter before training.
        loss: mean training loss during the epoch, None before training.
        validation: mean validation nDCG@10 after it, None without a validation set.
    """

    epoch: int
    loss: float | None
    validation: float | None


@dataclass(frozen=True)
class Trial:
    """One candidate of a search and what the held-out queries said about it.

    Attributes:
        name: what was tried.
        ndcg: mean nDCG@10 over all judged queries.
        gain: mean difference to the base model.
        gain_low: the lower end of that gain at the certainty a choice needs.
        epoch: the epoch of training that was best, None for a closed form.
        chosen: whether this candidate became the adapter.
    """

    name: str
    ndcg: float
    gain: float | None
    gain_low: float | None
    epoch: int | None
    chosen: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """An adapter and what it was judged by, whichever way it was trained.

    Attributes:
        adapter: the result; the identity when training gained nothing.
        base: per-query validation metrics of the base model; None when its query vectors
            have another dimension than the passages.
        adapted: the same for the adapted queries, always by a model that had not seen them in
            training.
        history: one record per epoch; empty after a search.
        trials: what a search tried, in its order; empty after one training.
        seen: ``(n_queries,)`` whether each of those validation queries is about a passage that
            the model which judged it had been trained on.
    """

    adapter: BaseAdapter
    base: PerQueryMetrics | None = field(repr=False)
    adapted: PerQueryMetrics = field(repr=False)
    history: tuple[EpochRecord, ...] = ()
    trials: tuple[Trial, ...] = ()
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)
