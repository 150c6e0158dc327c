"""The workers that train one adapter together: who takes what, and how they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn


class Share(NamedTuple):
    """What one worker takes of some rows.

    Attributes:
        rows: at least one of them, so that every worker does the same work in the same order. A
            worker for whom none is left repeats the last, with weight 0.
        weight: the part of all rows that these are; the weights of all workers sum to 1.
    """

    rows: Tensor
    weight: float


class Workers:
    """One worker alone, and what several have in common.

    Each worker walks through the same batches in the same order and takes its share of each, so
    every method is called by all workers or by none.

    Attributes:
        rank: the number of this worker, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, rows: Tensor) -> Share:
        """Return this worker's part of rows ``(n,)``."""
        return Share(rows, 1.0)

    def align(self, adapter: nn.Module) -> None:
        """Give every worker the weights and buffers of the first."""

    def average(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Replace gradients of the means of shares by the gradient of the mean of the batch.

        Args:
            parameters: the same ones in the same order on every worker.
            weight: the weight of this worker's share.
        """

    def total(self, value: Tensor) -> float:
        """Return the sum of a number over all workers."""
        return float(value)

    def gathered(
        self, per_row: Mapping[str, NDArray[np.float64]], share: Share, n_rows: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return values of all rows, ``(n_rows,)`` each, from those of every worker's share."""
        return dict(per_row)


ALONE = Workers()


class ProcessGroup(Workers):
    """The workers of torch's default process group, one process each.

    Gradients are summed in float32 or better, so several workers give what one gives up to
    rounding. With NCCL everything that is summed is on the current CUDA device.
    """

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        cuda = distributed.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if cuda else None

    def share(self, rows: Tensor) -> Share:
        """Return a contiguous part; the first workers take one row more when it is not even."""
        own = torch.tensor_split(rows, self.size)[self.rank]
        return Share(own if len(own) else rows[-1:], len(own) / len(rows))

    def align(self, adapter: nn.Module) -> None:
        """Broadcast the state of the first worker."""
        for value in adapter.state_dict().values():
            whole = value.detach().to(self._device or "cpu").contiguous()
            distributed.broadcast(whole, src=0)
            value.copy_(whole)

    def average(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Sum the weighted gradients, all in one message."""
        device = self._device or torch.device("cpu")
        dtype = reduce(torch.promote_types, (value.dtype for value in parameters), torch.float32)
        has_gradient = torch.tensor(
            [value.grad is not None for value in parameters], dtype=dtype, device=device
        )
        parts = [
            (torch.zeros_like(value) if value.grad is None else value.grad * weight)
            .flatten()
            .to(device, dtype)
            for value in parameters
        ]
        flat = torch.cat([*parts, has_gradient])
        distributed.all_reduce(flat)
        sizes = [part.numel() for part in parts]
        *sums, used = torch.split(flat, [*sizes, len(parameters)])
        for value, part, count in zip(parameters, sums, used, strict=True):
            # An optimizer steps over a parameter without a gradient; so does every worker's.
            value.grad = part.view_as(value).to(value) if count else None

    def total(self, value: Tensor) -> float:
        """Sum in float64."""
        whole = value.detach().to(self._device or "cpu", torch.float64)
        distributed.all_reduce(whole)
        return float(whole)

    def gathered(
        self, per_row: Mapping[str, NDArray[np.float64]], share: Share, n_rows: int
    ) -> dict[str, NDArray[np.float64]]:
        """Sum matrices that are zero outside a worker's own rows, which is exact."""
        matrix = torch.zeros(len(per_row), n_rows, dtype=torch.float64)
        if share.weight:
            matrix[:, share.rows.cpu()] = torch.from_numpy(np.stack(list(per_row.values())))
        matrix = matrix.to(self._device or "cpu")
        distributed.all_reduce(matrix)
        return dict(zip(per_row, matrix.cpu().numpy(), strict=True))
