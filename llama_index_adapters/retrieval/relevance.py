"""Which passages answer which query, and how well, as flat integer arrays."""

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
        grades: ``(n_judgements,)`` int64 from 1 on, how well each of them answers; None where
            all answer alike.

    Raises:
        InvalidVectorsError: when they are not that.
    """

    offsets: NDArray[np.int64]
    passages: NDArray[np.int64]
    grades: NDArray[np.int64] | None = None

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
        if self.grades is not None:
            grades = _rows(self.grades, "grades")
            if len(grades) != count or not grades.all():
                raise InvalidVectorsError(
                    f"The relevance has {count} passages and {len(grades)} grades, of which "
                    f"{int((grades == 0).sum())} are 0; expected one from 1 on for each."
                )
            # Passages that answer alike are as if nobody had graded them.
            object.__setattr__(self, "grades", None if (grades == 1).all() else grades)

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[int] | NDArray[np.int64]],
        grades: Sequence[Sequence[int] | NDArray[np.int64]] | None = None,
    ) -> Relevance:
        """Build it from one sequence of passage rows per query.

        Args:
            rows: for each query the rows of its relevant passages.
            grades: for each query a grade for each of these; left out where all answer alike.

        Raises:
            InvalidVectorsError: when that is something else.
        """
        if grades is not None:
            graded = cls.from_rows(grades)
            found = cls.from_rows(rows)
            if not np.array_equal(graded.offsets, found.offsets):
                raise InvalidVectorsError(
                    f"The relevance has {len(found.passages)} passages and {len(graded.passages)} "
                    "grades; expected one for each passage of each query."
                )
            return cls(found.offsets, found.passages, graded.passages)
        try:
            lengths = [len(row) for row in rows]
            passages = [passage for row in rows for passage in row]
        except TypeError as error:
            raise InvalidVectorsError(
                f"The relevance is of type {type(rows).__name__} and is not made of lists "
                f"({error}); expected a list of passage rows for every query."
            ) from error
        return cls(np.cumsum([0, *lengths]), np.asarray(passages or np.zeros(0, np.int64)))

    @classmethod
    def from_pairs(
        cls,
        queries: NDArray[np.int64],
        passages: NDArray[np.int64],
        grades: NDArray[np.int64] | None,
        n_queries: int,
    ) -> Relevance:
        """Build it from ``(n_judgements,)`` query rows, passage rows and grades, in any order.

        Passages of one query stay in the order in which they come.
        """
        order = np.argsort(queries, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(queries, minlength=n_queries))])
        return cls(offsets, passages[order], None if grades is None else grades[order])

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

    @property
    def gains(self) -> NDArray[np.int64]:
        """``(n_judgements,)``: the grade of every entry of :attr:`passages`, 1 without grades."""
        return np.ones(len(self.passages), np.int64) if self.grades is None else self.grades

    def grades_of(self, query: int) -> NDArray[np.int64]:
        """Return the grades of the passages relevant to one query."""
        return self.gains[self.offsets[query] : self.offsets[query + 1]]

    def select(self, queries: NDArray[np.int64]) -> Relevance:
        """Return the relevance of some queries, in the order given."""
        counts = self.counts[queries]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        entries = np.repeat(self.offsets[:-1][queries], counts) + within
        grades = None if self.grades is None else self.grades[entries]
        return Relevance(offsets, self.passages[entries], grades)

    def distinct(self, n_passages: int) -> Relevance:
        """Return each passage of a query once, by its row, with the best of its grades.

        Args:
            n_passages: above every row.
        """
        keys, place = np.unique(self.queries * n_passages + self.passages, return_inverse=True)
        counts = np.bincount(keys // max(n_passages, 1), minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        grades = None
        if self.grades is not None:
            grades = np.zeros(len(keys), np.int64)
            np.maximum.at(grades, place.reshape(-1), self.grades)
        return Relevance(offsets, keys % max(n_passages, 1), grades)


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
