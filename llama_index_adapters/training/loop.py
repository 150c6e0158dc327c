"""One training: epochs of gradient steps, judged on exact validation nDCG@10, the best one kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.training.device import torch_device
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import SELECTION_METRIC, EpochRecord, PerQueryMetrics
from llama_index_adapters.training.session import UNWATCHED, TrainingSession
from llama_index_adapters.training.steps import GradientSteps
from llama_index_adapters.training.validation import ValidationShare, adapted_queries


@dataclass(frozen=True)
class TrainingRun:
    """What one training did, epoch by epoch; a search makes many.

    Attributes:
        history: one record per epoch.
        best_epoch: the epoch whose weights were kept.
        judged: after every epoch, the start included, the validation metrics at 10 of every
            query by name; empty without a validation set.
        steps: optimizer steps taken.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    judged: tuple[PerQueryMetrics, ...] = field(repr=False)
    steps: int

    @property
    def per_query(self) -> NDArray[np.float64] | None:
        """``(n_queries,)`` validation nDCG@10 of the weights that were kept."""
        return self.judged[self.best_epoch][SELECTION_METRIC] if self.judged else None


def train_adapter(
    adapter: BaseAdapter,
    train: VectorDataset,
    validation: VectorDataset | None = None,
    options: TrainingOptions | None = None,
    *,
    unseen: NDArray[np.int64] | None = None,
    stop_after: int | None = None,
    session: TrainingSession = UNWATCHED,
    after_epoch: Callable[[BaseAdapter], None] | None = None,
) -> TrainingRun:
    """Train an adapter in place and leave the best weights in it.

    Args:
        adapter: maps ``(n, query_dim)`` to ``(n, passage_dim)``; trained as it is given.
        train: what to learn from.
        validation: what decides when to stop and which epoch's weights to keep. Without it
            the weights of the last epoch are kept.
        options: how to train.
        unseen: rows of passages that are never negatives.
        stop_after: end after this epoch, on the schedule of all ``options.epochs``.
        session: who trains together and who watches. The weights left in the adapter are the
            same on all workers.
        after_epoch: called with the adapter as it starts, and after every epoch.

    Returns:
        The history of the run, the same on every worker.

    Raises:
        InvalidAdapterError: when the adapter has nothing to train, or does not map the queries
            into the space of the passages.
        InvalidOptionError: when the device or the optimizer cannot be used.
        TrainingError: when the loss or a weight is no longer a number.
    """
    options = options or TrainingOptions()
    device, workers = torch_device(options.device), session.workers
    unseen = np.zeros(0, np.int64) if unseen is None else unseen
    adapter.to(device)
    workers.align(adapter)  # what is mined depends on the start
    steps = GradientSteps(adapter, train, options, device=device, unseen=unseen, session=session)
    judges = None if validation is None else ValidationShare(validation, workers)
    judged = _validate(adapter, judges, device)
    after_epoch = after_epoch or _nothing
    after_epoch(adapter)
    history = [EpochRecord(0, None, _mean(judged))]
    best_epoch, best_state = 0, copy.deepcopy(adapter.state_dict())
    epochs = progress_bar(
        range(1, options.epochs + 1), "Training", unit="epoch", disable=not session.show_progress
    )
    with _own_randomness(options.seed + workers.rank, device), epochs as bar:
        for epoch in bar:
            loss = steps.epoch(epoch)
            judged += _validate(adapter, judges, device)
            after_epoch(adapter)
            history.append(EpochRecord(epoch, loss, _mean(judged)))
            bar.set_postfix(_postfix(history[-1]))
            if _better(history[-1], history[best_epoch]):
                best_epoch = epoch
                best_state = copy.deepcopy(adapter.state_dict())
            elif epoch - best_epoch >= options.patience:
                break
            if epoch == stop_after:
                break
    adapter.load_state_dict(best_state)
    adapter.to("cpu").eval()
    return TrainingRun(tuple(history), best_epoch, tuple(judged), steps.taken)


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Let a user's dropout depend on the seed, and leave torch's global generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _validate(
    adapter: BaseAdapter, judges: ValidationShare | None, device: torch.device
) -> list[PerQueryMetrics]:
    if judges is None:
        return []
    return [judges.judge(adapted_queries(adapter, judges.queries, device))]


def _nothing(adapter: BaseAdapter) -> None:
    """Do nothing after an epoch."""


def _mean(judged: list[PerQueryMetrics]) -> float | None:
    return float(judged[-1][SELECTION_METRIC].mean()) if judged else None


def _better(new: EpochRecord, old: EpochRecord) -> bool:
    # Without validation the latest weights are the ones to keep.
    return new.validation is None or old.validation is None or new.validation > old.validation


def _postfix(record: EpochRecord) -> dict[str, str]:
    shown = {"loss": record.loss, SELECTION_METRIC: record.validation}
    return {name: f"{value:.4f}" for name, value in shown.items() if value is not None}
