"""Choose the adapter: a fixed plan of trials, judged on held-out queries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llama_index_adapters.adapters.families import kind_of
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.holdout import (
    ENOUGH_JUDGED,
    Fold,
    HoldoutUnit,
    fold_numbers,
    hold_out,
    holdout_unit,
    lower_end,
    most_judged,
)
from llama_index_adapters.training.loop import ValidationShare, train_adapter
from llama_index_adapters.training.mining import searched_once
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import SELECTION_METRIC, AfterStep, PerQueryMetrics, Trial
from llama_index_adapters.training.search.candidates import (
    Candidate,
    linear_from,
    memory,
    regressions,
    small_families,
    unlabelled,
    whitenings,
)
from llama_index_adapters.training.workers import ALONE, Workers

logger = logging.getLogger(__name__)

# A gain counts when it is this certain, one-sided, by the t distribution of the paired
# differences: strict, because the best of many trials is looked at.
_CERTAINTY = 0.995
# Of two trials within this many standard errors of their difference, the simpler one wins.
_SIMPLER_WITHIN = 0.5
_FOLDS = 4
# Multiply-adds of scoring all queries against all passages, above which a plan is lean.
_LEAN_ABOVE = 2e10
_MOST_PER_EPOCH = 1e11
_SEEDS = 3
# Of corpora that are sampled: passages mined for each query, unless ranking all of them for all
# queries takes more multiply-adds than this.
_MINED = 16
_MOST_MINING = 4e12
_MOST_LOOKED_FOR = 4096
_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_FIRST_RATE = 2
_SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)
_FIRST_SCALE = 2


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        adapter: the chosen adapter, trained on all of the training set.
        trials: every candidate tried, in the order of the plan.
        base: per-query metrics of the base model on the held-out queries.
        adapted: the same for the chosen candidate, always by a model that had not seen the
            query in training.
    """

    adapter: BaseAdapter
    trials: tuple[Trial, ...]
    base: PerQueryMetrics = field(repr=False)
    adapted: PerQueryMetrics = field(repr=False)


@dataclass(frozen=True)
class _Judged:
    """A candidate after its trial: its best epoch, and how every held-out query fared."""

    candidate: Candidate
    epoch: int | None
    metrics: PerQueryMetrics

    @property
    def ndcg(self) -> NDArray[np.float64]:
        return self.metrics[SELECTION_METRIC]

    @property
    def mean(self) -> float:
        return float(self.ndcg.mean())


def search_adapter(
    train: VectorDataset,
    validation: VectorDataset | None,
    options: TrainingOptions,
    *,
    target_corpus: FloatArray | None = None,
    query_log: FloatArray | None = None,
    show_progress: bool = False,
    after_step: AfterStep | None = None,
    workers: Workers = ALONE,
) -> Search:
    """Try what may help, choose by held-out queries, train the choice on everything.

    The plan of trials follows from the sizes of the data alone, so the same data and seed give
    the same adapter on any machine.

    1. Held-out queries come from cross-validation on the training set, from the validation set
       when it is large, from both when it is small.
    2. Whitening needs no training and regression on the labels a moment: their strengths are
       tried first.
    3. Linear adapters are trained from the best of these with several learning rates, then
       temperatures; small sets also try a low-rank and a two-layer one.
    4. Where passages are asked about again, a memory of training queries is trained as well.
    5. Of candidates that are about equal, the simplest is taken. It replaces the identity only
       when its gain is above zero with a certainty of 99.5%.

    Args:
        train: what to learn from.
        validation: what to judge by; may be None.
        options: device, seed, batch size and the most epochs; the plan sets the rest.
        target_corpus: ``(n, passage_dim)`` vectors of the corpus that will be searched, when it
            is not that of ``train``. No labels. When it does not hold the training passages,
            trials are judged on passages that training did not see.
        query_log: ``(n, query_dim)`` vectors of queries without labels, of the kind that will be
            asked. They say how queries are spread.
        show_progress: show a bar over the trials.
        after_step: called with the adapter and the number of every step of the final training.
        workers: those that search together, each of which calls this with the same arguments.

    Raises:
        InvalidVectorsError: when there are too few queries to hold any out.
        TrainingError: when the loss is no longer a number.
    """
    target = train.passages if target_corpus is None else target_corpus
    elsewhere = target_corpus is not None and not _holds(target_corpus, train.passages)
    unit = "passage" if elsewhere else holdout_unit(train)
    folds = [_searched_once(fold) for fold in _folds(train, validation, unit, options.seed)]
    lean = len(train.queries) * train.passages.size > _LEAN_ABOVE
    dims = train.queries.shape[1], train.passages.shape[1]
    if query_log is not None and query_log.shape[1] != dims[0]:
        raise InvalidVectorsError(
            f"query_log has vectors of {query_log.shape[1]} dimensions, the training queries "
            f"{dims[0]}. Embed both with the same model."
        )
    with tqdm(desc="Trials", unit="trial", disable=not show_progress) as bar:
        judged: list[_Judged] = []

        def attempt(candidate: Candidate) -> None:
            bar.set_postfix_str(candidate.name)
            judged.append(_judge(candidate, folds, workers))
            bar.update()

        for candidate in unlabelled(*dims, elsewhere, query_log):
            attempt(candidate)
        start = _simplest(judged)
        if dims[0] == dims[1]:
            mild = {candidate.name for candidate in whitenings()}
            spread = _simplest([one for one in judged if one.candidate.name in mild])
            for candidate in regressions(spread.candidate):
                attempt(candidate)
            # Training goes further from a start without labels, unless that is far behind.
            ahead = max(judged, key=lambda one: one.mean)
            if _gain(ahead, start)[1] > 0:
                start = ahead
        plan = _epochs(options, folds[-1].train, lean=lean)
        plan = replace(plan, mined=options.mined or _mined(train, options))
        scores: dict[tuple[float, float], float] = {}

        def trained(rate: float, scale: float) -> float:
            if (rate, scale) not in scores:
                changed = replace(plan, learning_rate=rate, scale=scale)
                attempt(linear_from(start.candidate, changed, dims[0]))
                scores[rate, scale] = judged[-1].mean
            return scores[rate, scale]

        rate = _climb(_RATES, _FIRST_RATE, lambda rate: trained(rate, _SCALES[_FIRST_SCALE]))
        scale = _climb(_SCALES, _FIRST_SCALE, lambda scale: trained(rate, scale))
        plan = replace(plan, scale=scale)
        if not lean:
            for candidate in small_families(plan, *dims):
                attempt(candidate)
        if unit == "query":
            attempt(memory(start.candidate, plan))

        base = judged[0] if dims[0] == dims[1] else None
        chosen = _simplest(judged)
        if base is not None and _gain(chosen, base)[1] <= 0:
            chosen = base
        bar.set_postfix_str(f"training {chosen.candidate.name}")
        seeds = 1 if lean else _SEEDS
        adapter = _on_everything(chosen, train, target, seeds, after_step, workers)
    logger.info("Chose %s from %d trials.", chosen.candidate.name, len(judged))
    return Search(
        adapter,
        tuple(_trial(one, base, chosen=one is chosen) for one in judged),
        {} if base is None else base.metrics,
        chosen.metrics,
    )


def _climb(values: Sequence[float], start: int, score: Callable[[float], float]) -> float:
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


def _epochs(options: TrainingOptions, train: VectorDataset, *, lean: bool) -> TrainingOptions:
    """Return options with as many epochs as the plan gives, of bounded cost each."""
    n_queries = len(train.queries)
    # Small sets take small batches, so that an epoch has steps to learn in.
    batch_size = min(options.batch_size, max(16, n_queries // 8))
    epochs = min(options.epochs, 6 if lean else 12)
    n_passages, dim = train.passages.shape
    competing = (options.negatives_of(n_passages) or n_passages) * dim
    steps = int(_MOST_PER_EPOCH / (competing * batch_size))
    return replace(
        options,
        batch_size=batch_size,
        epochs=epochs,
        patience=epochs,
        steps_per_epoch=max(8, steps),
    )


def _mined(train: VectorDataset, options: TrainingOptions) -> int:
    """Return how many negatives to mine: with them a sample is worth the whole corpus."""
    if options.negatives_of(len(train.passages)) is None:
        return 0
    affordable = len(train.queries) * train.passages.size <= _MOST_MINING
    return _MINED if affordable or train.search is not None else 0


def _judge(candidate: Candidate, folds: Sequence[Fold], workers: Workers) -> _Judged:
    """Try a candidate on every fold and pool what its held-out queries say."""
    runs: list[tuple[PerQueryMetrics, ...]] = []
    for fold in folds:
        adapter = candidate.build(fold.train, fold.validation.passages, 0)
        if candidate.options is None:
            # Judged together too, so that no worker can come to another choice.
            judges = ValidationShare(fold.validation, workers)
            runs.append((judges.judge(adapt(transform_of(adapter), judges.queries)),))
        else:
            run = train_adapter(
                adapter,
                fold.train,
                fold.validation,
                candidate.options,
                unseen=fold.unseen,
                workers=workers,
            )
            runs.append(run.judged)
    pooled = [
        {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        for parts in zip(*runs, strict=True)
    ]
    epoch = int(np.argmax([one[SELECTION_METRIC].mean() for one in pooled]))
    return _Judged(candidate, None if candidate.options is None else epoch, pooled[epoch])


def _simplest(judged: Sequence[_Judged]) -> _Judged:
    """Return the first of those that are about as good as the best."""
    best = max(judged, key=lambda one: one.mean)
    for one in judged:
        behind = best.ndcg - one.ndcg
        if behind.mean() <= _SIMPLER_WITHIN * behind.std() / np.sqrt(len(behind)):
            return one
    return best


def _gain(one: _Judged, base: _Judged) -> tuple[float, float]:
    """Return the mean gain over the base and the lower end of it."""
    gains = one.ndcg - base.ndcg
    return float(gains.mean()), lower_end(gains, _CERTAINTY)


def _trial(one: _Judged, base: _Judged | None, *, chosen: bool) -> Trial:
    gain, low = (None, None) if base is None else _gain(one, base)
    return Trial(one.candidate.name, one.mean, gain, low, one.epoch, chosen)


def _on_everything(
    chosen: _Judged,
    train: VectorDataset,
    corpus: FloatArray,
    seeds: int,
    after_step: AfterStep | None,
    workers: Workers,
) -> BaseAdapter:
    """Make the chosen adapter from the whole training set, for the corpus it will search.

    A linear adapter is trained with several seeds and its weights are averaged.
    """
    candidate, options = chosen.candidate, chosen.candidate.options
    adapter = candidate.build(train, corpus, options.seed if options else 0)
    if options is None or not chosen.epoch:
        return adapter
    if kind_of(type(adapter)) != "linear":
        seeds = 1
    states = []
    for seed in range(options.seed, options.seed + seeds):
        adapter = candidate.build(train, corpus, options.seed)
        seeded = replace(options, seed=seed)
        train_adapter(
            adapter,
            train,
            None,
            seeded,
            stop_after=chosen.epoch,
            after_step=None if after_step is None else partial(after_step, adapter),
            workers=workers,
        )
        states.append(adapter.arrays())
    adapter.load_arrays({name: np.mean([one[name] for one in states], 0) for name in states[0]})
    return adapter


def _folds(
    train: VectorDataset, validation: VectorDataset | None, unit: HoldoutUnit, seed: int
) -> list[Fold]:
    judged = [] if validation is None else [Fold(train, validation)]
    if validation is not None and len(validation.queries) >= ENOUGH_JUDGED:
        return judged
    n_folds = _FOLDS
    if len(train.queries) * train.passages.size > _LEAN_ABOVE:
        n_folds = max(5, -(-len(train.queries) // most_judged(train)))
    numbers = fold_numbers(train, n_folds, unit=unit, seed=seed)
    used = np.unique(numbers)
    if len(used) < 2:
        if judged:
            return judged
        count = len(train.queries)
        raise InvalidVectorsError(
            f"{count} {'query' if count == 1 else 'queries'} cannot be split by {unit} to judge "
            "adapters. Give more queries, or a validation set of their own."
        )
    if n_folds > _FOLDS:
        used = used[:1]
    return judged + [hold_out(train, numbers == number, unit=unit) for number in used]


def _searched_once(fold: Fold) -> Fold:
    return replace(fold, train=searched_once(fold.train))


def _holds(corpus: FloatArray, passages: FloatArray) -> bool:
    """Return whether at least half of the training passages are in the corpus."""
    if corpus is passages:
        return True
    wanted = Counter(row.tobytes() for row in passages[:: -(-len(passages) // _MOST_LOOKED_FOR)])
    found = wanted.keys() & {row.tobytes() for row in corpus if row.tobytes() in wanted}
    return sum(wanted[row] for row in found) >= wanted.total() / 2
