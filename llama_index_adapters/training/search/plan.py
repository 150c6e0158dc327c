"""What a search tries, as far as the sizes of the data decide it; no clock does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.holdout import (
    ENOUGH_JUDGED,
    Fold,
    HoldoutUnit,
    asked_again,
    fold_numbers,
    hold_out,
    holdout_unit,
    most_judged,
    why_none_held_out,
)
from llama_index_adapters.training.mining import searched_once
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search.criterion import ENOUGH_OF_A_KIND

FOLDS = 4
# So many of the training queries of each kind give enough of both when they are held out.
_ENOUGH_FOR_BOTH = 60
# How far a linear adapter may stay on the way from its start to its trained weights.
WAYS = (0.75, 0.5)
# Multiply-adds of scoring all queries against all passages, above which few trials are made.
FEW_TRIALS_ABOVE = 2e10
_MOST_PER_EPOCH = 1e11
# The final training of a linear adapter, with different orders of the queries.
SEEDS = 3
# Of corpora that are sampled: passages mined for each query, unless ranking all of them for all
# queries takes more multiply-adds than this.
_MINED = 16
_MOST_MINING = 4e12
_MOST_LOOKED_FOR = 4096
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FIRST_RATE = 2
SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)
FIRST_SCALE = 2


def affords_few_trials(train: VectorDataset) -> bool:
    """Return whether a trial takes so long that only those are made which often win."""
    return len(train.queries) * train.passages.size > FEW_TRIALS_ABOVE


def options_of_trials(
    options: TrainingOptions, train: VectorDataset, fold: Fold
) -> TrainingOptions:
    """Return options with as many epochs as a trial gets, of bounded cost each.

    Args:
        options: what the caller decided: device, seed, batch size and the most epochs.
        train: the whole training set.
        fold: one fold of it.
    """
    n_queries = len(fold.train.queries)
    # Small sets take small batches, so that an epoch has steps to learn in.
    batch_size = min(options.batch_size, max(16, n_queries // 8))
    epochs = min(options.epochs, 6 if affords_few_trials(train) else 12)
    n_passages, dim = train.passages.shape
    competing = (options.negatives_of(n_passages) or n_passages) * dim
    return replace(
        options,
        batch_size=batch_size,
        epochs=epochs,
        patience=epochs,
        steps_per_epoch=max(8, int(_MOST_PER_EPOCH / (competing * batch_size))),
        mined=options.mined or _mined(train, options),
    )


def _mined(train: VectorDataset, options: TrainingOptions) -> int:
    """Return how many negatives to mine: with them a sample is worth the whole corpus."""
    if options.negatives_of(len(train.passages)) is None:
        return 0
    affordable = len(train.queries) * train.passages.size <= _MOST_MINING
    return _MINED if affordable or train.search is not None else 0


def unit_of_folds(train: VectorDataset) -> HoldoutUnit:
    """Return what to hold out of a corpus that will be searched.

    Queries, where enough of them are about passages that others ask about and enough are not:
    then both kinds are held out at once, as they will come. Else what the data imitate best.
    """
    again = int(asked_again(train).sum())
    both = min(again, len(train.queries) - again) >= _ENOUGH_FOR_BOTH
    return "query" if both else holdout_unit(train)


def folds_of(
    train: VectorDataset,
    validation: VectorDataset | None,
    *,
    unit: HoldoutUnit,
    seed: int,
    unseen_share: float = 1.0,
) -> list[Fold]:
    """Return what trials learn from and are judged by.

    A large validation set judges alone, a small one beside folds of the training set. Where
    neither has enough questions about unseen passages and these weigh anything, folds of passages
    complete them. Their passages stay negatives, as those that nobody asked about are in use.

    Raises:
        InvalidVectorsError: when there are too few queries to hold any out.
    """
    folds = [] if validation is None else [Fold(train, validation)]
    if validation is None or len(validation.queries) < ENOUGH_JUDGED:
        folds += _folds_of_training(train, unit, seed)
    unseen = sum(int((~fold.seen).sum()) for fold in folds)
    if folds and unseen_share and unseen < ENOUGH_OF_A_KIND:
        folds += _folds_of_training(train, "passage", seed, negatives=True)
    if not folds:
        count = len(train.queries)
        raise InvalidVectorsError(
            f"{count} {'query' if count == 1 else 'queries'} cannot be split by {unit} to judge "
            f"adapters. {why_none_held_out(train, unit)}"
        )
    return [replace(fold, train=searched_once(fold.train)) for fold in folds]


def _folds_of_training(
    train: VectorDataset, unit: HoldoutUnit, seed: int, *, negatives: bool = False
) -> list[Fold]:
    """Return folds that hold each training query out once; one fold of a large set.

    Args:
        train: the training set.
        unit: what is held out.
        seed: of the folds.
        negatives: whether held-out passages may be training negatives all the same.
    """
    few = affords_few_trials(train)
    n_folds = max(5, -(-len(train.queries) // most_judged(train))) if few else FOLDS
    numbers = fold_numbers(train, n_folds, unit=unit, seed=seed)
    used = np.unique(numbers)
    if len(used) < 2:
        return []
    mask: HoldoutUnit = "query" if negatives else unit
    return [hold_out(train, numbers == number, unit=mask) for number in used[: 1 if few else None]]


def holds_most_of(passages: FloatArray, corpus: FloatArray) -> bool:
    """Return whether at least half of some passages are in a corpus."""
    if corpus is passages:
        return True
    wanted = Counter(row.tobytes() for row in passages[:: -(-len(passages) // _MOST_LOOKED_FOR)])
    present = wanted.keys() & {row.tobytes() for row in corpus if row.tobytes() in wanted}
    return sum(wanted[row] for row in present) >= wanted.total() / 2
