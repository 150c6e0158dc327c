"""Which passages answer which query, as two flat integer arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidVectorsError


@dataclass(frozen=True)
class Relevance:
    """Relevant passages of every query, in compressed sparse row form.

    The passages relevant to query ``i`` are ``passages[offsets[i]:offsets[i + 1]]``.
    This keeps a million judgements in two arrays instead of a million lists.

    Attributes:
        offsets: ``(n_queries + 1,)`` int64, starting with 0, never decreasing.
        passages: ``(n_judgements,)`` int64 rows of the passage matrix.

    Raises:
        InvalidVectorsError: when the two are not that.
    """

    offsets: NDArray[np.int64]
    passages: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse arrays that do not describe relevance."""
        object.__setattr__(self, "offsets", _rows(self.offsets, "offsets"))
        object.__setattr__(self, "passages", _rows(self.passages, "passages"))
        offsets, count = self.offsets, len(self.passages)
        if not len(offsets) or offsets[0] or offsets[-1] != count or (np.diff(offsets) < 0).any():
            raise InvalidVectorsError(
                f"offsets do not divide {count} passages among queries; expected numbers from 0 "
                f"to {count} that never fall, one more than there are queries."
            )

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | NDArray[np.int64]]) -> Relevance:
        """Build it from one sequence of passage rows per query.

        Raises:
            InvalidVectorsError: when that is something else.
        """
        try:
            lengths = [len(row) for row in rows]
            passages = [passage for row in rows for passage in row]
        except TypeError as error:
            raise InvalidVectorsError(
                f"The relevance is of type {type(rows).__name__} and is not made of lists "
                f"({error}); expected a list of passage rows for every query."
            ) from error
        return cls(np.cumsum([0, *lengths]), np.asarray(passages or np.zeros(0, np.int64)))

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> NDArray[np.int64]:
        """Return the passage rows relevant to one query."""
        return self.passages[self.offsets[query] : self.offsets[query + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Iterate over the queries' passage rows."""
        return (self[query] for query in range(len(self)))

    @property
    def counts(self) -> NDArray[np.int64]:
        """``(n_queries,)``: how many passages are relevant to each query."""
        return np.diff(self.offsets)

    @property
    def queries(self) -> NDArray[np.int64]:
        """``(n_judgements,)``: the query row of every entry of :attr:`passages`."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def select(self, queries: NDArray[np.int64]) -> Relevance:
        """Return the relevance of some queries, in the order given."""
        return Relevance.from_rows([self[int(query)] for query in queries])


def _rows(numbers: Any, name: str) -> NDArray[np.int64]:
    """Return whole numbers from 0 on as ``(n,)`` int64."""
    try:
        array = np.asarray(numbers)
    except ValueError:
        array = np.empty(0, object)
    whole = array.dtype.kind in "iu" or (not array.size and array.dtype.kind == "f")
    if array.ndim != 1 or not whole or (array.size and array.min() < 0):
        raise InvalidVectorsError(
            f"{name} of the relevance has shape {array.shape} and type {array.dtype}; expected "
            "rows: whole numbers from 0 on."
        )
    return array.astype(np.int64, copy=False)
