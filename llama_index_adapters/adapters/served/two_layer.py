"""Serving two-layer adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from llama_index_adapters.adapters.served.arrays import (
    Shapes,
    affine,
    affine_bound,
    dimension,
    flag,
    layer,
    layer_shapes,
    norm,
    take,
)
from llama_index_adapters.errors import InvalidAdapterError, closest_name
from llama_index_adapters.retrieval.arrays import FloatArray

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu"]
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

    @staticmethod
    def shapes(arguments: Mapping[str, Any]) -> Shapes:
        """Return the shapes of a saved ``TwoLayerAdapter``."""
        bias = flag(arguments, "bias", default=True)
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        layers = _layer_shapes(arguments, bias=bias)
        return layers if n_in == n_out else {**layers, "skip.weight": (n_out, n_in)}

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from a saved ``TwoLayerAdapter``."""
        shapes = cls.shapes(arguments)
        skip = take(arrays, "skip.weight", shapes) if "skip.weight" in shapes else None
        return cls(
            layer(arrays, "linear1", shapes),
            layer(arrays, "linear2", shapes),
            arguments.get("activation", "gelu"),
            skip=skip,
        )

    @staticmethod
    def shapes_of_two_layer_nn(arguments: Mapping[str, Any]) -> Shapes:
        """Return the shapes of LlamaIndex's ``TwoLayerNN``, whose layers always have a bias."""
        # The weight of the residual is saved whether it is used or not.
        return {**_layer_shapes(arguments, bias=True), "residual_weight": (1,)}

    @classmethod
    def from_two_layer_nn(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> TwoLayerTransform:
        """Build it from LlamaIndex's ``TwoLayerNN``."""
        shapes = cls.shapes_of_two_layer_nn(arguments)
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        residual = flag(arguments, "add_residual")
        flag(arguments, "bias")  # saved whether it is used or not
        scale = take(arrays, "residual_weight", shapes)
        if residual and n_in != n_out:
            raise InvalidAdapterError(
                f"The config declares add_residual for {n_in} to {n_out} dimensions; a residual "
                "needs both to be the same."
            )
        return cls(
            layer(arrays, "linear1", shapes),
            layer(arrays, "linear2", shapes),
            arguments.get("activation_fn_str", "relu"),
            residual=residual,
            scale=float(scale[0]) if residual else 1.0,
        )

    def bound(self) -> float:
        """Return what no number exceeds that it computes for a query of length one."""
        hidden = affine_bound(1.0, *self._first)
        # No activation is larger than what goes in, but for sigmoid, which is at most 1.
        activated = max(hidden, math.sqrt(len(self._first[0])))
        second = affine_bound(activated, *self._second)
        if not self._residual:
            return max(hidden, second)
        skipped = 1.0 if self._skip is None else norm(self._skip)
        return max(hidden, second, skipped + abs(float(self._scale)) * second)

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply both layers and the skip."""
        hidden = ACTIVATIONS[self._activation](affine(queries, *self._first))
        result = affine(hidden, *self._second)
        if not self._residual:
            return result
        skipped = queries if self._skip is None else affine(queries, self._skip, None)
        return np.asarray(skipped + self._scale * result, dtype=np.float32)


def _layer_shapes(arguments: Mapping[str, Any], *, bias: bool) -> Shapes:
    n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
    hidden = dimension(arguments, "hidden_features")
    first, second = ("linear1", hidden, n_in, bias), ("linear2", n_out, hidden, bias)
    return {**layer_shapes(*first), **layer_shapes(*second)}
