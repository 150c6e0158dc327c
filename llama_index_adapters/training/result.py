"""What training gives: the adapter, what judged it, and how it came to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.retrieval.arrays import FloatArray

SELECTION_METRIC = "ndcg@10"

PerQueryMetrics = dict[str, NDArray[np.float64]]


def pooled(parts: Sequence[PerQueryMetrics]) -> PerQueryMetrics:
    """Return the metrics of the queries of all parts, such as folds, one part after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
        ndcg: mean nDCG@10 over the judged queries, with both kinds of questions weighted.
        gain: mean difference to the base model, weighted likewise.
        gain_low: the lower end of that gain at the certainty a choice needs.
        epoch: the epoch of training that was best, None for a closed form.
        chosen: whether this candidate became the adapter.
        seen_gain: mean difference on questions about passages that training asked about; None
            without such questions or a base.
        unseen_gain: the same for the other questions.
    """

    name: str
    ndcg: float
    gain: float | None
    gain_low: float | None
    epoch: int | None
    chosen: bool = False
    seen_gain: float | None = None
    unseen_gain: float | None = None


@dataclass(frozen=True)
class Outlook:
    """How much could be gained, as the held-out queries say before training.

    Attributes:
        queries: how many of them there are.
        found: the share of them with a relevant passage among the base model's first 10.
        within_reach: the share with one among the first 100, but none among the first 10.
        worthwhile_gain: a gain in nDCG@10.
        queries_needed: how many queries make a gain of that size certain, by the paired t test
            with the spread of gains that a regression on the labels has; None for no number.
        certainty: how certain a gain has to be, one-sided.
    """

    queries: int
    found: float
    within_reach: float
    worthwhile_gain: float
    queries_needed: int | None
    certainty: float

    def __str__(self) -> str:
        """Return it in two sentences."""
        text = (
            f"Before training, {self.found:.0%} of {self.queries:,} held-out questions have a "
            f"passage among the first 10, and {self.within_reach:.0%} more among the first 100."
        )
        if self.queries_needed is None:
            return text
        return (
            f"{text} A gain of {self.worthwhile_gain:g} nDCG@10 takes about "
            f"{self.queries_needed:,} held-out questions to be certain ({self.certainty:.1%})."
        )


@dataclass(frozen=True)
class JudgedKinds:
    """The questions that a search judged by.

    Attributes:
        seen: how many are about passages that the part which was learned from asks about.
        unseen: how many are not.
        unseen_share: how much the latter weigh in the choice, from 0 to 1.
        enough: a kind with fewer questions is not judged by itself.
    """

    seen: int
    unseen: int
    unseen_share: float
    enough: int

    @property
    def both_judged(self) -> bool:
        """Whether there are enough questions of both kinds to weigh them."""
        return min(self.seen, self.unseen) >= self.enough

    def __str__(self) -> str:
        """Return it in a sentence."""
        if self.both_judged:
            return (
                f"Chosen by {self.seen:,} held-out questions about passages that training asked "
                f"about, which weigh {1 - self.unseen_share:.0%}, and {self.unseen:,} about "
                f"others, which weigh {self.unseen_share:.0%} (unseen_share)."
            )
        lacking = "passages that training asked about"
        if self.unseen < self.seen:
            lacking = "passages that training did not ask about"
        return (
            f"Questions about {lacking} could not be held out ({min(self.seen, self.unseen)} of "
            f"{self.seen + self.unseen:,}): the gain on them is not judged."
        )


@dataclass(frozen=True)
class BestTrial:
    """The best that was tried, and how certain its gain is.

    Attributes:
        name: what was tried.
        queries: the held-out queries that it was judged on.
        gain: its mean gain in nDCG@10 over the base model.
        low: the lower end of that gain, one-sided at ``certainty``.
        high: the upper end, likewise.
        certainty: how certain a gain has to be.
        queries_needed: how many queries make a gain of that size certain; None for no number.
        kept: whether it became the adapter.
    """

    name: str
    queries: int
    gain: float
    low: float
    high: float
    certainty: float
    queries_needed: int | None
    kept: bool

    @property
    def queries_missing(self) -> int | None:
        """How many more queries that would be; None for no number."""
        needed = self.queries_needed
        return None if needed is None else max(0, needed - self.queries)

    def __str__(self) -> str:
        """Return it in one or two sentences."""
        text = (
            f"The best trial, {self.name}, gains {self.gain:+.4f} nDCG@10 on {self.queries:,} "
            f"held-out questions ({self.low:+.4f} to {self.high:+.4f} at {self.certainty:.1%})."
        )
        if self.kept:
            return text
        if self.queries_missing is None:
            return f"{text} That is no gain, so the result is the identity."
        if self.queries_missing == 0:
            return f"{text} The result is the identity."
        return (
            f"{text} That is not certain, so the result is the identity: a gain of that size "
            f"takes about {self.queries_needed:,} held-out questions, "
            f"{self.queries_missing:,} more."
        )


@dataclass(frozen=True)
class FewerDimensions:
    """What maps to fewer dimensions gain over truncated PCA, the usual way to so few.

    Attributes:
        dim: of the mapped vectors.
        of_dim: of the base model's.
        name: the best that was tried beside truncated PCA.
        queries: the held-out queries that it was judged on.
        gain: its mean gain in nDCG@10 over truncated PCA, both kinds of questions weighted.
        low: the lower end of that gain, one-sided at ``certainty``.
        high: the upper end, likewise.
        certainty: how certain a gain has to be.
        kept: whether it became the adapter; else both sides keep truncated PCA.
        truncated_pca: per-query metrics of truncated PCA.
    """

    dim: int
    of_dim: int
    name: str
    queries: int
    gain: float
    low: float
    high: float
    certainty: float
    kept: bool
    truncated_pca: PerQueryMetrics = field(repr=False)

    def __str__(self) -> str:
        """Return it in one or two sentences."""
        text = (
            f"Of {self.of_dim} dimensions to {self.dim}: {self.name}, gains {self.gain:+.4f} "
            f"nDCG@10 over truncated PCA on {self.queries:,} held-out questions "
            f"({self.low:+.4f} to {self.high:+.4f} at {self.certainty:.1%})."
        )
        return text if self.kept else f"{text} That is not certain, so truncated PCA is kept."


@dataclass(frozen=True)
class TrainingResult:
    """An adapter and what it was judged by, whichever way it was trained.

    Attributes:
        adapter: the result; the identity when training gained nothing.
        base: per-query validation metrics of the base model, or of ``without_labels``; None
            where there is neither.
        adapted: the same for the adapted queries, always by a model that had not seen them in
            training.
        history: one record per epoch; empty after a search.
        trials: what a search tried, in its order; empty after one training.
        without_labels: ``(passage_dim, query_dim)`` the map without labels that stands for the base
            where the passages' own model is not asked; None where it is.
        seen: ``(n_queries,)`` whether each of those validation queries is about a passage that
            the model which judged it had been trained on.
        outlook: how much could be gained, before training; None without a base.
        best: the best that was tried, kept or not; None without a base.
        kinds: the kinds of questions that a search judged by; None after one training.
        passages: the map of passages of a training to fewer dimensions; None where they stay as
            they are.
        reduced: what such a training gained over truncated PCA; ``base`` is the base model at all
            dimensions.
    """

    adapter: BaseAdapter
    base: PerQueryMetrics | None = field(repr=False)
    adapted: PerQueryMetrics = field(repr=False)
    history: tuple[EpochRecord, ...] = ()
    trials: tuple[Trial, ...] = ()
    without_labels: FloatArray | None = field(default=None, repr=False)
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)
    outlook: Outlook | None = None
    best: BestTrial | None = None
    kinds: JudgedKinds | None = None
    passages: BaseAdapter | None = None
    reduced: FewerDimensions | None = None
