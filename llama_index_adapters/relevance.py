"""Which passages answer which query, as two flat integer arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Relevance:
    """Relevant passages of every query, in compressed sparse row form.

    The passages relevant to query ``i`` are ``passages[offsets[i]:offsets[i + 1]]``.
    This keeps a million judgements in two arrays instead of a million lists.

    Attributes:
        offsets: ``(n_queries + 1,)`` int64, starting with 0, never decreasing.
        passages: ``(n_judgements,)`` int64 rows of the passage matrix.
    """

    offsets: NDArray[np.int64]
    passages: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | NDArray[np.int64]]) -> Relevance:
        """Build it from one sequence of passage rows per query."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        flat = np.fromiter(
            (passage for row in rows for passage in row), dtype=np.int64, count=int(offsets[-1])
        )
        return cls(offsets, flat)

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
