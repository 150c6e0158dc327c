"""Reading the arguments and arrays of a saved adapter without believing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray

# No embedding model comes near it; a config that declares more is broken or hostile.
MAX_DIMENSION = 65_536


def take(arrays: Mapping[str, FloatArray], name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return a saved array as float32, refusing one that is missing or has another shape."""
    if name not in arrays:
        raise InvalidAdapterError(
            f"The adapter has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'none'}."
        )
    array = arrays[name]
    if array.shape != shape:
        raise InvalidAdapterError(
            f"The adapter's array {name!r} has shape {array.shape}, its config says {shape}."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


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


def layer(
    arrays: Mapping[str, FloatArray], name: str, n_out: int, n_in: int, bias: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Return the weight ``(n_out, n_in)`` and, if there is one, the bias of a saved layer."""
    weight = take(arrays, f"{name}.weight", (n_out, n_in))
    return weight, take(arrays, f"{name}.bias", (n_out,)) if bias else None


def affine(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """Return ``W x + b`` for one vector ``(n_in,)`` or for each row of ``(n, n_in)``."""
    # For one vector numpy's ``@`` takes a slower way than ``dot``.
    result: FloatArray = weight.dot(x) if x.ndim == 1 else x @ weight.T
    return result if bias is None else np.add(result, bias)
