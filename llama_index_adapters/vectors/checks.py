"""Whether what an embedding model returned is one vector per text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import EmbeddingError, InvalidVectorsError


def checked_vectors(vectors: object, count: int) -> NDArray[np.float32]:
    """Return what an embedding model gave for ``count`` texts as ``(count, dim)`` float32.

    Raises:
        EmbeddingError: when it is not one finite, non-zero vector per text, all of one
            dimension.
    """
    try:
        # A float64 beyond float32 becomes infinity, which is refused below.
        with np.errstate(over="ignore"):
            matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        found = _dimensions(vectors) or type(error).__name__
        raise EmbeddingError(
            f"The model returned no matrix of numbers for {count} texts; every vector must be "
            f"a list of numbers, all of one dimension ({found})."
        ) from None  # a model's answer may repeat what it was sent
    if matrix.ndim and len(matrix) != count:
        raise EmbeddingError(f"The model returned {len(matrix)} vectors for {count} texts.")
    if count == 0:
        return np.zeros((0, 0), dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise EmbeddingError(
            f"The model returned an array of shape {matrix.shape} for {count} texts; "
            f"expected ({count}, dimension)."
        )
    not_finite = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if not_finite.size:
        raise EmbeddingError(
            f"The model returned NaN or infinity in {not_finite.size} of {count} vectors."
        )
    zero = np.flatnonzero(~matrix.any(axis=1))
    if zero.size:
        raise EmbeddingError(f"The model returned {zero.size} zero vectors for {count} texts.")
    return matrix


def require_directions(vectors: NDArray[np.float32], name: str) -> None:
    """Refuse query vectors ``(n, dim)`` of zeros, such as a failed request leaves behind.

    Raises:
        InvalidVectorsError: naming their rows.
    """
    zero = np.flatnonzero(~vectors.any(axis=1))
    if zero.size:
        raise InvalidVectorsError(
            f"{name} has {zero.size} of {len(vectors)} query vectors that are all zero, the first "
            f"in rows {zero[:5].tolist()}. They have no direction to compare or to map: embed "
            "those queries again, or leave them out."
        )


def _dimensions(vectors: object) -> str:
    """Name the different lengths of a ragged list, or return an empty text."""
    try:
        lengths = sorted({len(vector) for vector in vectors})  # type: ignore[attr-defined]
    except TypeError:
        return ""
    return f"found dimensions {', '.join(map(str, lengths))}" if len(lengths) > 1 else ""
