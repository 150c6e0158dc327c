"""What serves a query: numpy only, one class per built-in adapter family.

A transform is the serving half of an adapter. It is built from the arguments and arrays of
a saved directory, so a process that answers queries never imports torch. The training half
is the torch module of the same kind in :mod:`llama_index_adapters.adapters`; a test holds
the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidAdapterError, closest_name

FloatArray = NDArray[np.float32]


class Transform(Protocol):
    """Maps query vectors into the space of the passages.

    Attributes:
        query_dim: dimension of the vectors that go in.
        passage_dim: dimension of the vectors that come out.
    """

    query_dim: int
    passage_dim: int

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Transform ``(n, query_dim)`` into ``(n, passage_dim)``."""
        ...


def adapt(transform: Transform, queries: FloatArray, *, unit_input: bool = True) -> FloatArray:
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
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    adapted = transform(queries / np.where(lengths > 0, lengths, 1) if unit_input else queries)
    adapted_lengths = np.linalg.norm(adapted, axis=1, keepdims=True)
    adapted = adapted * (lengths / np.where(adapted_lengths > 0, adapted_lengths, 1))
    return np.asarray(adapted, dtype=np.float32)


class IdentityTransform:
    """Leaves every query as it is: the adapter of a run that found no gain."""

    def __init__(self, dim: int) -> None:
        self.query_dim = self.passage_dim = dim

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> IdentityTransform:
        """Build it from a saved adapter."""
        return cls(int(arguments["in_features"]))

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Return the queries."""
        return queries


class LinearTransform:
    """``q' = W q + b``, or ``q' = q + U (D q) + b`` in the low-rank form."""

    def __init__(
        self,
        weight: FloatArray | None,
        bias: FloatArray | None = None,
        *,
        down: FloatArray | None = None,
        up: FloatArray | None = None,
    ) -> None:
        self._weight, self._bias, self._down, self._up = weight, bias, down, up
        first, last = (weight, weight) if weight is not None else (down, up)
        if first is None or last is None:
            raise InvalidAdapterError("A linear transform needs a weight, or both down and up.")
        self.query_dim = first.shape[1]
        self.passage_dim = last.shape[0]

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> LinearTransform:
        """Build it from a saved adapter, refusing arrays of another shape than it declares."""
        n_in, n_out = int(arguments["in_features"]), int(arguments["out_features"])
        rank = arguments.get("rank")
        last = "linear" if rank is None else "up"
        bias = take(arrays, f"{last}.bias", (n_out,)) if arguments.get("bias") else None
        if rank is None:
            return cls(take(arrays, "linear.weight", (n_out, n_in)), bias)
        return cls(
            None,
            bias,
            down=take(arrays, "down.weight", (int(rank), n_in)),
            up=take(arrays, "up.weight", (n_out, int(rank))),
        )

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply the matrix and the bias."""
        if self._weight is not None:
            result = queries @ self._weight.T
        else:
            assert self._down is not None
            assert self._up is not None
            result = queries + (queries @ self._down.T) @ self._up.T
        return result if self._bias is None else result + self._bias


ACTIVATIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "tanh": np.tanh,
    "sigmoid": lambda x: np.float32(0.5) * (np.tanh(x * np.float32(0.5)) + np.float32(1)),
    # The tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2).
    "gelu": lambda x: (
        np.float32(0.5)
        * x
        * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))
    ),
}


def require_activation(name: str) -> str:
    """Return the name of an activation, or refuse an unknown one with the closest known."""
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
        self._activation = ACTIVATIONS[require_activation(activation)]
        self._scale = np.float32(scale)
        self._residual, self._skip = residual, skip
        self.query_dim = first[0].shape[1]
        self.passage_dim = second[0].shape[0]

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from a saved ``TwoLayerAdapter``."""
        n_in, n_out = int(arguments["in_features"]), int(arguments["out_features"])
        hidden, bias = int(arguments["hidden_features"]), bool(arguments.get("bias", True))
        skip = take(arrays, "skip.weight", (n_out, n_in)) if n_in != n_out else None
        return cls(
            _layer(arrays, "linear1", hidden, n_in, bias),
            _layer(arrays, "linear2", n_out, hidden, bias),
            str(arguments["activation"]),
            skip=skip,
        )

    @classmethod
    def from_two_layer_nn(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from LlamaIndex's ``TwoLayerNN``, whose layers always have a bias."""
        n_in, n_out = int(arguments["in_features"]), int(arguments["out_features"])
        hidden = int(arguments["hidden_features"])
        residual = bool(arguments.get("add_residual", False))
        return cls(
            _layer(arrays, "linear1", hidden, n_in, bias=True),
            _layer(arrays, "linear2", n_out, hidden, bias=True),
            str(arguments.get("activation_fn_str", "relu")),
            residual=residual,
            scale=float(take(arrays, "residual_weight", (1,))[0]) if residual else 1.0,
        )

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply both layers and the skip."""
        result = _affine(self._activation(_affine(queries, self._first)), self._second)
        if not self._residual:
            return result
        skipped = queries if self._skip is None else queries @ self._skip.T
        return np.asarray(skipped + self._scale * result, dtype=np.float32)


def take(arrays: Mapping[str, FloatArray], name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return a saved array as float32, refusing one that is missing or has another shape."""
    if name not in arrays:
        raise InvalidAdapterError(
            f"The adapter has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'none'}."
        )
    array = np.ascontiguousarray(arrays[name], dtype=np.float32)
    if array.shape != shape:
        raise InvalidAdapterError(
            f"The adapter's array {name!r} has shape {array.shape}, its config says {shape}."
        )
    return array


def _layer(
    arrays: Mapping[str, FloatArray], name: str, n_out: int, n_in: int, bias: bool
) -> tuple[FloatArray, FloatArray | None]:
    weight = take(arrays, f"{name}.weight", (n_out, n_in))
    return weight, take(arrays, f"{name}.bias", (n_out,)) if bias else None


def _affine(x: FloatArray, layer: tuple[FloatArray, FloatArray | None]) -> FloatArray:
    weight, bias = layer
    result = x @ weight.T
    return result if bias is None else result + bias
