"""The built-in families: one record for each, and what is built from it. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from numpy.typing import NDArray

from llama_index_adapters.adapters.served.arrays import Described, Shapes, require_array
from llama_index_adapters.adapters.served.base import BuiltInTransform
from llama_index_adapters.adapters.served.linear import IdentityTransform, LinearTransform
from llama_index_adapters.adapters.served.memory import MemoryTransform
from llama_index_adapters.adapters.served.two_layer import TwoLayerTransform
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray

Arrays = dict[str, NDArray[Any]]

# What a user may ask for: "auto" lets a search choose, the others are forms of the families below.
AdapterName = Literal["auto", "linear", "low-rank", "two-layer"]
ADAPTERS: tuple[AdapterName, ...] = get_args(AdapterName)
DEFAULT_ADAPTER: AdapterName = "auto"

# The kind of a user's own class, which has no record here.
CUSTOM = "custom"
DEFAULT_RANK = 64

# Of what a built-in adapter computes for a query of length one. The result is squared for its
# length, and GELU takes a cube: both stay below 3.4e38, the most that float32 holds. No training
# comes near it.
MAX_MAGNITUDE = 1e12

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Form:
    """A form of a family that users ask for by name.

    Attributes:
        name: the name, one of :data:`AdapterName`.
        rank: its rank where it has one, lowered to the dimension of smaller vectors. A form
            with a rank maps vectors to vectors of the same dimension only.
        searched_on_small_sets: whether the default search tries it, from its untrained start,
            on sets that are small enough for a trial to cost little.
    """

    name: str
    rank: int | None = None
    searched_on_small_sets: bool = False

    def rank_for(self, dim: int) -> int | None:
        """Return the rank of a new adapter for vectors of ``dim`` dimensions."""
        return None if self.rank is None else min(self.rank, dim)


@dataclass(frozen=True)
class Family:
    """One built-in family.

    Attributes:
        kind: the word that stands for it in ``config.json``; it never changes.
        shapes: the names and shapes of the arrays that belong to a config's arguments, so that
            a file can be refused by its header.
        served: builds the numpy half from a config's arguments and the saved arrays.
        learned: ``module:class`` of the torch half, imported only to train. Its constructor
            takes ``in_features``; of a family with forms also ``out_features``, ``bias`` and
            ``seed``, and ``rank`` where a form has one. Its ``example_arguments(dim)`` are what
            the tests hold both halves equal on.
        forms: what users ask for by name; empty for what only a search or a file makes.
    """

    kind: str
    shapes: Callable[[Mapping[str, Any]], Shapes]
    served: Callable[[Mapping[str, Any], Mapping[str, FloatArray]], BuiltInTransform]
    learned: str
    forms: tuple[Form, ...] = ()

    def learned_class(self) -> Any:
        """Import and return the torch half."""
        module, name = self.learned.split(":")
        return getattr(importlib.import_module(module), name)


_LEARNED = "llama_index_adapters.adapters.learned"

FAMILIES: dict[str, Family] = {
    family.kind: family
    for family in (
        Family(
            "identity",
            IdentityTransform.shapes,
            IdentityTransform.from_arrays,
            f"{_LEARNED}.linear:IdentityAdapter",
        ),
        Family(
            "linear",
            LinearTransform.shapes,
            LinearTransform.from_arrays,
            f"{_LEARNED}.linear:LinearAdapter",
            (Form("linear"), Form("low-rank", rank=DEFAULT_RANK, searched_on_small_sets=True)),
        ),
        Family(
            "memory",
            MemoryTransform.shapes,
            MemoryTransform.from_arrays,
            f"{_LEARNED}.memory:MemoryAdapter",
        ),
        Family(
            "two-layer",
            TwoLayerTransform.shapes,
            TwoLayerTransform.from_arrays,
            f"{_LEARNED}.two_layer:TwoLayerAdapter",
            (Form("two-layer", searched_on_small_sets=True),),
        ),
        Family(
            "two-layer-nn",
            TwoLayerTransform.shapes_of_two_layer_nn,
            TwoLayerTransform.from_two_layer_nn,
            f"{_LEARNED}.two_layer:TwoLayerNN",
        ),
    )
}


def forms() -> dict[str, tuple[Family, Form]]:
    """Return every form that users can ask for, and its family, by the form's name."""
    return {form.name: (family, form) for family in FAMILIES.values() for form in family.forms}


def kind_of(adapter_class: type) -> str:
    """Return the registered kind of an adapter class, ``"custom"`` for a user's own.

    A subclass of a built-in family counts as custom: it may compute something else.
    """
    home = f"{adapter_class.__module__}:{adapter_class.__qualname__}"
    return next((kind for kind, family in FAMILIES.items() if family.learned == home), CUSTOM)


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


def require_arrays(
    kind: str, arguments: Mapping[str, Any], arrays: Mapping[str, Described], source: object
) -> None:
    """Refuse arrays, or what a header says of them, that are not those of a built-in adapter.

    Raises:
        InvalidAdapterError: for an array that is missing, of another shape or of no
            floating-point numbers, and for one that the kind does not know.
    """
    shapes = FAMILIES[kind].shapes(arguments)
    for name, shape in shapes.items():
        require_array(arrays, name, shape)
    _require_none_left(kind, arrays.keys() - shapes.keys(), source)


def build_transform(
    kind: str, arguments: Mapping[str, Any], arrays: Arrays, source: object
) -> BuiltInTransform:
    """Build the numpy half of an adapter.

    Raises:
        InvalidAdapterError: when arguments and arrays do not fit, when there is one that the kind
            does not know, which would be left out of what is served, or when weights are so
            large that float32 may overflow.
    """
    require_arrays(kind, arguments, arrays, source)
    noted = _Noted(arguments)
    transform = FAMILIES[kind].served(noted, arrays)
    _require_none_left(kind, noted.unread, source)
    bound = transform.bound()
    if not bound <= MAX_MAGNITUDE:
        raise InvalidAdapterError(
            f"The weights of {source} are so large that adapted vectors may reach {bound:.0e}; "
            f"float32 is safe up to {MAX_MAGNITUDE:.0e}. Train the adapter again."
        )
    return transform


def _require_none_left(kind: str, names: Set[str], source: object) -> None:
    if names:
        raise InvalidAdapterError(
            f"{source} is not a {kind!r} adapter: it also has {', '.join(sorted(names)[:5])}."
        )
