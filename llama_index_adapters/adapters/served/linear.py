"""Serving linear adapters: full, low-rank, and the identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray


class IdentityTransform:
    """Leaves every query as it is: the adapter of a run that found no gain."""

    def __init__(self, dim: int) -> None:
        self.query_dim = self.passage_dim = dim

    @staticmethod
    def shapes(arguments: Mapping[str, Any]) -> Shapes:
        """Return no shapes: it has no arrays."""
        return {}

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> IdentityTransform:
        """Build it from a saved adapter."""
        return cls(dimension(arguments, "in_features"))

    def bound(self) -> float:
        """Return the length of the query."""
        return 1.0

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Return the queries."""
        return queries


class LinearTransform:
    """``q' = W q + b``."""

    def __init__(self, weight: FloatArray, bias: FloatArray | None = None) -> None:
        self._weight, self._bias = weight, bias
        self.passage_dim, self.query_dim = weight.shape

    @staticmethod
    def shapes(arguments: Mapping[str, Any]) -> Shapes:
        """Return the shapes of a saved ``LinearAdapter``, with a rank or without."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        bias = flag(arguments, "bias")
        if arguments.get("rank") is None:
            return layer_shapes("linear", n_out, n_in, bias)
        rank = dimension(arguments, "rank")
        if n_in != n_out or rank > n_in:
            raise InvalidAdapterError(
                f"The config declares rank {rank} for {n_in} to {n_out} dimensions; a low-rank "
                f"adapter is square, with a rank from 1 to its dimension."
            )
        return {"down.weight": (rank, n_in), **layer_shapes("up", n_out, rank, bias)}

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> LinearTransform | LowRankTransform:
        """Build it from a saved ``LinearAdapter``; one with a rank gives the low-rank form."""
        shapes = cls.shapes(arguments)
        if arguments.get("rank") is None:
            return cls(*layer(arrays, "linear", shapes))
        return LowRankTransform(take(arrays, "down.weight", shapes), *layer(arrays, "up", shapes))

    def bound(self) -> float:
        """Return what no number exceeds that it computes for a query of length one."""
        return affine_bound(1.0, self._weight, self._bias)

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply the matrix and the bias."""
        return affine(queries, self._weight, self._bias)


class LowRankTransform:
    """``q' = q + U (D q) + b``."""

    def __init__(self, down: FloatArray, up: FloatArray, bias: FloatArray | None = None) -> None:
        self._down, self._up, self._bias = down, up, bias
        self.query_dim = self.passage_dim = len(up)

    def bound(self) -> float:
        """Return what no number exceeds that it computes for a query of length one."""
        inner = norm(self._down)
        return max(inner, 1.0 + affine_bound(inner, self._up, self._bias))

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply both matrices and the bias."""
        inner = affine(queries, self._down, None)
        adapted: FloatArray = queries + affine(inner, self._up, self._bias)
        return adapted
