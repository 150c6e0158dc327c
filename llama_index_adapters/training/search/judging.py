"""Judge candidates on held-out queries, and say which of them to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.training.holdout import Fold, lower_end
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.result import SELECTION_METRIC, PerQueryMetrics, Trial
from llama_index_adapters.training.search.candidates import Candidate
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
    """

    candidate: Candidate
    epoch: int | None
    metrics: PerQueryMetrics

    @property
    def ndcg(self) -> NDArray[np.float64]:
        """``(n_queries,)`` nDCG@10."""
        return self.metrics[SELECTION_METRIC]

    @property
    def mean(self) -> float:
        """Mean nDCG@10."""
        return float(self.ndcg.mean())

    def gain_over(self, base: JudgedCandidate) -> tuple[float, float]:
        """Return the mean gain in nDCG@10 and the lower end of it."""
        gains = self.ndcg - base.ndcg
        return float(gains.mean()), lower_end(gains, CERTAINTY)

    def as_trial(self, base: JudgedCandidate | None, *, chosen: bool) -> Trial:
        """Return what a result says of it."""
        gain, low = (None, None) if base is None else self.gain_over(base)
        return Trial(self.candidate.name, self.mean, gain, low, self.epoch, chosen)


def judge_candidate(
    candidate: Candidate, folds: Sequence[Fold], session: TrainingSession
) -> JudgedCandidate:
    """Try a candidate on every fold and pool what its held-out queries say."""
    runs = [_judged_epochs(candidate, fold, session) for fold in folds]
    pooled = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*runs, strict=True)
    ]
    epoch = int(np.argmax([metrics[SELECTION_METRIC].mean() for metrics in pooled]))
    return JudgedCandidate(candidate, None if candidate.options is None else epoch, pooled[epoch])


def _judged_epochs(
    candidate: Candidate, fold: Fold, session: TrainingSession
) -> tuple[PerQueryMetrics, ...]:
    """Return the metrics of one fold after every epoch; a closed form has one."""
    adapter = candidate.build(fold.train, fold.validation.passages, 0)
    if candidate.options is None:
        # Judged together too, so that no worker can come to another choice.
        judges = ValidationShare(fold.validation, session.workers)
        return (judges.judge(adapt(transform_of(adapter), judges.queries)),)
    run = train_adapter(
        adapter,
        fold.train,
        fold.validation,
        candidate.options,
        unseen=fold.unseen,
        session=session.trial(),
    )
    return run.judged


def best_of(judged: Sequence[JudgedCandidate]) -> JudgedCandidate:
    """Return the candidate with the highest mean nDCG@10, of equals the first."""
    return max(judged, key=lambda trial: trial.mean)


def simplest_of_the_best(judged: Sequence[JudgedCandidate]) -> JudgedCandidate:
    """Return the simplest of those that are about as good as the best, of equals the first."""
    best = best_of(judged)
    about_as_good = []
    for trial in judged:
        behind = best.ndcg - trial.ndcg
        if behind.mean() <= SIMPLER_WITHIN * behind.std() / np.sqrt(len(behind)):
            about_as_good.append(trial)
    return min(about_as_good, key=lambda trial: trial.candidate.complexity)
