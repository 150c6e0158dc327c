"""Judge candidates on held-out queries, and say which of them to take."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.training.holdout import Fold
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.result import (
    SELECTION_METRIC,
    PerQueryMetrics,
    Trial,
    pooled,
)
from llama_index_adapters.training.search.candidates import Candidate
from llama_index_adapters.training.search.criterion import Criterion
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.validation import ValidationShare

# A gain counts when it is this certain, one-sided, by the t distribution of the paired
# differences: strict, because the best of many trials is looked at.
CERTAINTY = 0.995
# Of two trials within this many standard errors of their difference, the simpler one wins.
SIMPLER_WITHIN = 0.5


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate after its trial.

    Attributes:
        candidate: what was tried.
        epoch: the epoch of its training that was best, None when nothing was trained.
        metrics: how every held-out query of all folds fared.
        criterion: how they count.
    """

    candidate: Candidate
    epoch: int | None
    metrics: PerQueryMetrics
    criterion: Criterion

    @property
    def ndcg(self) -> NDArray[np.float64]:
        """``(n_queries,)`` nDCG@10."""
        return self.metrics[SELECTION_METRIC]

    @property
    def mean(self) -> float:
        """Mean nDCG@10, both kinds of questions weighted."""
        return self.criterion.mean(self.ndcg)

    def gain_over(self, base: JudgedCandidate) -> tuple[float, float]:
        """Return the mean gain in nDCG@10, both kinds weighted, and the lower end of it."""
        gains = self.ndcg - base.ndcg
        return self.criterion.mean(gains), self.criterion.lower_end(gains, CERTAINTY)

    def loses_to(self, base: JudgedCandidate) -> bool:
        """Return whether it is certainly worse on one kind of questions."""
        return self.criterion.loses_on_a_kind(self.ndcg - base.ndcg, CERTAINTY)

    def as_trial(self, base: JudgedCandidate | None, *, chosen: bool) -> Trial:
        """Return what a result says of it."""
        if base is None:
            return Trial(self.candidate.name, self.mean, None, None, self.epoch, chosen)
        gains = self.ndcg - base.ndcg
        return Trial(
            self.candidate.name,
            self.mean,
            *self.gain_over(base),
            self.epoch,
            chosen,
            seen_gain=self.criterion.gain_of(gains, seen=True),
            unseen_gain=self.criterion.gain_of(gains, seen=False),
        )


def judge_candidate(
    candidate: Candidate, folds: Sequence[Fold], criterion: Criterion, session: TrainingSession
) -> JudgedCandidate:
    """Try a candidate on every fold and pool what its held-out queries say."""
    runs = [_judged_epochs(candidate, fold, session) for fold in folds]
    epochs = [pooled(parts) for parts in zip(*runs, strict=True)]
    epoch = int(np.argmax([criterion.mean(metrics[SELECTION_METRIC]) for metrics in epochs]))
    trained = candidate.options is not None
    return JudgedCandidate(candidate, epoch if trained else None, epochs[epoch], criterion)


def _judged_epochs(
    candidate: Candidate, fold: Fold, session: TrainingSession
) -> Sequence[PerQueryMetrics]:
    """Return the metrics of one fold after every epoch; a closed form has one."""
    adapter = candidate.build(fold.train, fold.validation.passages, 0)
    if candidate.options is None:
        # Judged together too, so that no worker can come to another choice.
        judges = ValidationShare(fold.validation, session.workers)
        return (judges.judge(adapt(transform_of(adapter), judges.queries)),)
    on_the_way = None
    if candidate.way < 1:
        on_the_way = _JudgedOnTheWay(candidate, adapter, fold, session)
    run = train_adapter(
        adapter,
        fold.train,
        fold.validation,
        candidate.options,
        unseen=fold.unseen,
        session=session.trial(),
        after_epoch=on_the_way,
    )
    return run.judged if on_the_way is None else on_the_way.judged


class _JudgedOnTheWay:
    """Judges, after every epoch, the weights on the way from the start to what was trained."""

    def __init__(
        self, candidate: Candidate, adapter: BaseAdapter, fold: Fold, session: TrainingSession
    ) -> None:
        self._candidate, self._start = candidate, adapter.arrays()
        self._adapter = copy.deepcopy(adapter)
        self._judges = ValidationShare(fold.validation, session.workers)
        self.judged: list[PerQueryMetrics] = []

    def __call__(self, trained: BaseAdapter) -> None:
        self._adapter.load_arrays(self._candidate.on_the_way(self._start, trained.arrays()))
        adapted = adapt(transform_of(self._adapter), self._judges.queries)
        self.judged.append(self._judges.judge(adapted))


def best_of(judged: Sequence[JudgedCandidate]) -> JudgedCandidate:
    """Return the candidate with the highest mean nDCG@10, of equals the first."""
    return max(judged, key=lambda trial: trial.mean)


def best_of_starts(judged: Sequence[JudgedCandidate]) -> JudgedCandidate:
    """Return the best start for training, of equals the first.

    What is seen is learned from any start, what is not stays about as the start has it: of those
    within a standard error of the best one on unseen passages, it is the best of all.
    """
    unseen = judged[0].criterion.of_unseen()
    best = max(judged, key=lambda trial: unseen.mean(trial.ndcg))
    behind = [best.ndcg - trial.ndcg for trial in judged]
    return best_of(
        [
            trial
            for trial, loss in zip(judged, behind, strict=True)
            if unseen.mean(loss) <= unseen.error(loss)
        ]
    )


def simplest_of_the_best(judged: Sequence[JudgedCandidate]) -> JudgedCandidate:
    """Return the simplest of those that are about as good as the best, of equals the first."""
    best = best_of(judged)
    about_as_good = []
    for trial in judged:
        behind = best.ndcg - trial.ndcg
        within = SIMPLER_WITHIN * best.criterion.error(behind)
        if best.criterion.mean(behind) <= within:
            about_as_good.append(trial)
    return min(about_as_good, key=lambda trial: trial.candidate.complexity)
