"""Serving an adapter that is in memory, as loading it from disk would."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llama_index_adapters.adapters.families import CUSTOM, FAMILIES, kind_of
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError


class ModuleTransform:
    """Serves an adapter through its torch module: for classes without a numpy half.

    Args:
        adapter: the module; it is moved to the device and put into evaluation mode.
        query_dim: dimension of the vectors that go in, when it is known.
        passage_dim: dimension of the vectors that come out, when it is known.
        device: a torch device; the CPU when left out.

    Raises:
        InvalidOptionError: for a device that torch cannot use here.
    """

    def __init__(
        self,
        adapter: BaseAdapter,
        query_dim: int | None = None,
        passage_dim: int | None = None,
        device: str | None = None,
    ) -> None:
        self._device = device or "cpu"
        try:
            self._adapter = adapter.to(self._device).eval()
        except (RuntimeError, AssertionError) as error:
            raise InvalidOptionError(
                f"device={device!r} cannot be used ({str(error).splitlines()[0]}); "
                "leave it out to use the CPU."
            ) from error
        self.query_dim, self.passage_dim = query_dim, passage_dim

    def __call__(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the module without gradients, on ``(n, query_dim)`` or on one vector.

        Raises:
            InvalidAdapterError: when the module fails, or returns anything but one vector of
                ``passage_dim`` for each query.
        """
        if queries.ndim == 1:
            mapped: NDArray[np.float32] = self(queries[None])[0]
            return mapped
        name = type(self._adapter).__name__
        vectors = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
        try:
            with torch.inference_mode():
                result: Tensor = self._adapter(vectors.to(self._device))
        except RuntimeError as error:
            raise InvalidAdapterError(
                f"{name} failed on vectors of shape {queries.shape}: {error}"
            ) from error
        expected = (len(queries), self.passage_dim or result.shape[-1])
        if tuple(result.shape) != expected:
            raise InvalidAdapterError(
                f"{name} turned vectors of shape {queries.shape} into {tuple(result.shape)}; "
                f"expected {expected}."
            )
        return result.float().cpu().numpy()


def transform_of(
    adapter: BaseAdapter, query_dim: int | None = None, passage_dim: int | None = None
) -> Transform:
    """Return the serving half of an adapter in memory, as loading it from disk would.

    The dimensions are only used for a user's own adapter, which does not declare them.
    """
    kind = kind_of(type(adapter))
    if kind == CUSTOM:
        return ModuleTransform(adapter, query_dim, passage_dim)
    return FAMILIES[kind].served(adapter.get_config_dict(), adapter.arrays())
