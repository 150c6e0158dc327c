"""The gradient steps of a training: AdamW with warm-up, decay, and a pull back to the start."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.serve import ModuleTransform
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError, TrainingError
from llama_index_adapters.retrieval.copies import with_copies
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.device import dtype_of_products
from llama_index_adapters.training.mining import mine
from llama_index_adapters.training.objective import RetrievalObjective
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.validation import adapted_queries


class GradientSteps:
    """Walks through the training set, an epoch at a time.

    Args:
        adapter: the adapter to train, in place, on its device already.
        data: what to learn from.
        options: how to train.
        device: where the tensors live.
        unseen: rows of passages that are never negatives.
        session: who trains, and what is called after every step.

    Attributes:
        taken: how many steps were taken.

    Raises:
        InvalidAdapterError: when the adapter has nothing to train, or does not map the queries
            into the space of the passages.
        InvalidOptionError: when the optimizer cannot be built.
    """

    def __init__(
        self,
        adapter: BaseAdapter,
        data: VectorDataset,
        options: TrainingOptions,
        *,
        device: torch.device,
        unseen: NDArray[np.int64],
        session: TrainingSession,
    ) -> None:
        self._adapter, self._options, self._session = adapter, options, session
        self._device = device
        self._objective = _objective(adapter, data, options, device, unseen)
        self._parameters = [value for value in adapter.parameters() if value.requires_grad]
        _require_trainable(adapter, self._parameters, data, device)
        adapter.train()
        self._start = [value.detach().clone() for value in self._parameters]
        self._per_epoch = -(-len(self._objective) // options.batch_size)
        if options.steps_per_epoch is not None:
            self._per_epoch = min(self._per_epoch, options.steps_per_epoch)
        self._optimizer = _optimizer(self._parameters, options)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            partial(_rate, n_steps=options.epochs * self._per_epoch, warmup=options.warmup),
        )
        self._generator = torch.Generator().manual_seed(options.seed)
        self.taken = 0

    def epoch(self, number: int) -> float:
        """Take the steps of one epoch and return their mean loss, the same on every worker.

        Raises:
            TrainingError: when the loss or a weight is no longer a number.
        """
        order = torch.randperm(len(self._objective), generator=self._generator).to(self._device)
        total, seen = torch.zeros((), device=self._device), 0
        for batch in torch.split(order, self._options.batch_size)[: self._per_epoch]:
            total += self._step(batch)
            seen += len(batch)
        mean_loss = self._session.workers.total(total) / seen
        self._require_finite(mean_loss, number)
        self._session.workers.align(self._adapter)
        return mean_loss

    def _step(self, batch: Tensor) -> Tensor:
        """Take one step and return this worker's part of the summed loss of the batch."""
        workers, options = self._session.workers, self._options
        rows, weight = workers.share(batch)
        mapped = self._adapter.training_forward(self._objective.queries[rows], rows)
        loss = self._objective.loss(mapped, rows)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        workers.average(self._parameters, weight)
        nn.utils.clip_grad_norm_(self._parameters, options.max_grad_norm)
        self._optimizer.step()
        rate = float(self._schedule.get_last_lr()[0]) / options.learning_rate
        _pull_back(self._parameters, self._start, options.weight_decay * rate)
        self._schedule.step()
        self.taken += 1
        if self._session.after_step is not None:
            self._session.after_step(self._adapter, self.taken)
        return loss.detach() * (weight * len(batch))

    def _require_finite(self, loss: float, epoch: int) -> None:
        if not np.isfinite(loss):
            trouble = f"The loss became {loss}"
        elif not all(bool(value.isfinite().all()) for value in self._parameters):
            trouble = "The adapter's weights became infinite or not a number"
        else:
            return
        raise TrainingError(
            f"{trouble} in epoch {epoch}. Lower learning_rate "
            f"(now {self._options.learning_rate:g})."
        )


def _objective(
    adapter: BaseAdapter,
    data: VectorDataset,
    options: TrainingOptions,
    device: torch.device,
    unseen: NDArray[np.int64],
) -> RetrievalObjective:
    negatives = options.negatives_of(len(data.passages))
    # A copy of a relevant passage answers as well as that does, whichever of them has the label.
    answers = with_copies(data.relevance, data.copies)
    mined = None
    if negatives is not None and options.mined:
        queries = adapted_queries(adapter, data.queries, device)
        mined = mine(queries, data, options.mined, unseen, answers)
    return RetrievalObjective(
        data,
        scale=options.scale,
        unit_input=adapter.unit_input,
        device=device,
        unseen=unseen,
        answers=answers,
        negatives=negatives,
        mined=mined,
        dtype=dtype_of_products(options.precision, device),
        seed=options.seed,
    )


def _require_trainable(
    adapter: BaseAdapter, parameters: list[nn.Parameter], data: VectorDataset, device: torch.device
) -> None:
    if not parameters:
        raise InvalidAdapterError(
            f"{type(adapter).__name__} has no parameters to train; give an adapter with some that "
            "require gradients."
        )
    query_dim, passage_dim = data.queries.shape[1], data.passages.shape[1]
    ModuleTransform(adapter, query_dim, passage_dim, str(device))(unit_rows(data.queries[:1]))


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


@torch.no_grad()
def _pull_back(parameters: list[nn.Parameter], start: list[Tensor], amount: float) -> None:
    """Move parameters toward their start: decoupled weight decay with another origin."""
    if amount:
        torch._foreach_lerp_([value.data for value in parameters], start, amount)
