"""The contract of an adapter: a torch module that maps query vectors to passage space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from llama_index_adapters.adapters.families import CUSTOM, KINDS, kind_of
from llama_index_adapters.adapters.served.base import MAX_DIMENSION, Transform
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError


class BaseAdapter(nn.Module, ABC):
    """Base class of every adapter, yours included.

    Implement :meth:`forward` and :meth:`get_config_dict`, as in LlamaIndex; training,
    saving, loading and serving then work without a change to this package.

    Example:
        >>> class Scale(BaseAdapter):
        ...     def __init__(self, dim: int) -> None:
        ...         super().__init__()
        ...         self.scale = torch.nn.Parameter(torch.ones(dim))
        ...     def forward(self, embed: Tensor) -> Tensor:
        ...         return embed * self.scale
        ...     def get_config_dict(self) -> dict[str, Any]:
        ...         return {"dim": len(self.scale)}

    Attributes:
        unit_input: whether the adapter expects queries of unit length, as training here gives
            them. False for adapters that LlamaIndex's engine trained on vectors as they came.
    """

    unit_input: bool = True

    @abstractmethod
    def forward(self, embed: Tensor) -> Tensor:
        """Map query vectors ``(..., query_dim)`` to ``(..., passage_dim)``."""

    def training_forward(self, embed: Tensor, rows: Tensor) -> Tensor:
        """Map training queries; ``rows`` ``(n,)`` tells which of the training set they are.

        The same as :meth:`forward` unless an adapter holds on to training queries.
        """
        mapped: Tensor = self(embed)
        return mapped

    @abstractmethod
    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a copy of parameters and buffers; floating point becomes float32."""
        return {
            name: np.array(
                (value.float() if value.is_floating_point() else value).detach().cpu().numpy(),
                order="C",
            )
            for name, value in self.state_dict().items()
        }

    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over parameters and buffers, as :meth:`arrays` returned them.

        Raises:
            InvalidAdapterError: when names or shapes are not those of this adapter.
        """
        try:
            state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
            self.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise InvalidAdapterError(
                f"The saved arrays do not fit {type(self).__name__}: {error}"
            ) from error

    def save(self, output_path: str | PathLike[str]) -> None:
        """Write the adapter's directory (``config.json``, ``model.safetensors``, model card)."""
        from llama_index_adapters.adapters.disk import save_adapter

        save_adapter(output_path, self)

    @classmethod
    def load(cls, input_path: str | PathLike[str]) -> Self:
        """Read an adapter of this class back, also from a directory LlamaIndex wrote.

        Raises:
            MissingFileError: when there is no such directory.
            InvalidAdapterError: when it holds another kind of adapter, or none.
        """
        from llama_index_adapters.adapters.disk import load_adapter

        return load_adapter(input_path, cls)


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
            one: NDArray[np.float32] = self(queries[None])[0]
            return one
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
    return KINDS[kind].transform(adapter.get_config_dict(), adapter.arrays())


def require_dimensions(**dimensions: int) -> None:
    """Refuse sizes of layers that no layer can have.

    Raises:
        InvalidOptionError: for one that is no whole number from 1 to 65,536.
    """
    for name, value in dimensions.items():
        if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
            raise InvalidOptionError(
                f"{name} is {value!r}; give a whole number from 1 to {MAX_DIMENSION:,}."
            )
