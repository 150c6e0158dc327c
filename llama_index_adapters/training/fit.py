"""Train one adapter and decide whether it is better than no adapter."""

from __future__ import annotations

import logging

import numpy as np

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.cross_fit import cross_fit
from llama_index_adapters.training.frames import first_frame
from llama_index_adapters.training.holdout import (
    Fold,
    fold_numbers,
    hold_out,
    holdout_unit,
    lower_end,
    most_judged,
    why_none_held_out,
)
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.outlook import best_trial, outlook_of
from llama_index_adapters.training.result import SELECTION_METRIC, TrainingResult
from llama_index_adapters.training.search.plan import affords_few_trials
from llama_index_adapters.training.session import UNWATCHED, TrainingSession
from llama_index_adapters.training.threads import training_threads
from llama_index_adapters.training.validation import ValidationShare, require_same_space

logger = logging.getLogger(__name__)

# A fifth of the queries validates, but never more than are enough.
_FOLDS = 5


def fit(
    adapter: BaseAdapter,
    train: VectorDataset,
    validation: VectorDataset | None,
    options: TrainingOptions,
    session: TrainingSession = UNWATCHED,
) -> TrainingResult:
    """Train an adapter, stop by validation, and fall back to the identity without a gain.

    A gain is one whose lower end, at ``options.certainty``, is above zero.

    Args:
        adapter: the adapter to train, in place.
        train: what to learn from.
        validation: what to judge by. When there is none, cross-validation on ``train`` judges, or
            a part of a large ``train``.
        options: how to train.
        session: who trains together and who watches.

    Raises:
        InvalidVectorsError: when validation has vectors of other dimensions or another
            similarity, or there are too few queries to hold any out.
    """
    if validation is None and not affords_few_trials(train):
        return cross_fit(adapter, train, options, session)
    if validation is None:
        fold = carve_validation(train, seed=options.seed)
    else:
        fold = Fold(train, validation)
    require_same_space(fold.train, fold.validation)
    with training_threads(fold.train, n_judged=len(fold.validation.queries), options=options):
        return _fit(adapter, fold, options, session)


def _fit(
    adapter: BaseAdapter, fold: Fold, options: TrainingOptions, session: TrainingSession
) -> TrainingResult:
    train, validation = fold.train, fold.validation
    # Without a bound, the usual one says how certain the gain is.
    certainty = options.certainty or TrainingOptions.certainty
    outlook = outlook_of([fold], certainty)
    if outlook is not None:
        logger.info("%s", outlook)
    run = train_adapter(adapter, train, validation, options, unseen=fold.unseen, session=session)
    adapted = run.judged[run.best_epoch]
    frame = first_frame(train)
    if frame is None:
        return TrainingResult(adapter, None, adapted, run.history, seen=fold.seen)
    judges = ValidationShare(validation, session.workers)
    unchanged = frame.adapter(train.queries.shape[1])
    queries = judges.queries
    base = judges.judge(
        queries if frame.weight is None else adapt(transform_of(unchanged), queries)
    )
    gains = adapted[SELECTION_METRIC] - base[SELECTION_METRIC]
    kept = not options.certainty or lower_end(gains, options.certainty) > 0
    name = f"{type(adapter).__name__} after epoch {run.best_epoch}"
    low = lower_end(gains, certainty)
    best = best_trial(name, float(gains.mean()), low, len(gains), certainty, kept=kept)
    if not kept:
        logger.info("%s certainty=0 would keep it all the same.", best)
        adapter, adapted = unchanged, base
    return TrainingResult(
        adapter,
        base,
        adapted,
        run.history,
        seen=fold.seen,
        outlook=outlook,
        best=best,
        without_labels=frame.stands_for_base,
    )


def carve_validation(data: VectorDataset, *, seed: int) -> Fold:
    """Split a training set into what to learn from and what to judge by, imitating use.

    What is held out: see :func:`llama_index_adapters.training.holdout.holdout_unit`.

    Raises:
        InvalidVectorsError: when there is nothing to hold out.
    """
    unit = holdout_unit(data)
    n_folds = max(_FOLDS, -(-len(data.queries) // most_judged(data)))
    folds = fold_numbers(data, n_folds, unit=unit, seed=seed)
    # Queries that stay together can leave folds empty or far too large.
    numbers, sizes = np.unique(folds, return_counts=True)
    held = folds == numbers[np.argmin(np.abs(sizes - len(folds) / n_folds))]
    if held.all():
        queries = "1 query" if len(held) == 1 else f"{len(held)} queries"
        raise InvalidVectorsError(
            f"No part of the {queries} can be held out by {unit} to judge by. "
            f"{why_none_held_out(data, unit)}"
        )
    return hold_out(data, held, unit=unit)
