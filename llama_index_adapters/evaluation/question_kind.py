"""Base and adapted on one kind of question: about seen, or about unseen passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.evaluation.paired import (
    Interval,
    PerQueryMetrics,
    bootstrap_interval,
    differences_of,
)


@dataclass(frozen=True)
class QuestionKind:
    """What an adapter changed on some of the queries.

    Attributes:
        queries: how many there are; without any, the other attributes are empty.
        base: the mean over these queries of each metric, for the base vectors.
        adapted: the same for the adapted vectors.
        gains: adapted minus base for each metric, with its interval.
    """

    queries: int
    base: Mapping[str, float] = field(default_factory=dict)
    adapted: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Interval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return {
            "queries": self.queries,
            "base": dict(self.base),
            "adapted": dict(self.adapted),
            "gains": {name: gain._asdict() for name, gain in self.gains.items()},
        }


def kind_of_questions(
    base: PerQueryMetrics,
    adapted: PerQueryMetrics,
    rows: NDArray[np.bool_],
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> QuestionKind:
    """Return base and adapted on the queries marked in ``rows`` (``(n_queries,)``)."""
    count = int(rows.sum())
    if not count:
        return QuestionKind(0)
    differences = np.stack([differences_of(base, adapted, name)[rows] for name in base])
    intervals = bootstrap_interval(differences, confidence, n_resamples, generator)
    before, after = (
        {name: float(values[rows].mean()) for name, values in metrics.items()}
        for metrics in (base, adapted)
    )
    return QuestionKind(count, before, after, dict(zip(base, intervals, strict=True)))
