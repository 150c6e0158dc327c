"""Train one adapter and decide whether it is better than no adapter."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.holdout import (
    Fold,
    fold_numbers,
    hold_out,
    holdout_unit,
    lower_end,
    most_judged,
)
from llama_index_adapters.training.loop import ValidationShare, train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import (
    SELECTION_METRIC,
    AfterStep,
    Fit,
)
from llama_index_adapters.training.search.plan import search_adapter
from llama_index_adapters.training.workers import ALONE, Workers

logger = logging.getLogger(__name__)

# A fifth of the queries validates, but never more than are enough.
_FOLDS = 5


def fit(
    adapter: BaseAdapter,
    train: VectorDataset,
    validation: VectorDataset | None,
    options: TrainingOptions,
    *,
    show_progress: bool = False,
    after_step: AfterStep | None = None,
    workers: Workers = ALONE,
) -> Fit:
    """Train an adapter, stop by validation, and fall back to the identity without a gain.

    A gain is one whose lower end, at ``options.certainty``, is above zero.

    Args:
        adapter: the adapter to train, in place.
        train: what to learn from.
        validation: what to judge by; carved out of ``train`` when there is none.
        options: how to train.
        show_progress: show a bar over the epochs.
        after_step: called with the adapter and the number of every step taken.
        workers: those that train together, each of which calls this with the same arguments.

    Raises:
        InvalidVectorsError: when validation has vectors of other dimensions or another
            similarity, or there are too few queries to hold any out.
    """
    if validation is None:
        fold = carve_validation(train, seed=options.seed)
    else:
        fold = Fold(train, validation)
    train, validation = fold.train, fold.validation
    require_same_space(train, validation)
    run = train_adapter(
        adapter,
        train,
        validation,
        options,
        unseen=fold.unseen,
        show_progress=show_progress,
        after_step=None if after_step is None else partial(after_step, adapter),
        workers=workers,
    )
    adapted = run.judged[run.best_epoch]
    base = None
    if validation.queries.shape[1] == validation.passages.shape[1]:
        judges = ValidationShare(validation, workers)
        base = judges.judge(judges.queries)
        gains = adapted[SELECTION_METRIC] - base[SELECTION_METRIC]
        if options.certainty and lower_end(gains, options.certainty) <= 0:
            logger.info(
                "No epoch beat the base model's validation nDCG@10 of %.4f by more than chance "
                "does (the best gained %.4f on %d queries); the result is the identity, which "
                "leaves queries as they are. certainty=0 would keep the best epoch all the same.",
                base[SELECTION_METRIC].mean(),
                gains.mean(),
                len(gains),
            )
            adapter, adapted = IdentityAdapter(train.queries.shape[1]), base
    return Fit(adapter, base, adapted, run.history)


def fit_best(
    train: VectorDataset,
    validation: VectorDataset | None,
    options: TrainingOptions,
    *,
    target_corpus: FloatArray | None = None,
    query_log: FloatArray | None = None,
    show_progress: bool = False,
    after_step: AfterStep | None = None,
    workers: Workers = ALONE,
) -> Fit:
    """Choose the adapter too, as ``search_adapter`` does."""
    if validation is not None:
        require_same_space(train, validation)
    found = search_adapter(
        train,
        validation,
        options,
        target_corpus=target_corpus,
        query_log=query_log,
        show_progress=show_progress,
        after_step=after_step,
        workers=workers,
    )
    return Fit(found.adapter, found.base or None, found.adapted, trials=found.trials)


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
            f"No part of the {queries} can be held out by {unit} to judge by. Give more queries, "
            "or a validation set of their own."
        )
    return hold_out(data, held, unit=unit)


def require_same_space(train: VectorDataset, validation: VectorDataset) -> None:
    """Refuse a validation set that cannot be judged as the training set is trained.

    Raises:
        InvalidVectorsError: saying both.
    """
    trained, judged = (
        (data.queries.shape[1], data.passages.shape[1]) for data in (train, validation)
    )
    if trained != judged:
        raise InvalidVectorsError(
            f"Training queries and passages have {trained[0]} and {trained[1]} dimensions, those "
            f"of validation {judged[0]} and {judged[1]}. Embed both with the same model."
        )
    if train.similarity != validation.similarity:
        raise InvalidVectorsError(
            f"Training compares vectors by {train.similarity!r}, validation by "
            f"{validation.similarity!r}. Give both the similarity of your vector store."
        )
