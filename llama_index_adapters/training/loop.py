"""The training loop: AdamW with warm-up and decay, judged on exact validation nDCG@10."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import ModuleTransform
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError, TrainingError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import metrics_at_k, top_k, unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.mining import mine
from llama_index_adapters.training.objective import RetrievalObjective
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import SELECTION_METRIC, EpochRecord, PerQueryMetrics
from llama_index_adapters.training.workers import ALONE, Workers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What training did.

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
    adapter: nn.Module,
    train: VectorDataset,
    validation: VectorDataset | None = None,
    options: TrainingOptions | None = None,
    *,
    unseen: NDArray[np.int64] | None = None,
    stop_after: int | None = None,
    show_progress: bool = False,
    after_step: Callable[[int], None] | None = None,
    workers: Workers = ALONE,
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
        show_progress: show a bar over the epochs.
        after_step: called with the number of every step taken, for checkpoints.
        workers: those that train this adapter together, each of which calls this with the same
            arguments. The weights left in the adapter are the same on all.

    Returns:
        The history of the run, the same on every worker.

    Raises:
        InvalidAdapterError: when the adapter has nothing to train, or does not map the queries
            into the space of the passages.
        InvalidOptionError: when the device or the optimizer cannot be used.
        TrainingError: when the loss or a weight is no longer a number.
    """
    options = options or TrainingOptions()
    device = torch_device(options.device)
    adapter.to(device)
    workers.align(adapter)  # what is mined depends on the start
    objective = _objective(adapter, train, options, device, unseen)
    parameters = [value for value in adapter.parameters() if value.requires_grad]
    _require_trainable(adapter, parameters, train, device)
    adapter.train()
    start = [value.detach().clone() for value in parameters]
    steps_per_epoch = -(-len(objective) // options.batch_size)
    if options.steps_per_epoch is not None:
        steps_per_epoch = min(steps_per_epoch, options.steps_per_epoch)
    optimizer = _optimizer(parameters, options)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(_rate, n_steps=options.epochs * steps_per_epoch, warmup=options.warmup)
    )
    generator = torch.Generator().manual_seed(options.seed)

    judges = None if validation is None else ValidationShare(validation, workers)
    judged = _validate(adapter, judges, device)
    history = [EpochRecord(0, None, _mean(judged))]
    best_epoch, best_state = 0, copy.deepcopy(adapter.state_dict())
    step = 0
    epochs = tqdm(range(1, options.epochs + 1), "Training", unit="epoch", disable=not show_progress)
    with _own_randomness(options.seed + workers.rank, device), epochs as bar:
        for epoch in bar:
            total, seen = torch.zeros((), device=device), 0
            order = torch.randperm(len(objective), generator=generator).to(device)
            for batch in torch.split(order, options.batch_size)[:steps_per_epoch]:
                rows, weight = workers.share(batch)
                loss = objective.loss(_forward(adapter, objective.queries[rows], rows), rows)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                workers.average(parameters, weight)
                nn.utils.clip_grad_norm_(parameters, options.max_grad_norm)
                optimizer.step()
                rate = float(schedule.get_last_lr()[0]) / options.learning_rate
                _pull_back(parameters, start, options.weight_decay * rate)
                schedule.step()
                total += loss.detach() * (weight * len(batch))
                seen += len(batch)
                step += 1
                if after_step is not None:
                    after_step(step)
            mean_loss = workers.total(total) / seen
            _require_finite(mean_loss, parameters, epoch, options)
            workers.align(adapter)
            judged += _validate(adapter, judges, device)
            history.append(EpochRecord(epoch, mean_loss, _mean(judged)))
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
    return TrainingRun(tuple(history), best_epoch, tuple(judged), step)


def _objective(
    adapter: nn.Module,
    train: VectorDataset,
    options: TrainingOptions,
    device: torch.device,
    unseen: NDArray[np.int64] | None,
) -> RetrievalObjective:
    unseen = np.zeros(0, np.int64) if unseen is None else unseen
    negatives = options.negatives_of(len(train.passages))
    mined = None
    if negatives is not None and options.mined:
        mined = mine(adapted_queries(adapter, train.queries, device), train, options.mined, unseen)
    return RetrievalObjective(
        train,
        scale=options.scale,
        unit_input=_unit_input(adapter),
        device=device,
        unseen=unseen,
        negatives=negatives,
        mined=mined,
        dtype=_dtype(options.precision, device),
        seed=options.seed,
    )


def _dtype(precision: str | None, device: torch.device) -> torch.dtype:
    if precision is None:
        halves = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if halves else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _forward(adapter: nn.Module, queries: Tensor, rows: Tensor) -> Tensor:
    if isinstance(adapter, BaseAdapter):
        return adapter.training_forward(queries, rows)
    mapped: Tensor = adapter(queries)
    return mapped


def torch_device(name: str | None) -> torch.device:
    """Return the named device, or the best one there is.

    Raises:
        InvalidOptionError: when torch does not know it or cannot use it here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InvalidOptionError(
            f"device is {name!r}, which torch cannot use here "
            f"({str(error).splitlines()[0]}). Leave it out to use the best one there is."
        ) from error
    return device


def _require_trainable(
    adapter: nn.Module, parameters: list[nn.Parameter], train: VectorDataset, device: torch.device
) -> None:
    if not parameters:
        raise InvalidAdapterError(
            f"{type(adapter).__name__} has no parameters to train; give an adapter with some that "
            "require gradients."
        )
    if isinstance(adapter, BaseAdapter):
        query_dim, passage_dim = train.queries.shape[1], train.passages.shape[1]
        ModuleTransform(adapter, query_dim, passage_dim, str(device))(unit_rows(train.queries[:1]))


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Let a user's dropout depend on the seed, and leave torch's global generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _require_finite(
    loss: float, parameters: list[nn.Parameter], epoch: int, options: TrainingOptions
) -> None:
    if not np.isfinite(loss):
        found = f"The loss became {loss}"
    elif not all(bool(value.isfinite().all()) for value in parameters):
        found = "The adapter's weights became infinite or not a number"
    else:
        return
    raise TrainingError(
        f"{found} in epoch {epoch}. Lower learning_rate (now {options.learning_rate:g})."
    )


def _optimizer(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    build: Any = options.optimizer_class or torch.optim.AdamW
    arguments = {**options.optimizer_params, "lr": options.learning_rate}
    if "weight_decay" in inspect.signature(build).parameters:
        # AdamW would decay toward zero; ``_pull_back`` decays toward the start instead.
        arguments.setdefault("weight_decay", 0.0)
    try:
        optimizer: torch.optim.Optimizer = build(parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(
            f"{build.__name__} cannot be built from optimizer_params "
            f"{dict(options.optimizer_params)} ({error})."
        ) from error
    return optimizer


def _rate(step: int, *, n_steps: int, warmup: float) -> float:
    """Return the part of the learning rate to use: a linear rise, then half a cosine."""
    rising = warmup * n_steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, n_steps - rising)))


def _unit_input(adapter: nn.Module) -> bool:
    return bool(getattr(adapter, "unit_input", True))


def adapted_queries(
    adapter: nn.Module, queries: FloatArray, device: torch.device | None = None
) -> FloatArray:
    """Return what an adapter under training makes of queries ``(n, dim)``, as serving will."""

    @torch.inference_mode()
    def forward(units: FloatArray) -> FloatArray:
        result: Tensor = adapter(torch.from_numpy(units).to(device or "cpu"))
        return result.float().cpu().numpy()

    was_training = adapter.training
    adapter.eval()
    try:
        return adapt(forward, queries, unit_input=_unit_input(adapter))
    finally:
        adapter.train(was_training)


def judge(queries: FloatArray, data: VectorDataset) -> PerQueryMetrics:
    """Return every metric at 10 of every query, for query vectors in passage space."""
    ranking = top_k(queries, data.passages, 10, similarity=data.similarity)
    return metrics_at_k(ranking, data.relevance, 10)


class ValidationShare:
    """The queries that this worker judges of a validation set.

    Args:
        data: the whole set.
        workers: those that judge it together.

    Attributes:
        queries: ``(n, query_dim)`` this worker's.
    """

    def __init__(self, data: VectorDataset, workers: Workers = ALONE) -> None:
        self._workers = workers
        self._n_queries = len(data.queries)
        self._share = workers.share(torch.arange(self._n_queries))
        self._data = data
        if workers.size > 1:
            self._data = data.select_queries(self._share.rows.numpy())
        self.queries = self._data.queries

    def judge(self, adapted: FloatArray) -> PerQueryMetrics:
        """Return every metric at 10 of every query of the whole set.

        Args:
            adapted: ``(n, passage_dim)`` what became of ``queries``.
        """
        own = judge(adapted, self._data)
        return self._workers.gathered(own, self._share, self._n_queries)


def _validate(
    adapter: nn.Module, judges: ValidationShare | None, device: torch.device
) -> list[PerQueryMetrics]:
    if judges is None:
        return []
    return [judges.judge(adapted_queries(adapter, judges.queries, device))]


def _mean(judged: list[PerQueryMetrics]) -> float | None:
    return float(judged[-1][SELECTION_METRIC].mean()) if judged else None


def _better(new: EpochRecord, old: EpochRecord) -> bool:
    # Without validation the latest weights are the ones to keep.
    return new.validation is None or old.validation is None or new.validation > old.validation


def _postfix(record: EpochRecord) -> dict[str, str]:
    shown = {"loss": record.loss, SELECTION_METRIC: record.validation}
    return {name: f"{value:.4f}" for name, value in shown.items() if value is not None}


@torch.no_grad()
def _pull_back(parameters: list[nn.Parameter], start: list[Tensor], amount: float) -> None:
    """Move parameters toward their start: decoupled weight decay with another origin."""
    if amount:
        torch._foreach_lerp_([value.data for value in parameters], start, amount)
