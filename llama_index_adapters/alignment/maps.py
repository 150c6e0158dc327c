"""Ways to map a new model's vectors into an old model's space, none of which needs labels.

Rows are passages that both models embedded: ``a`` in the old space, ``b`` in the new one.

* *regression*: ``q' = M q`` with ``a ≈ M b``, by ridge regression (Hoerl and Kennard, 1970). The
  mapped query is where the old model would have put it: what Drift-Adapter does (arXiv:2509.23471).
* *adjoint*: ``q' = Gᵀ q`` with ``b ≈ G a``. Then ``q'·a = q·(G a) ≈ q·b``: the score of the new
  model itself. It is better where the new model sees what the old one does not.
* *both*: the mean of these two, each scaled so that the passages come out at length 1.
* *whitened*: ``q' = C_a^-1/2 C_ab C_b^-1/2 q`` with ``C_a`` and ``C_b`` the second moments of the
  two sides, each with its ridge, and ``C_ab`` the one across. It lies half way between the
  regression ``C_ab C_b^-1`` and the adjoint ``C_a^-1 C_ab``, and its singular values are canonical
  correlations (Hotelling, 1936), so no direction is blown up.
* *procrustes*: the closest map that keeps angles (Schönemann, 1966).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.arrays import FloatArray

# How much of the mean variance is added to every direction before a regression is solved.
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

_Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """A way to make a map.

    Attributes:
        kind: one of those of the module.
        strength: of the ridge; 0 for procrustes, which has none.
    """

    kind: str
    strength: float = 0.0

    def __str__(self) -> str:
        """Name it, as a report does."""
        return f"{self.kind}, ridge {self.strength:g}" if self.strength else self.kind


def maps(
    new: FloatArray, old: FloatArray, *, extra: tuple[FloatArray, FloatArray] | None = None
) -> Iterator[tuple[Recipe, NDArray[np.float32]]]:
    """Yield every map that is worth a try, the simplest first.

    Args:
        new: ``(n, new_dim)`` passages at unit length, as the new model embeds them.
        old: ``(n, old_dim)`` the same passages, as the index has them.
        extra: further texts of both models, such as queries, for the regression alone.

    Yields:
        A recipe and its ``(old_dim, new_dim)``, scaled so that the passages come out at a mean
        length of 1.
    """
    cross = _product(old, new)
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    yield Recipe("procrustes"), _scaled(left @ right, new)
    seen = (
        [new, old]
        if extra is None
        else [np.concatenate(p) for p in zip((new, old), extra, strict=True)]
    )
    to_old = _Ridge(seen[0], seen[1])
    to_new = _Ridge(old, new)
    of_new = to_old if extra is None else _Ridge(new, old)
    for strength in reversed(STRENGTHS):
        forward = _scaled(to_old.solved(strength), new)
        backward = _scaled(to_new.solved(strength).T, new)
        yield Recipe("regression", strength), forward
        yield Recipe("adjoint", strength), backward
        yield Recipe("both", strength), np.asarray((forward + backward) / 2, np.float32)
        whitened = to_new.whitening(strength) @ cross @ of_new.whitening(strength)
        yield Recipe("whitened", strength), _scaled(whitened, new)


class _Ridge:
    """Ridge regression of ``y`` on ``x``, solved for many strengths at the cost of one."""

    def __init__(self, x: FloatArray, y: FloatArray) -> None:
        self._values, self._directions = np.linalg.eigh(_product(x, x))
        self._crossed = _product(y, x) @ self._directions
        self._mean = self._values.mean()

    def solved(self, strength: float) -> _Matrix:
        """Return ``(y_dim, x_dim)``."""
        shrunk = self._crossed / (self._values + strength * self._mean)
        weight: _Matrix = shrunk @ self._directions.T
        return weight

    def whitening(self, strength: float) -> _Matrix:
        """Return ``(x_dim, x_dim)``, the inverse square root of the second moment of ``x``."""
        shrunk = np.sqrt(self._values.clip(0) + strength * self._mean)
        weight: _Matrix = (self._directions / shrunk) @ self._directions.T
        return weight


def _product(left: FloatArray, right: FloatArray) -> _Matrix:
    product: _Matrix = left.T.astype(np.float64) @ right.astype(np.float64)
    return product


def _scaled(weight: _Matrix, new: FloatArray) -> NDArray[np.float32]:
    length = np.linalg.norm(new @ weight.T.astype(np.float32), axis=1).mean()
    return np.asarray(weight / (length or 1.0), dtype=np.float32)
