"""What every served adapter is: a map of query vectors, in numpy alone.

A transform is the serving half of an adapter. It is built from the arguments and arrays of
a saved directory, so a process that answers queries never imports torch. The training half
is the torch module of the same kind in :mod:`llama_index_adapters.adapters.learned`; a test
holds the two equal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.arrays import FloatArray

# Lengths below it count as zero; small enough to divide by without an overflow that matters.
_TINY = np.float32(1e-30)
# The shortest vector whose direction is served: float32 keeps its digits when it is squared.
SHORTEST = 1e-15
_SHORTEST_SQUARED = SHORTEST**2


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


class BuiltInTransform(Transform, Protocol):
    """The numpy half of a built-in family."""

    def bound(self) -> float:
        """Return what no number exceeds that it computes for a query of length one."""
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
    lengths = row_lengths(queries)
    adapted = transform(queries / np.maximum(lengths, _TINY) if unit_input else queries)
    return np.asarray(
        adapted * (lengths / np.maximum(row_lengths(adapted), _TINY)), dtype=np.float32
    )


def adapt_vector(
    transform: Transform, query: FloatArray, length: float, *, unit_input: bool = True
) -> FloatArray:
    """Do what :func:`adapt` does to a single vector ``(query_dim,)``, in a third of the overhead.

    This is what every served query pays, so lengths are plain floats here.

    Args:
        transform: the adapter to apply.
        query: a vector of the base model.
        length: its length, which the caller has computed and found to be at least
            :data:`SHORTEST`.
        unit_input: as for :func:`adapt`.

    Returns:
        ``(passage_dim,)`` float32, finite and not zero.

    Raises:
        InvalidAdapterError: when the transform gives a vector that has no direction, or NaN or
            infinity.
    """
    adapted = transform(query / length if unit_input else query)
    squared = adapted.dot(adapted)
    if not _SHORTEST_SQUARED <= squared < math.inf:
        raise without_direction()
    scaled: FloatArray = adapted * (length / math.sqrt(squared))
    return scaled


def without_direction() -> InvalidAdapterError:
    """Return the error for an adapter that gives nothing to search with."""
    return InvalidAdapterError(
        "The adapter turned a query vector into one that is zero or not finite, which finds "
        "nothing. Train it again, or use the base model."
    )


def have_direction(vectors: FloatArray) -> bool:
    """Return whether all of ``(n, dim)`` vectors are finite and not zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = row_lengths(vectors)
    return bool(((lengths >= SHORTEST) & (lengths < np.inf)).all())


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


def row_lengths(vectors: FloatArray) -> FloatArray:
    """Return the lengths of ``(n, dim)`` vectors, ``(n, 1)``."""
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return lengths


def unit(rows: FloatArray) -> FloatArray:
    """Return ``(n, dim)`` vectors at length 1; zero vectors stay zero."""
    units: FloatArray = rows / np.maximum(row_lengths(rows), np.float32(1e-12))
    return units
