"""Choose the adapter: stages of trials, judged on held-out queries, and a final training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from llama_index_adapters.adapters.families import kind_of
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.training.frames import first_frame, further_frames
from llama_index_adapters.training.holdout import expected_unseen_share
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.outlook import best_trial, outlook_of
from llama_index_adapters.training.result import BestTrial, TrainingResult
from llama_index_adapters.training.search import plan
from llama_index_adapters.training.search.candidates import (
    Candidate,
    linear_from,
    memory,
    part_of_the_way,
    regressions,
    small_families,
    unchanged,
    untrained_linear,
    whitening_of_both,
    whitenings,
)
from llama_index_adapters.training.search.criterion import Criterion
from llama_index_adapters.training.search.judging import (
    CERTAINTY,
    JudgedCandidate,
    best_of,
    best_of_starts,
    judge_candidate,
    simplest_of_the_best,
)
from llama_index_adapters.training.session import UNWATCHED, TrainingSession
from llama_index_adapters.training.threads import training_threads
from llama_index_adapters.training.validation import require_same_space

logger = logging.getLogger(__name__)


def search_adapter(
    train: VectorDataset,
    validation: VectorDataset | None,
    options: TrainingOptions,
    *,
    target_corpus: FloatArray | None = None,
    query_log: FloatArray | None = None,
    session: TrainingSession = UNWATCHED,
) -> TrainingResult:
    """Try what may help, choose by held-out queries, train the choice on everything.

    The plan of trials follows from the sizes of the data alone, so the same data and seed give
    the same adapter on any machine that trains with as many threads. Held-out queries come from
    cross-validation on the training set, from the validation set when it is large, from both when
    it is small. The stages are the methods of :class:`AdapterSearch`, in their order.

    Args:
        train: what to learn from.
        validation: what to judge by; may be None.
        options: device, seed, batch size and the most epochs; the plan sets the rest.
        target_corpus: ``(n, passage_dim)`` vectors of the corpus that will be searched, when it
            is not that of ``train``. No labels. When it does not hold the training passages,
            trials are judged on passages that training did not see.
        query_log: ``(n, query_dim)`` vectors of queries without labels, of the kind that will be
            asked. They say how queries are distributed.
        session: who trains together and who watches.

    Raises:
        InvalidVectorsError: when there are too few queries to hold any out, or vectors of several
            models.
        TrainingError: when the loss is no longer a number.
    """
    if validation is not None:
        require_same_space(train, validation)
    if query_log is not None and query_log.shape[1] != train.queries.shape[1]:
        raise InvalidVectorsError(
            f"query_log has vectors of {query_log.shape[1]} dimensions, the training queries "
            f"{train.queries.shape[1]}. Embed both with the same model."
        )
    search = AdapterSearch(
        train,
        validation,
        options,
        target_corpus=target_corpus,
        query_log=query_log,
        session=session,
    )
    return search.run()


class AdapterSearch:
    """The trials of one search.

    Args:
        train: what to learn from.
        validation: what to judge by; may be None.
        options: device, seed, batch size and the most epochs.
        target_corpus: the corpus that will be searched, when it is another.
        query_log: queries without labels.
        session: who trains together and who watches.

    Raises:
        InvalidVectorsError: when there are too few queries to hold any out.
    """

    def __init__(
        self,
        train: VectorDataset,
        validation: VectorDataset | None,
        options: TrainingOptions,
        *,
        target_corpus: FloatArray | None,
        query_log: FloatArray | None,
        session: TrainingSession,
    ) -> None:
        self._train, self._query_log, self._session = train, query_log, session
        self._target = train.passages if target_corpus is None else target_corpus
        self._target_is_other_corpus = not plan.holds_most_of(train.passages, self._target)
        unit = "passage" if self._target_is_other_corpus else plan.unit_of_folds(train)
        share = options.unseen_share
        if share is None:
            other = self._target_is_other_corpus
            share = 1.0 if other else expected_unseen_share(train, len(self._target))
        self._folds = plan.folds_of(
            train, validation, unit=unit, seed=options.seed, unseen_share=share
        )
        self._remembers = unit == "query"
        seen = np.concatenate([fold.seen for fold in self._folds])
        self._criterion = Criterion(seen, share)
        self._few_trials = plan.affords_few_trials(train)
        self._options = plan.options_of_trials(options, train, self._folds[-1])
        self._dims = train.queries.shape[1], train.passages.shape[1]
        self._judged: list[JudgedCandidate] = []
        # What queries are without labels; none where they cannot be compared with passages.
        self._frame = first_frame(train)
        self._base: JudgedCandidate | None = None
        self._whitened: list[JudgedCandidate] = []
        self._linear: dict[tuple[float, float], JudgedCandidate] = {}

    def run(self) -> TrainingResult:
        """Go through the stages; what is trained with a gradient begins at the best closed form."""
        n_judged = max(len(fold.validation.queries) for fold in self._folds)
        with (
            training_threads(self._train, n_judged=n_judged, options=self._options),
            progress_bar(
                desc="Trials", unit="trial", disable=not self._session.show_progress
            ) as self._bar,
        ):
            outlook = outlook_of(self._folds, CERTAINTY)
            if outlook is not None:
                logger.info("%s", outlook)
            start = self._try_starts_without_labels()
            start = self._try_regressions(start)
            rate = self._try_learning_rates(start)
            scale = self._try_temperatures(start, rate)
            self._try_small_families(scale)
            self._try_parts_of_the_way()
            self._try_memory(start, scale)
            chosen = self._choice()
            adapter = self._train_on_everything(chosen)
        logger.info("Chose %s from %d trials.", chosen.candidate.name, len(self._judged))
        base = self._base
        return TrainingResult(
            adapter,
            None if base is None else base.metrics,
            chosen.metrics,
            trials=tuple(trial.as_trial(base, chosen=trial is chosen) for trial in self._judged),
            without_labels=None if self._frame is None else self._frame.stands_for_base,
            seen=self._criterion.seen,
            kinds=self._criterion.kinds,
            outlook=outlook,
            best=self._best(chosen),
        )

    def _try(self, candidates: Sequence[Candidate]) -> list[JudgedCandidate]:
        """Judge candidates, in order."""
        tried = []
        for candidate in candidates:
            self._bar.set_postfix_str(candidate.name)
            tried.append(self._judge(candidate))
            self._judged.append(tried[-1])
            self._bar.update()
        return tried

    def _judge(self, candidate: Candidate) -> JudgedCandidate:
        return judge_candidate(candidate, self._folds, self._criterion, self._session)

    def _try_starts_without_labels(self) -> JudgedCandidate:
        """Try the identity and whitening; return the start that is worth its complexity."""
        if self._frame is None:
            return self._try([untrained_linear(*self._dims)])[0]
        frames = {self._frame.name: self._frame}
        (self._base,) = self._try([unchanged(self._frame, self._dims[0])])
        for frame in further_frames(self._train):
            frames[frame.name] = frame
            self._try([unchanged(frame, self._dims[0])])
        # Training has to find the other models; from a start without them it hardly does.
        self._frame = frames[best_of(self._judged).candidate.name]
        self._whitened = self._try(whitenings(self._frame))
        both = whitening_of_both(
            self._query_log, self._frame, target_is_other_corpus=self._target_is_other_corpus
        )
        if both is not None:
            self._try([both])
        return simplest_of_the_best(self._judged)

    def _try_regressions(self, start: JudgedCandidate) -> JudgedCandidate:
        """Try regressions after the best whitening of the passages alone; return the start.

        Training goes further from a start without labels, unless that is far behind.
        """
        if self._frame is None:
            return start
        power = simplest_of_the_best(self._whitened).candidate.complexity.strength
        self._try(regressions(power, self._frame))
        ahead = [one for one in self._judged if one.gain_over(start)[1] > 0]
        return best_of_starts(ahead) if ahead else start

    def _try_learning_rates(self, start: JudgedCandidate) -> float:
        """Train linear adapters at rising, then falling rates while that helps."""
        scale = plan.SCALES[plan.FIRST_SCALE]
        return climb(
            plan.RATES, plan.FIRST_RATE, lambda rate: self._mean_of_linear(start, rate, scale)
        )

    def _try_temperatures(self, start: JudgedCandidate, rate: float) -> float:
        """Train linear adapters at that rate with other temperatures; return the best scale."""
        return climb(
            plan.SCALES, plan.FIRST_SCALE, lambda scale: self._mean_of_linear(start, rate, scale)
        )

    def _mean_of_linear(self, start: JudgedCandidate, rate: float, scale: float) -> float:
        """Return the mean nDCG@10 of a linear adapter, which is tried unless it was."""
        if (rate, scale) not in self._linear:
            options = replace(self._options, learning_rate=rate, scale=scale)
            candidate = linear_from(start.candidate, options, self._dims[0])
            self._linear[rate, scale] = self._try([candidate])[0]
        return self._linear[rate, scale].mean

    def _try_small_families(self, scale: float) -> None:
        """Train what seldom wins, where a trial costs little."""
        # They start as the identity, which only the passages' own model has.
        framed = self._frame is not None and self._frame.weight is not None
        if not self._few_trials and not framed:
            self._try(small_families(replace(self._options, scale=scale), *self._dims))

    def _try_parts_of_the_way(self) -> None:
        """Go back toward the start from the best linear adapter, where that trades two kinds."""
        if self._criterion.kinds.both_judged:
            best = best_of(list(self._linear.values())).candidate
            self._try([part_of_the_way(best, way) for way in plan.WAYS])

    def _try_memory(self, start: JudgedCandidate, scale: float) -> None:
        """Train a memory, where passages are asked about again."""
        if self._remembers:
            self._try([memory(start.candidate, replace(self._options, scale=scale))])

    def _choice(self) -> JudgedCandidate:
        """Return the simplest of the best, or the base when its gain over that is not certain.

        What loses on one kind of questions is no choice.
        """
        base = self._base
        if base is None:
            return simplest_of_the_best(self._judged)
        chosen = simplest_of_the_best([one for one in self._judged if not one.loses_to(base)])
        return chosen if chosen.gain_over(base)[1] > 0 else base

    def _best(self, chosen: JudgedCandidate) -> BestTrial | None:
        """Return what was chosen, or what would have been if its gain were certain."""
        base = self._base
        if base is None:
            return None
        best = chosen
        if chosen is base:
            best = best_of([trial for trial in self._judged if trial is not base])
        result = best_trial(
            best.candidate.name,
            *best.gain_over(base),
            len(best.ndcg),
            CERTAINTY,
            kept=best is chosen,
        )
        logger.info("%s", result)
        return result

    def _train_on_everything(self, chosen: JudgedCandidate) -> BaseAdapter:
        """Make the chosen adapter from the whole training set, for the corpus it will search.

        A linear adapter is trained with several seeds and its weights are averaged.
        """
        candidate, options = chosen.candidate, chosen.candidate.options
        self._bar.set_postfix_str(f"training {candidate.name}")
        adapter = candidate.build(self._train, self._target, options.seed if options else 0)
        if options is None or not chosen.epoch:
            return adapter
        averages = kind_of(type(adapter)) == "linear" and not self._few_trials
        states = []
        for seed in range(options.seed, options.seed + (plan.SEEDS if averages else 1)):
            adapter = candidate.build(self._train, self._target, options.seed)
            train_adapter(
                adapter,
                self._train,
                None,
                replace(options, seed=seed),
                stop_after=chosen.epoch,
                session=self._session.without_progress(),
            )
            states.append(adapter.arrays())
        trained = {name: np.mean([state[name] for state in states], 0) for name in states[0]}
        if candidate.way < 1:
            start = candidate.build(self._train, self._target, options.seed).arrays()
            trained = candidate.on_the_way(start, trained)
        adapter.load_arrays(trained)
        return adapter


def climb(values: Sequence[float], start: int, score: Callable[[float], float]) -> float:
    """Go from a value to larger or smaller ones as long as the score rises; return the best."""
    best, position = score(values[start]), start
    for step in (1, -1):
        while 0 <= position + step < len(values):
            following = score(values[position + step])
            if following <= best:
                break
            best, position = following, position + step
        if position != start:
            break
    return values[position]
