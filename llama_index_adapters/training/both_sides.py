"""Maps of queries and of passages that are trained together, from vectors that stay frozen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import TrainingError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.device import torch_device
from llama_index_adapters.training.holdout import Fold
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import PerQueryMetrics
from llama_index_adapters.training.validation import judge

# What of the way back to the start is gone after each step, as a multiple of the rate: what no
# label speaks about stays as the start has it.
PULL = 0.5


@dataclass(frozen=True, eq=False)
class BothMaps:
    """A linear map of queries and one of passages, into one space.

    Attributes:
        queries: ``(dim, query_dim)``.
        passages: ``(dim, passage_dim)``.
    """

    queries: FloatArray
    passages: FloatArray

    def on_the_way(self, start: BothMaps, way: float) -> BothMaps:
        """Return the maps between a start and these; ``way`` is 1 for these."""
        return BothMaps(
            *(
                np.asarray((1 - way) * first + way * last, np.float32)
                for first, last in (
                    (start.queries, self.queries),
                    (start.passages, self.passages),
                )
            )
        )

    def applied(self, data: VectorDataset) -> VectorDataset:
        """Return the data with both sides mapped, each vector at the length it had."""
        queries, passages = (
            adapt(lambda rows, weight=weight: rows @ weight.T, vectors)  # type: ignore[misc]
            for weight, vectors in ((self.queries, data.queries), (self.passages, data.passages))
        )
        return replace(data, queries=queries, passages=passages, blocks=(), search=None)

    def judged(self, data: VectorDataset) -> PerQueryMetrics:
        """Return every metric at 10 of every query."""
        mapped = self.applied(data)
        return judge(mapped.queries, mapped)


def trained_maps(
    fold: Fold,
    start: BothMaps,
    options: TrainingOptions,
    *,
    rate: float,
    one_map: bool,
) -> Iterator[BothMaps]:
    """Train both maps, and yield them after each epoch.

    The loss is the cross entropy of the softmax over all passages that a query could find (or a
    sample of them, see :class:`TrainingOptions`), by the cosine of the mapped vectors. After each
    step both go back toward their start by a small part.

    Args:
        fold: what to learn from, and which passages must not be used.
        start: where to begin.
        options: scale, batches, epochs, device and the seed of the order of the queries.
        rate: how far a step of Adam goes, as a share of the mean size of a number of the start.
        one_map: keep one map for both sides; it starts as that of the queries.

    Raises:
        TrainingError: when the loss is no longer a number.
    """
    device = torch_device(options.device)
    random = np.random.default_rng(options.seed)
    batches = _Batches(fold, options, random, device)
    first = [torch.tensor(start.queries, device=device)]
    first += [] if one_map else [torch.tensor(start.passages, device=device)]
    weights = [weight.clone().requires_grad_() for weight in first]
    optimizer = torch.optim.Adam(weights, lr=rate * float(np.sqrt((start.queries**2).mean())))
    for _ in range(options.epochs):
        for queries, passages, relevant in batches:
            mapped = [
                functional.normalize(rows @ weight.T, dim=1)
                for rows, weight in ((queries, weights[0]), (passages, weights[-1]))
            ]
            scores = options.scale * (mapped[0] @ mapped[1].T)
            loss = -(relevant * functional.log_softmax(scores, dim=1)).sum(dim=1).mean()
            if not torch.isfinite(loss):
                raise TrainingError(
                    "The loss of maps of both sides is no longer a number. Look for vectors that "
                    "are zero."
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for weight, origin in zip(weights, first, strict=True):
                    weight += PULL * rate * (origin - weight)
        arrays = [weight.detach().cpu().numpy().copy() for weight in weights]
        yield BothMaps(arrays[0], arrays[-1])


class _Batches:
    """Queries with the passages they compete over, in an order that is new in each epoch."""

    def __init__(
        self,
        fold: Fold,
        options: TrainingOptions,
        random: np.random.Generator,
        device: torch.device,
    ) -> None:
        self._data, self._random, self._device = fold.train, random, device
        self._size, self._steps = options.batch_size, options.steps_per_epoch
        usable = np.ones(len(self._data.passages), bool)
        usable[fold.unseen] = False
        self._usable = np.flatnonzero(usable)
        self._negatives = options.negatives_of(len(self._data.passages))
        self._all: Tensor | None = None
        if self._negatives is None:
            self._all = self._units(self._data.passages[self._usable])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield queries ``(n, dim)``, passages ``(m, dim)`` and shares of relevance ``(n, m)``."""
        data = self._data
        order = self._random.permutation(len(data.queries))
        count = -(-len(order) // self._size)
        for rows in np.array_split(order, count)[: self._steps]:
            relevant = [_relevant(data, row) for row in rows.tolist()]
            pool = self._pool(np.concatenate(relevant))
            shares = np.zeros((len(rows), len(pool)), np.float32)
            for number, passages in enumerate(relevant):
                shares[number, np.searchsorted(pool, passages)] = 1 / len(passages)
            passages_of_pool = self._all
            if passages_of_pool is None:
                passages_of_pool = self._units(data.passages[pool])
            yield (
                self._units(data.queries[rows]),
                passages_of_pool,
                torch.from_numpy(shares).to(self._device),
            )

    def _pool(self, relevant: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows of passages, rising: the relevant ones and what competes with them."""
        if self._negatives is None:
            return self._usable
        drawn = self._random.choice(self._usable, min(self._negatives, len(self._usable)))
        return np.union1d(relevant, drawn)

    def _units(self, vectors: FloatArray) -> Tensor:
        rows = torch.from_numpy(np.ascontiguousarray(vectors)).to(self._device)
        return functional.normalize(rows, dim=1)


def _relevant(data: VectorDataset, row: int) -> NDArray[np.int64]:
    first, last = data.relevance.offsets[row : row + 2]
    return np.unique(data.relevance.passages[first:last])
