"""What a search maximises: nDCG@10 on questions about seen and about unseen passages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from llama_index_adapters.training.holdout import lower_end
from llama_index_adapters.training.result import JudgedKinds

# Fewer questions of a kind say too little of it to weigh it by them.
ENOUGH_OF_A_KIND = 20


@dataclass(frozen=True, eq=False)
class Criterion:
    """Weighs the two kinds of held-out questions.

    Its mean is ``(1 - u) · seen + u · unseen``, with ``u`` the share of later questions that are
    expected to be about unseen passages. Where one kind could not be held out, all questions count
    alike.

    Attributes:
        seen: ``(n_queries,)`` whether each held-out question is about a passage that the part
            which was learned from asks about.
        unseen_share: ``u``, from 0 to 1.
    """

    seen: NDArray[np.bool_]
    unseen_share: float

    @property
    def kinds(self) -> JudgedKinds:
        """How many questions of each kind there are, and how they weigh."""
        seen = int(self.seen.sum())
        return JudgedKinds(seen, len(self.seen) - seen, self.unseen_share, ENOUGH_OF_A_KIND)

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return the weighted mean of ``(n_queries,)`` values."""
        return float(sum(weight * values[rows].mean() for weight, rows in self._parts()))

    def error(self, values: NDArray[np.float64]) -> float:
        """Return the standard error of that mean, of a sample with so many of each kind."""
        return float(
            np.sqrt(
                sum(
                    weight**2 * values[rows].var(ddof=1) / rows.sum()
                    for weight, rows in self._parts()
                    if rows.sum() > 1
                )
            )
        )

    def lower_end(self, gains: NDArray[np.float64], certainty: float) -> float:
        """Return the lower end of the one-sided interval of the weighted mean of gains.

        With one kind it is that of the paired t test; with two, the smaller kind that weighs
        anything gives the degrees of freedom, which is on the safe side.
        """
        parts = self._parts()
        if len(parts) == 1:
            return lower_end(gains[parts[0][1]], certainty)
        fewest = min(int(rows.sum()) for _, rows in parts)
        return self.mean(gains) - float(stats.t.ppf(certainty, fewest - 1)) * self.error(gains)

    def loses_on_a_kind(self, gains: NDArray[np.float64], certainty: float) -> bool:
        """Return whether one of two kinds that weigh anything is certainly worse.

        A large gain on one kind does not buy a certain loss on the other.
        """
        parts = self._parts()
        return len(parts) > 1 and any(lower_end(-gains[rows], certainty) > 0 for _, rows in parts)

    def of_unseen(self) -> Criterion:
        """Return the criterion that looks at unseen passages alone, where both kinds are judged."""
        return Criterion(self.seen, 1.0)

    def gain_of(self, gains: NDArray[np.float64], *, seen: bool) -> float | None:
        """Return the mean gain on one kind; None without questions of it."""
        rows = self.seen if seen else ~self.seen
        return float(gains[rows].mean()) if rows.any() else None

    def _parts(self) -> list[tuple[float, NDArray[np.bool_]]]:
        """Return the weight of each kind that has one, and its rows."""
        if not self.kinds.both_judged:
            return [(1.0, np.ones(len(self.seen), bool))]
        parts = [(1 - self.unseen_share, self.seen), (self.unseen_share, ~self.seen)]
        return [(weight, rows) for weight, rows in parts if weight]
