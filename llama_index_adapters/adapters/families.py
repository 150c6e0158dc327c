"""The built-in families: one record for each, and what is built from it. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.adapters.served.linear import IdentityTransform, LinearTransform
from llama_index_adapters.adapters.served.memory import MemoryTransform
from llama_index_adapters.adapters.served.two_layer import TwoLayerTransform
from llama_index_adapters.errors import InvalidAdapterError

Arrays = dict[str, NDArray[Any]]

CUSTOM = "custom"

_Value = TypeVar("_Value")

# What a user asks for by name: "auto" chooses, "low-rank" is a form of the linear family.
AdapterName = Literal["auto", "linear", "low-rank", "two-layer"]
ADAPTERS: tuple[AdapterName, ...] = get_args(AdapterName)
DEFAULT_ADAPTER: AdapterName = "auto"


@dataclass(frozen=True)
class Kind:
    """One built-in family.

    Attributes:
        transform: builds the numpy half from a config's arguments and the saved arrays.
        home: ``module:class`` of the torch half, imported only to train.
    """

    transform: Callable[[Mapping[str, Any], Mapping[str, NDArray[np.float32]]], Transform]
    home: str

    def adapter_class(self) -> Any:
        """Import and return the torch half."""
        module, name = self.home.split(":")
        return getattr(importlib.import_module(module), name)


_ADAPTERS = "llama_index_adapters.adapters.learned"

KINDS: Mapping[str, Kind] = {
    "identity": Kind(IdentityTransform.from_arrays, f"{_ADAPTERS}.linear:IdentityAdapter"),
    "linear": Kind(LinearTransform.from_arrays, f"{_ADAPTERS}.linear:LinearAdapter"),
    "memory": Kind(MemoryTransform.from_arrays, f"{_ADAPTERS}.memory:MemoryAdapter"),
    "two-layer": Kind(TwoLayerTransform.from_arrays, f"{_ADAPTERS}.two_layer:TwoLayerAdapter"),
    "two-layer-nn": Kind(TwoLayerTransform.from_two_layer_nn, f"{_ADAPTERS}.two_layer:TwoLayerNN"),
}


def kind_of(adapter_class: type) -> str:
    """Return the registered kind of an adapter class, ``"custom"`` for a user's own.

    A subclass of a built-in family counts as custom: it may compute something else.
    """
    home = f"{adapter_class.__module__}:{adapter_class.__qualname__}"
    return next((name for name, kind in KINDS.items() if kind.home == home), CUSTOM)


class _Noted(Mapping[str, _Value]):
    """A mapping that knows which of its names were never asked for."""

    def __init__(self, values: Mapping[str, _Value]) -> None:
        self._values = values
        self.unread = set(values)

    def __getitem__(self, name: str) -> _Value:
        self.unread.discard(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def build_transform(
    kind: str, arguments: Mapping[str, Any], arrays: Arrays, source: object
) -> Transform:
    """Build the numpy half of an adapter.

    Raises:
        InvalidAdapterError: when arguments and arrays do not fit, or there is one that the kind
            does not know: it would be left out of what is served.
    """
    noted_arguments, noted_arrays = _Noted(arguments), _Noted(arrays)
    transform = KINDS[kind].transform(noted_arguments, noted_arrays)
    unread = sorted(noted_arguments.unread | noted_arrays.unread)
    if unread:
        raise InvalidAdapterError(
            f"{source} is not a {kind!r} adapter: it also has {', '.join(unread[:5])}."
        )
    return transform
