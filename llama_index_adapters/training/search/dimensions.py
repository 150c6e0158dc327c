"""Choose maps of both sides to fewer dimensions: what beats truncated PCA with certainty."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.training.both_sides import BothMaps, trained_maps
from llama_index_adapters.training.closed_form import truncated_pca
from llama_index_adapters.training.frames import linear
from llama_index_adapters.training.holdout import Fold, expected_unseen_share
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import (
    SELECTION_METRIC,
    FewerDimensions,
    PerQueryMetrics,
    TrainingResult,
    pooled,
)
from llama_index_adapters.training.search import plan
from llama_index_adapters.training.search.candidates import Candidate, Complexity, Method
from llama_index_adapters.training.search.criterion import Criterion
from llama_index_adapters.training.search.judging import (
    CERTAINTY,
    JudgedCandidate,
    simplest_of_the_best,
)
from llama_index_adapters.training.session import UNWATCHED, TrainingSession
from llama_index_adapters.training.threads import training_threads
from llama_index_adapters.training.validation import judge, require_same_space

logger = logging.getLogger(__name__)

# How far directions are whitened, half on either side; training begins at the first.
_POWERS = (0.25, 0.5)
# Whether one map serves both sides, and the rate at which maps are trained.
_TRAININGS = ((True, 0.02), (False, 0.006), (False, 0.02))
_WAYS = (0.5, 0.75, 1.0)


def reduce_dimensions(
    train: VectorDataset,
    validation: VectorDataset | None,
    target_dim: int,
    options: TrainingOptions,
    *,
    target_corpus: FloatArray | None = None,
    session: TrainingSession = UNWATCHED,
) -> TrainingResult:
    """Learn maps of queries and of passages to ``target_dim`` dimensions.

    Truncated PCA of the passages is the start, and the result where nothing gains on it with
    certainty on held-out questions. Held-out questions come as in
    :func:`llama_index_adapters.training.search.stages.search_adapter`, and count likewise.

    Args:
        train: what to learn from.
        validation: what to judge by; may be None.
        target_dim: how many dimensions to keep, at most as many as there are.
        options: device, seed, batch size and the most epochs.
        target_corpus: ``(n, passage_dim)`` vectors of the corpus that will be searched, when it is
            another.
        session: who watches.

    Raises:
        InvalidVectorsError: for query vectors of another model, more dimensions than there are, or
            too few queries to hold any out.
        TrainingError: when the loss is no longer a number.
    """
    if validation is not None:
        require_same_space(train, validation)
    dim = train.passages.shape[1]
    if train.base_queries is None or len(train.blocks) > 1:
        raise InvalidVectorsError(
            "Queries come from other models than the passages, and target_dim maps both sides of "
            "one model. Leave query_embed_models out."
        )
    if target_dim > dim:
        raise InvalidVectorsError(
            f"target_dim is {target_dim}, but the vectors have {dim} dimensions. Give at most that."
        )
    return _Search(train, validation, target_dim, options, target_corpus, session).run()


@dataclass(frozen=True)
class _Training:
    """One way to train both maps.

    Attributes:
        one_map: whether one map serves both sides.
        rate: see :func:`llama_index_adapters.training.both_sides.trained_maps`.
        options: batches and epochs.
    """

    one_map: bool
    rate: float
    options: TrainingOptions

    def maps(self, fold: Fold, start: BothMaps) -> Iterator[BothMaps]:
        """Train, and yield the maps after each epoch."""
        return trained_maps(fold, start, self.options, rate=self.rate, one_map=self.one_map)

    def candidate(self, way: float, start: Callable[[FloatArray], BothMaps]) -> Candidate:
        """Return what is tried when the maps go so far on the way from their start."""
        maps = "one map for both sides" if self.one_map else "a map for each side"
        name = f"{maps}, rate {self.rate:g}"
        return Candidate(
            name if way == 1 else f"{name}, {way:.0%} of the way",
            Complexity(Method.LINEAR, (1 if self.one_map else 2) * way),
            lambda data, corpus, seed: linear(start(corpus).queries),
            self.options,
            way,
        )


class _Search:
    """The trials of one choice, see :func:`reduce_dimensions`."""

    def __init__(
        self,
        train: VectorDataset,
        validation: VectorDataset | None,
        target_dim: int,
        options: TrainingOptions,
        target_corpus: FloatArray | None,
        session: TrainingSession,
    ) -> None:
        self._train, self._dim, self._session = train, target_dim, session
        self._target = train.passages if target_corpus is None else target_corpus
        other = not plan.holds_most_of(train.passages, self._target)
        share = options.unseen_share
        if share is None:
            share = 1.0 if other else expected_unseen_share(train, len(self._target))
        unit = "passage" if other else plan.unit_of_folds(train)
        self._folds = plan.folds_of(
            train, validation, unit=unit, seed=options.seed, unseen_share=share
        )
        self._criterion = Criterion(np.concatenate([fold.seen for fold in self._folds]), share)
        trials = replace(plan.options_of_trials(options, train, self._folds[-1]), mined=0)
        self._trainings = [_Training(one_map, rate, trials) for one_map, rate in _TRAININGS]
        self._maps: dict[int, tuple[_Training | None, float]] = {}
        self._judged: list[JudgedCandidate] = []

    def run(self) -> TrainingResult:
        """Judge truncated PCA, then what may beat it, and train the choice on everything."""
        n_judged = max(len(fold.validation.queries) for fold in self._folds)
        trials = 1 + len(_POWERS) + len(self._trainings) * len(self._folds)
        options = self._trainings[0].options
        show = self._session.show_progress
        with (
            training_threads(self._train, n_judged=n_judged, options=options),
            progress_bar(
                desc="Fewer dimensions", total=trials, unit="trial", disable=not show
            ) as bar,
        ):
            for power in (0.0, *_POWERS):
                self._try_without_labels(power)
                bar.update()
            for training in self._trainings:
                self._try_trained(training, bar)
            pca = self._judged[0]
            chosen = simplest_of_the_best([one for one in self._judged if not one.loses_to(pca)])
            kept = chosen if chosen.gain_over(pca)[1] > 0 else pca
            maps = self._made(kept)
            full = pooled([judge(fold.validation.queries, fold.validation) for fold in self._folds])
        reduced = self._reduced(pca, kept)
        logger.info("%s", reduced)
        return TrainingResult(
            linear(maps.queries),
            full,
            kept.metrics,
            trials=tuple(one.as_trial(pca, chosen=one is kept) for one in self._judged),
            seen=self._criterion.seen,
            kinds=self._criterion.kinds,
            passages=linear(maps.passages),
            reduced=reduced,
        )

    def _start(self, power: float, corpus: FloatArray) -> BothMaps:
        similarity = self._train.similarity
        weight = truncated_pca(corpus, self._dim, power=power, similarity=similarity)
        return BothMaps(weight, weight)

    def _try_without_labels(self, power: float) -> None:
        name = "truncated PCA" if not power else f"truncated PCA, whitened (power {power:g})"
        method = Method.IDENTITY if not power else Method.WHITENING
        candidate = Candidate(
            name,
            Complexity(method, power),
            lambda data, corpus, seed: linear(self._start(power, corpus).queries),
        )
        metrics = [
            self._start(power, self._corpus(fold)).judged(fold.validation) for fold in self._folds
        ]
        self._maps[len(self._judged)] = None, power
        self._judged.append(JudgedCandidate(candidate, None, pooled(metrics), self._criterion))

    def _try_trained(self, training: _Training, bar: Any) -> None:
        """Train on every fold once, and judge each epoch at each part of the way."""
        runs = []
        for fold in self._folds:
            bar.set_postfix_str(training.candidate(1, self._first_start).name)
            runs.append(list(self._judged_epochs(training, fold)))
            bar.update()
        for number, way in enumerate(_WAYS):
            epochs = [pooled([ways[number] for ways in parts]) for parts in zip(*runs, strict=True)]
            means = [self._criterion.mean(metrics[SELECTION_METRIC]) for metrics in epochs]
            best = int(np.argmax(means))
            candidate = training.candidate(way, self._first_start)
            self._maps[len(self._judged)] = training, way
            self._judged.append(JudgedCandidate(candidate, best + 1, epochs[best], self._criterion))

    def _judged_epochs(self, training: _Training, fold: Fold) -> Iterator[list[PerQueryMetrics]]:
        start = self._first_start(self._corpus(fold))
        for maps in training.maps(fold, start):
            yield [maps.on_the_way(start, way).judged(fold.validation) for way in _WAYS]

    def _first_start(self, corpus: FloatArray) -> BothMaps:
        return self._start(_POWERS[0], corpus)

    @staticmethod
    def _corpus(fold: Fold) -> FloatArray:
        return fold.validation.passages

    def _made(self, kept: JudgedCandidate) -> BothMaps:
        """Make what was chosen from the whole training set, for the corpus it will search."""
        training, number = self._maps[self._judged.index(kept)]
        if training is None:
            return self._start(number, self._target)
        start = self._first_start(self._target)
        everything = Fold(self._train, self._train)
        options = replace(training.options, epochs=kept.epoch or 1)
        for maps in replace(training, options=options).maps(everything, start):
            made = maps
        return made.on_the_way(start, number)

    def _reduced(self, pca: JudgedCandidate, kept: JudgedCandidate) -> FewerDimensions:
        best = kept
        if kept is pca:
            best = max(self._judged[1:], key=lambda one: one.mean)
        gain, low = best.gain_over(pca)
        return FewerDimensions(
            dim=self._dim,
            of_dim=self._train.passages.shape[1],
            name=best.candidate.name,
            queries=len(best.ndcg),
            gain=gain,
            low=low,
            high=2 * gain - low,
            certainty=CERTAINTY,
            kept=best is kept,
            truncated_pca=pca.metrics,
        )
