"""The contract of an adapter: a torch module that maps query vectors to passage space."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from os import PathLike
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from llama_index_adapters.adapters.disk.read import (
    StoredAdapter,
    read_adapter,
    require_computable,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.families import CUSTOM, FAMILIES, kind_of
from llama_index_adapters.adapters.served.arrays import MAX_DIMENSION
from llama_index_adapters.checks import require_whole
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
        save_adapter(output_path, self)

    @classmethod
    def load(cls, input_path: str | PathLike[str]) -> Self:
        """Read an adapter of this class back, also from a directory LlamaIndex wrote.

        Raises:
            MissingFileError: when there is no such directory.
            InvalidAdapterError: when it holds another kind of adapter, or none.
        """
        return load_adapter(input_path, cls)


def require_dimensions(**dimensions: int) -> None:
    """Refuse sizes of layers that no layer can have.

    Raises:
        InvalidOptionError: for one that is no whole number from 1 to 65,536.
    """
    for name, value in dimensions.items():
        require_whole(value, name, most=MAX_DIMENSION)


AdapterT = TypeVar("AdapterT", bound=BaseAdapter)


@overload
def load_adapter(path: str | PathLike[str]) -> BaseAdapter: ...
@overload
def load_adapter(path: str | PathLike[str], adapter_cls: type[AdapterT]) -> AdapterT: ...
@overload
def load_adapter(path: str | PathLike[str], adapter_cls: None) -> BaseAdapter: ...
def load_adapter(
    path: str | PathLike[str], adapter_cls: type[BaseAdapter] | None = None
) -> BaseAdapter:
    """Read an adapter to train it further; imports torch.

    Args:
        path: the directory of a saved adapter, or of one that LlamaIndex's engine wrote.
        adapter_cls: the class of a user's own adapter. For a built-in one it may be left out;
            when given, it has to be the one that was saved, or a base or subclass of it.

    Raises:
        MissingFileError: when something is not there.
        InvalidAdapterError: when it cannot be used, saying why.
    """
    stored = read_adapter(path)
    require_computable(stored)
    if stored.config.passages is not None:
        raise InvalidAdapterError(
            f"{path} maps passages too, and training goes on from a map of queries alone. Train "
            "again with target_dim."
        )
    adapter_class = class_to_load(stored, adapter_cls, serving=False)
    if adapter_class is None:
        # The numpy half checks every shape before torch allocates what the config asks for.
        stored.query_transform()
        adapter_class = FAMILIES[stored.config.queries.kind].learned_class()
    adapter = build_adapter(stored, adapter_class)
    adapter.unit_input = stored.config.unit_input
    return adapter


def class_to_load(
    stored: StoredAdapter, adapter_cls: type[BaseAdapter] | None, *, serving: bool
) -> type[BaseAdapter] | None:
    """Return the torch class to build, None for the built-in one of the saved kind.

    Args:
        stored: what was read.
        adapter_cls: the class that the caller named.
        serving: whether it is only served, so that an identity may stand for any class.

    Raises:
        InvalidOptionError: when ``adapter_cls`` is no class of an adapter.
        InvalidAdapterError: when it is not the one that was saved.
    """
    half = stored.config.queries
    if adapter_cls is None and half.kind != CUSTOM:
        return None
    if adapter_cls is not None:
        _require_adapter_class(adapter_cls)
    if half.kind == CUSTOM:
        if adapter_cls is None or inspect.isabstract(adapter_cls):
            name = half.adapter_class or "the class that was saved"
            raise InvalidAdapterError(
                f"{stored.path} holds an adapter of a class that is not built in ({name}). "
                "Nothing that a file names is imported: import the class yourself and pass it "
                f"as adapter_cls."
            )
        if kind_of(adapter_cls) == CUSTOM:
            return adapter_cls
        raise _wrong_class(stored, half.adapter_class or "an adapter of another class", adapter_cls)
    assert adapter_cls is not None
    saved = FAMILIES[half.kind].learned_class()
    if issubclass(saved, adapter_cls):
        return None
    if issubclass(adapter_cls, saved):
        return adapter_cls
    if stored.written_by_llamaindex and kind_of(adapter_cls) == CUSTOM:
        return adapter_cls  # its configs do not say of which class they are
    if serving and half.kind == "identity":
        return None  # what training any class gives when nothing beat the base model
    raise _wrong_class(stored, f"{saved.__name__} (kind {half.kind!r})", adapter_cls)


def _wrong_class(
    stored: StoredAdapter, saved: str, adapter_cls: type[BaseAdapter]
) -> InvalidAdapterError:
    return InvalidAdapterError(
        f"{stored.path} holds {saved}, but adapter_cls is {adapter_cls.__name__}. Pass the class "
        "that was saved; for a built-in one adapter_cls can be left out."
    )


def _require_adapter_class(adapter_cls: object) -> None:
    if not (isinstance(adapter_cls, type) and issubclass(adapter_cls, BaseAdapter)):
        name = adapter_cls.__qualname__ if isinstance(adapter_cls, type) else repr(adapter_cls)
        raise InvalidOptionError(
            f"adapter_cls is {name}; expected a subclass of llama_index_adapters.BaseAdapter "
            "(for a class written for LlamaIndex, change the import of BaseAdapter)."
        )


def build_adapter(stored: StoredAdapter, adapter_class: type[BaseAdapter]) -> BaseAdapter:
    """Build a torch module from what was read.

    Raises:
        InvalidAdapterError: when the class does not take these arguments or arrays.
    """
    arguments = stored.config.queries.arguments
    try:
        adapter = adapter_class(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidAdapterError(
            f"{adapter_class.__name__} cannot be built from the arguments in {stored.path} "
            f"({', '.join(arguments) or 'none'}): {error}"
        ) from error
    adapter.load_arrays(stored.query_arrays)
    return adapter
