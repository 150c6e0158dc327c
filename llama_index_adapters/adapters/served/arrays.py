"""Reading the arguments and arrays of a saved adapter without believing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray

# No embedding model comes near it; a config that declares more is broken or hostile.
MAX_DIMENSION = 65_536

Shapes = dict[str, tuple[int, ...]]


class Described(Protocol):
    """An array, or what the header of a file says of an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        ...


def require_array(arrays: Mapping[str, Described], name: str, shape: tuple[int, ...]) -> None:
    """Refuse an array that is missing, has another shape, or holds no floating-point numbers."""
    if name not in arrays:
        names = sorted(arrays)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise InvalidAdapterError(
            f"The adapter has no array {name!r}; it holds {', '.join(names[:10]) or 'none'}{more}."
        )
    array = arrays[name]
    if array.shape != shape:
        raise InvalidAdapterError(
            f"The adapter's array {name!r} has shape {array.shape}, its config says {shape}."
        )
    if array.dtype.kind != "f":
        raise InvalidAdapterError(
            f"The adapter's array {name!r} holds {array.dtype}; the weights of a built-in adapter "
            "are floating-point numbers. Save it again as float32."
        )


def take(arrays: Mapping[str, FloatArray], name: str, shapes: Shapes) -> FloatArray:
    """Return a saved array as float32.

    Raises:
        InvalidAdapterError: as :func:`require_array` does.
    """
    require_array(arrays, name, shapes[name])
    return np.ascontiguousarray(arrays[name], dtype=np.float32)


def dimension(arguments: Mapping[str, Any], name: str) -> int:
    """Return a saved argument that counts dimensions.

    Raises:
        InvalidAdapterError: when it is missing, no whole number, or not from 1 to 65,536.
    """
    value = arguments.get(name)
    if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
        raise InvalidAdapterError(
            f"The adapter's config has {name}={value!r}; expected a whole number from 1 to "
            f"{MAX_DIMENSION}."
        )
    return value


def flag(arguments: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return a saved argument that is true or false.

    Raises:
        InvalidAdapterError: when it is neither.
    """
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise InvalidAdapterError(
            f"The adapter's config has {name}={value!r}; expected true or false."
        )
    return value


def layer_shapes(name: str, n_out: int, n_in: int, bias: bool) -> Shapes:
    """Return the shapes of a layer's weight ``(n_out, n_in)`` and, if there is one, its bias."""
    weight: Shapes = {f"{name}.weight": (n_out, n_in)}
    return {**weight, f"{name}.bias": (n_out,)} if bias else weight


def layer(
    arrays: Mapping[str, FloatArray], name: str, shapes: Shapes
) -> tuple[FloatArray, FloatArray | None]:
    """Return the weight and, if there is one, the bias of a saved layer."""
    weight, bias = f"{name}.weight", f"{name}.bias"
    return take(arrays, weight, shapes), take(arrays, bias, shapes) if bias in shapes else None


def affine(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """Return ``W x + b`` for one vector ``(n_in,)`` or for each row of ``(n, n_in)``."""
    # For one vector numpy's ``@`` takes a slower way than ``dot``.
    result: FloatArray = weight.dot(x) if x.ndim == 1 else x @ weight.T
    return result if bias is None else np.add(result, bias)


def norm(array: FloatArray | None) -> float:
    """Return the root of the sum of squares, 0 for no array; infinity where float32 overflows."""
    if array is None:
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(array))


def affine_bound(length: float, weight: FloatArray, bias: FloatArray | None) -> float:
    """Return what ``|W x + b|`` cannot be longer than, for any ``x`` of at most that length.

    By Cauchy and Schwarz, ``|W x| <= |W| |x|`` with the root of the sum of squares for ``|W|``.
    The same holds of every part of the sums, in whatever order they are added up.
    """
    return norm(weight) * length + norm(bias)
