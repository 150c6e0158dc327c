"""From the kind in a saved config to the classes that serve and train it; imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.served.base import (
    IdentityTransform,
    LinearTransform,
    MemoryTransform,
    Transform,
    TwoLayerTransform,
)

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter

CUSTOM = "custom"

# What a user asks for by name: "auto" chooses, "low-rank" is a form of the linear family.
ADAPTERS = ("auto", "linear", "low-rank", "two-layer")
DEFAULT_ADAPTER = "auto"
DEFAULT_RANK = 64


@dataclass(frozen=True)
class Kind:
    """One built-in family.

    Attributes:
        transform: builds the numpy half from a config's arguments and the saved arrays.
        home: ``module:class`` of the torch half, imported only to train.
    """

    transform: Callable[[Mapping[str, Any], Mapping[str, NDArray[np.float32]]], Transform]
    home: str

    def adapter_class(self) -> type[BaseAdapter]:
        """Import and return the torch half."""
        module, name = self.home.split(":")
        adapter_class: type[BaseAdapter] = getattr(importlib.import_module(module), name)
        return adapter_class


_ADAPTERS = "llama_index_adapters.adapters.learned"

KINDS: Mapping[str, Kind] = {
    "identity": Kind(IdentityTransform.from_arrays, f"{_ADAPTERS}.linear:IdentityAdapter"),
    "linear": Kind(LinearTransform.from_arrays, f"{_ADAPTERS}.linear:LinearAdapter"),
    "memory": Kind(MemoryTransform.from_arrays, f"{_ADAPTERS}.memory:MemoryAdapter"),
    "two-layer": Kind(TwoLayerTransform.from_arrays, f"{_ADAPTERS}.two_layer:TwoLayerAdapter"),
    "two-layer-nn": Kind(TwoLayerTransform.from_two_layer_nn, f"{_ADAPTERS}.two_layer:TwoLayerNN"),
}


def kind_of(adapter_class: type[BaseAdapter]) -> str:
    """Return the registered kind of an adapter class, ``"custom"`` for a user's own.

    A subclass of a built-in family counts as custom: it may compute something else.
    """
    home = f"{adapter_class.__module__}:{adapter_class.__qualname__}"
    return next((name for name, kind in KINDS.items() if kind.home == home), CUSTOM)


def new_adapter(
    name: str,
    query_dim: int,
    passage_dim: int,
    *,
    bias: bool | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> BaseAdapter:
    """Return an untrained adapter by the name a user asks for, as near the identity as it starts.

    Args:
        name: one of :data:`ADAPTERS` but ``"auto"``.
        query_dim: dimension of the query vectors.
        passage_dim: dimension of the passage vectors.
        bias: learn a bias too; as the family does when left out.
        rank: of ``"low-rank"``; :data:`DEFAULT_RANK` when left out.
        seed: of what starts at random.
    """
    from llama_index_adapters.adapters.learned.linear import LinearAdapter
    from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter

    if name == "two-layer":
        bias = True if bias is None else bias
        return TwoLayerAdapter(query_dim, None, passage_dim, bias, seed=seed)
    if name == "low-rank" and rank is None:
        rank = min(DEFAULT_RANK, query_dim)
    return LinearAdapter(query_dim, passage_dim, bool(bias), rank=rank, seed=seed)
