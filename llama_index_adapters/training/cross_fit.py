"""Train one adapter where nobody gave a validation set: every query judges, none that it saw."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import numpy as np

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.frames import Frame, first_frame
from llama_index_adapters.training.holdout import Fold, expected_unseen_share
from llama_index_adapters.training.loop import TrainingRun, train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.outlook import best_trial, outlook_of
from llama_index_adapters.training.result import (
    SELECTION_METRIC,
    EpochRecord,
    PerQueryMetrics,
    TrainingResult,
    pooled,
)
from llama_index_adapters.training.search.criterion import Criterion
from llama_index_adapters.training.search.plan import folds_of, unit_of_folds
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.threads import training_threads
from llama_index_adapters.training.validation import ValidationShare

logger = logging.getLogger(__name__)


def cross_fit(
    adapter: BaseAdapter, train: VectorDataset, options: TrainingOptions, session: TrainingSession
) -> TrainingResult:
    """Judge an adapter by cross-validation, then train it on everything or keep the identity.

    Copies of it are trained on the folds, held out as in a search. The epoch is that with the best
    mean over all held-out queries; its gain has to be certain, and it must not lose on one of two
    kinds of questions. Steps on everything are what a session watches.

    Args:
        adapter: the adapter to train, in place.
        train: what to learn from.
        options: how to train.
        session: who trains together and who watches.

    Raises:
        InvalidVectorsError: when there are too few queries to hold any out.
    """
    share = expected_unseen_share(train, len(train.passages))
    folds = folds_of(train, None, unit=unit_of_folds(train), seed=options.seed, unseen_share=share)
    criterion = Criterion(np.concatenate([fold.seen for fold in folds]), share)
    n_judged = max(len(fold.validation.queries) for fold in folds)
    with training_threads(train, n_judged=n_judged, options=options):
        return _cross_fit(adapter, train, folds, criterion, options, session)


def _cross_fit(
    adapter: BaseAdapter,
    train: VectorDataset,
    folds: Sequence[Fold],
    criterion: Criterion,
    options: TrainingOptions,
    session: TrainingSession,
) -> TrainingResult:
    # Without a bound, the usual one says how certain the gain is.
    certainty = options.certainty or TrainingOptions.certainty
    outlook = outlook_of(folds, certainty)
    if outlook is not None:
        logger.info("%s", outlook)
    runs = [
        train_adapter(
            copy.deepcopy(adapter),
            fold.train,
            fold.validation,
            options,
            unseen=fold.unseen,
            session=session.trial(),
        )
        for fold in folds
    ]
    # A fold may have stopped early; what comes after it cannot be pooled.
    judged = [pooled(parts) for parts in zip(*(run.judged for run in runs), strict=False)]
    means = [criterion.mean(metrics[SELECTION_METRIC]) for metrics in judged]
    epoch = int(np.argmax(means))
    adapted, history = judged[epoch], _history(runs, means)
    frame, best, base, kept = first_frame(train), None, None, True
    if frame is not None:
        base = _base(frame, folds, session)
        gains = adapted[SELECTION_METRIC] - base[SELECTION_METRIC]
        low = criterion.lower_end(gains, certainty)
        certain = low > 0 and not criterion.loses_on_a_kind(gains, certainty)
        kept = not options.certainty or certain
        name = f"{type(adapter).__name__} after epoch {epoch}"
        best = best_trial(name, criterion.mean(gains), low, len(gains), certainty, kept=kept)
    if epoch or not kept:
        # Also what is not kept, for the checkpoints; all workers do the same.
        trained = adapter if kept else copy.deepcopy(adapter)
        train_adapter(trained, train, None, options, stop_after=epoch or None, session=session)
    if frame is not None and base is not None and not kept:
        logger.info("%s certainty=0 would keep it all the same.", best)
        adapter, adapted = frame.adapter(train.queries.shape[1]), base
    return TrainingResult(
        adapter.eval(),
        base,
        adapted,
        history,
        seen=criterion.seen,
        outlook=outlook,
        best=best,
        kinds=criterion.kinds,
        without_labels=None if frame is None else frame.stands_for_base,
    )


def _base(frame: Frame, folds: Sequence[Fold], session: TrainingSession) -> PerQueryMetrics:
    """Return the metrics of all held-out queries before anything is learned."""
    transform = transform_of(frame.adapter(folds[0].train.queries.shape[1]))
    judges = [ValidationShare(fold.validation, session.workers) for fold in folds]
    return pooled([share.judge(adapt(transform, share.queries)) for share in judges])


def _history(runs: Sequence[TrainingRun], means: Sequence[float]) -> tuple[EpochRecord, ...]:
    """Return a record for each epoch, over all folds."""
    records = []
    for epoch, mean in enumerate(means):
        losses = [run.history[epoch].loss for run in runs]
        known = [loss for loss in losses if loss is not None]
        records.append(EpochRecord(epoch, float(np.mean(known)) if known else None, mean))
    return tuple(records)
