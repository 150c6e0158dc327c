"""Serving an adapter that remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from llama_index_adapters.adapters.served.arrays import Shapes, dimension, norm, take
from llama_index_adapters.adapters.served.base import unit
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray


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
        with np.errstate(over="ignore", invalid="ignore"):  # such maps are refused by their bound
            self._keys = unit(keys @ key_map.T)
        self._longest_key = norm(keys)
        self._strength, self._sharpness = np.float32(strength), np.float32(sharpness)
        self._neighbours = neighbours
        self.passage_dim, self.query_dim = weight.shape

    @staticmethod
    def shapes(arguments: Mapping[str, Any]) -> Shapes:
        """Return the shapes of a saved ``MemoryAdapter``."""
        n_in, n_out = dimension(arguments, "in_features"), dimension(arguments, "out_features")
        entries = dimension(arguments, "entries")
        return {
            "linear.weight": (n_out, n_in),
            "key_map.weight": (n_in, n_in),
            "keys": (entries, n_in),
            "values": (entries, n_out),
            "log_strength": (1,),
            "log_sharpness": (1,),
        }

    @classmethod
    def from_arrays(
        cls, arguments: Mapping[str, Any], arrays: Mapping[str, FloatArray]
    ) -> MemoryTransform:
        """Build it from a saved ``MemoryAdapter``."""
        shapes = cls.shapes(arguments)
        entries = dimension(arguments, "entries")
        neighbours = dimension(arguments, "neighbours")
        if neighbours > entries:
            raise InvalidAdapterError(
                f"The config declares {neighbours} neighbours of {entries} entries; expected at "
                "most as many."
            )
        return cls(
            take(arrays, "linear.weight", shapes),
            take(arrays, "key_map.weight", shapes),
            take(arrays, "keys", shapes),
            take(arrays, "values", shapes),
            strength=math.exp(min(80.0, float(take(arrays, "log_strength", shapes)[0]))),
            sharpness=math.exp(min(80.0, float(take(arrays, "log_sharpness", shapes)[0]))),
            neighbours=neighbours,
        )

    def bound(self) -> float:
        """Return what no number exceeds that it computes for a query of length one.

        The scores are left out: they are at most the sharpness, which float32 holds.
        """
        recalled = float(self._strength) * norm(self._values)
        mapped_key = norm(self._key_map) * max(1.0, self._longest_key)
        return max(norm(self._weight), mapped_key, norm(self._values), 1.0 + recalled)

    def __call__(self, queries: FloatArray) -> FloatArray:
        """Apply the linear map and add what is recalled."""
        rows = queries if queries.ndim == 2 else queries[None]
        scores = self._sharpness * (unit(rows @ self._key_map.T) @ self._keys.T)
        nearest = np.argpartition(scores, -self._neighbours, axis=1)[:, -self._neighbours :]
        best = np.take_along_axis(scores, nearest, axis=1)
        weights = np.exp(best - best.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        recalled = np.matmul(weights[:, None, :], self._values[nearest])[:, 0]
        adapted: FloatArray = unit(rows @ self._weight.T) + self._strength * recalled
        return adapted if queries.ndim == 2 else adapted[0]
