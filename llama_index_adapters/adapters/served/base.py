"""What serves a query: numpy only, one class per built-in adapter family.

A transform is the serving half of an adapter. It is built from the arguments and arrays of
a saved directory, so a process that answers queries never imports torch. The training half
is the torch module of the same kind in :mod:`llama_index_adapters.adapters`; a test holds
the two equal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidAdapterError, closest_name

FloatArray = NDArray[np.float32]

# No embedding model comes near it; a config that declares more is broken or hostile.
MAX_DIMENSION = 65_536

# Lengths below it count as zero; small enough to divide by without an overflow that matters.
_TINY = np.float32(1e-30)


class Transform(Protocol):
    """Maps query vectors into the space of the passages."""

    @property
    def query_dim(self) -> int | None:
        """Dimension of the vectors that go in; None when a user's own adapter does not say."""
        ...

    @property
    def passage_dim(self) -> int | None:
        """Dimension of the vectors that come out; None when it is not known."""
        ...

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Transform ``(n, query_dim)`` into ``(n, passage_dim)``, or one vector into one."""
        ...


def adapt(
    transform: Callable[[FloatArray], FloatArray], queries: FloatArray, *, unit_input: bool = True
) -> FloatArray:
    """Apply a transform and give every result the length of the query it came from.

    Keeping the length keeps inner-product and L2 scores, and with them a
    ``similarity_cutoff``, in the range they had before.

    Args:
        transform: the adapter to apply.
        queries: ``(n, query_dim)`` vectors of the base model.
        unit_input: hand the transform queries of unit length, as training did. Adapters
            written by LlamaIndex's engine saw the vectors as they came.

    Returns:
        ``(n, passage_dim)`` float32.
    """
    queries = np.asarray(queries, dtype=np.float32)
    lengths = _lengths(queries)
    adapted = transform(queries / np.maximum(lengths, _TINY) if unit_input else queries)
    return np.asarray(adapted * (lengths / np.maximum(_lengths(adapted), _TINY)), dtype=np.float32)


def adapt_vector(
    transform: Transform, query: FloatArray, length: float, *, unit_input: bool = True
) -> FloatArray:
    """Do what :func:`adapt` does to a single vector ``(query_dim,)``, in a third of the overhead.

    This is what every served query pays, so lengths are plain floats here.

    Args:
        transform: the adapter to apply.
        query: a vector of the base model.
        length: its length, which the caller has computed already.
        unit_input: as for :func:`adapt`.

    Returns:
        ``(passage_dim,)`` float32.
    """
    adapted = transform(query / (length or 1.0) if unit_input else query)
    scaled: FloatArray = adapted * (length / (math.sqrt(adapted.dot(adapted)) or 1.0))
    return scaled


def as_vector(numbers: Sequence[float]) -> FloatArray:
    """Return what an embedding model gave as ``(dim,)`` float32.

    ``struct`` reads a list of floats in a third of the time that numpy takes.

    Raises:
        TypeError: when it is not numbers.
        ValueError: when it is not one vector.
    """
    if type(numbers) is list:
        content = bytearray(4 * len(numbers))
        try:
            struct.pack_into(f"{len(numbers)}f", content, 0, *numbers)
        except (struct.error, OverflowError):
            pass  # numpy reads more, or says what is wrong
        else:
            return np.frombuffer(content, dtype=np.float32)
    return np.asarray(numbers, dtype=np.float32)


def _lengths(vectors: FloatArray) -> FloatArray:
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return lengths


class IdentityTransform:
    """Leaves every query as it is: the adapter of a run that found no gain."""

    def __init__(self, dim: int) -> None:
        self.query_dim = self.passage_dim = dim

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> IdentityTransform:
        """Build it from a saved adapter."""
        return cls(dimension(arguments, "in_features"))

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Return the queries."""
        return queries


class LinearTransform:
    """``q' = W q + b``."""

    def __init__(self, weight: FloatArray, bias: FloatArray | None = None) -> None:
        self._weight, self._bias = weight, bias
        self.passage_dim, self.query_dim = weight.shape

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> LinearTransform | LowRankTransform:
        """Build it from a saved ``LinearAdapter``; one with a rank gives the low-rank form."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        bias = flag(arguments, "bias")
        if arguments.get("rank") is None:
            return cls(*_layer(arrays, "linear", n_out, n_in, bias))
        rank = dimension(arguments, "rank")
        if n_in != n_out or rank > n_in:
            raise InvalidAdapterError(
                f"The config declares rank {rank} for {n_in} to {n_out} dimensions; a low-rank "
                f"adapter is square, with a rank from 1 to its dimension."
            )
        down = take(arrays, "down.weight", (rank, n_in))
        return LowRankTransform(down, *_layer(arrays, "up", n_out, rank, bias))

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply the matrix and the bias."""
        return _affine(queries, self._weight, self._bias)


class LowRankTransform:
    """``q' = q + U (D q) + b``."""

    def __init__(self, down: FloatArray, up: FloatArray, bias: FloatArray | None = None) -> None:
        self._down, self._up, self._bias = down, up, bias
        self.query_dim = self.passage_dim = len(up)

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply both matrices and the bias."""
        inner = _affine(queries, self._down, None)
        adapted: FloatArray = queries + _affine(inner, self._up, self._bias)
        return adapted


ACTIVATIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "tanh": np.tanh,
    "sigmoid": lambda x: np.float32(0.5) * (np.tanh(x * np.float32(0.5)) + np.float32(1)),
    # The tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2).
    "gelu": lambda x: (
        np.float32(0.5)
        * x
        * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)))
    ),
}


def require_activation(name: str) -> str:
    """Return the name of an activation, or refuse an unknown one with the closest known."""
    if not isinstance(name, str):
        raise InvalidAdapterError(f"The activation is {name!r}, expected its name, a text.")
    if name not in ACTIVATIONS:
        raise InvalidAdapterError(
            f"Unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}."
            + closest_name(name, ACTIVATIONS)
        )
    return name


class TwoLayerTransform:
    """``q' = skip(q) + s · (W2 f(W1 q + b1) + b2)``, with or without the skip."""

    def __init__(
        self,
        first: tuple[FloatArray, FloatArray | None],
        second: tuple[FloatArray, FloatArray | None],
        activation: str,
        *,
        scale: float = 1.0,
        residual: bool = True,
        skip: FloatArray | None = None,
    ) -> None:
        self._first, self._second = first, second
        self._activation = require_activation(activation)
        self._scale = np.float32(scale)
        self._residual, self._skip = residual, skip
        self.query_dim = first[0].shape[1]
        self.passage_dim = second[0].shape[0]

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from a saved ``TwoLayerAdapter``."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        hidden = dimension(arguments, "hidden_features")
        bias = flag(arguments, "bias", default=True)
        skip = take(arrays, "skip.weight", (n_out, n_in)) if n_in != n_out else None
        return cls(
            _layer(arrays, "linear1", hidden, n_in, bias),
            _layer(arrays, "linear2", n_out, hidden, bias),
            arguments.get("activation", "gelu"),
            skip=skip,
        )

    @classmethod
    def from_two_layer_nn(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from LlamaIndex's ``TwoLayerNN``, whose layers always have a bias."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        hidden = dimension(arguments, "hidden_features")
        residual = flag(arguments, "add_residual")
        # Both are saved whether they are used or not.
        flag(arguments, "bias")
        scale = take(arrays, "residual_weight", (1,))
        if residual and n_in != n_out:
            raise InvalidAdapterError(
                f"The config declares add_residual for {n_in} to {n_out} dimensions; a residual "
                "needs both to be the same."
            )
        return cls(
            _layer(arrays, "linear1", hidden, n_in, bias=True),
            _layer(arrays, "linear2", n_out, hidden, bias=True),
            arguments.get("activation_fn_str", "relu"),
            residual=residual,
            scale=float(scale[0]) if residual else 1.0,
        )

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply both layers and the skip."""
        hidden = ACTIVATIONS[self._activation](_affine(queries, *self._first))
        result = _affine(hidden, *self._second)
        if not self._residual:
            return result
        skipped = queries if self._skip is None else _affine(queries, self._skip, None)
        return np.asarray(skipped + self._scale * result, dtype=np.float32)


class MemoryTransform:
    """``q' = unit(W q) + a · sum_j softmax_j(t · unit(M q) · unit(M k_j)) v_j``.

    The sum runs over the entries ``j`` nearest to the query.
    """

    def __init__(
        self,
        weight: FloatArray,
        key_map: FloatArray,
        keys: FloatArray,
        values: FloatArray,
        *,
        strength: float,
        sharpness: float,
        neighbours: int,
    ) -> None:
        self._weight, self._key_map, self._values = weight, key_map, values
        self._keys = _unit(keys @ key_map.T)
        self._strength, self._sharpness = np.float32(strength), np.float32(sharpness)
        self._neighbours = neighbours
        self.passage_dim, self.query_dim = weight.shape

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> MemoryTransform:
        """Build it from a saved ``MemoryAdapter``."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        entries = dimension(arguments, "entries")
        neighbours = dimension(arguments, "neighbours")
        if neighbours > entries:
            raise InvalidAdapterError(
                f"The config declares {neighbours} neighbours of {entries} entries; expected at "
                "most as many."
            )
        return cls(
            take(arrays, "linear.weight", (n_out, n_in)),
            take(arrays, "key_map.weight", (n_in, n_in)),
            take(arrays, "keys", (entries, n_in)),
            take(arrays, "values", (entries, n_out)),
            strength=math.exp(min(80.0, float(take(arrays, "log_strength", (1,))[0]))),
            sharpness=math.exp(min(80.0, float(take(arrays, "log_sharpness", (1,))[0]))),
            neighbours=neighbours,
        )

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply the linear map and add what is recalled."""
        rows = queries if queries.ndim == 2 else queries[None]
        scores = self._sharpness * (_unit(rows @ self._key_map.T) @ self._keys.T)
        nearest = np.argpartition(scores, -self._neighbours, axis=1)[:, -self._neighbours :]
        best = np.take_along_axis(scores, nearest, axis=1)
        weights = np.exp(best - best.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        recalled = np.matmul(weights[:, None, :], self._values[nearest])[:, 0]
        adapted: FloatArray = _unit(rows @ self._weight.T) + self._strength * recalled
        return adapted if queries.ndim == 2 else adapted[0]


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


def _unit(rows: FloatArray) -> FloatArray:
    units: FloatArray = rows / np.maximum(_lengths(rows), np.float32(1e-12))
    return units


def _layer(
    arrays: Mapping[str, FloatArray], name: str, n_out: int, n_in: int, bias: bool
) -> tuple[FloatArray, FloatArray | None]:
    weight = take(arrays, f"{name}.weight", (n_out, n_in))
    return weight, take(arrays, f"{name}.bias", (n_out,)) if bias else None


def _affine(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    # For one vector numpy's ``@`` takes a slower way than ``dot``.
    result: FloatArray = weight.dot(x) if x.ndim == 1 else x @ weight.T
    return result if bias is None else np.add(result, bias)
