"""What equal passages under different ids do to the metrics of a question set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llama_index_adapters.retrieval.copies import merged
from llama_index_adapters.retrieval.ranking import TopK, metrics_at_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset


@dataclass(frozen=True)
class Copies:
    """Passages that have the vector of another one, and what they cost.

    A ranking cannot tell copies apart, so a label on one of them is won or lost by the order of
    the rows, and each takes a place of its own.

    Attributes:
        passages: how many passages equal an earlier one.
        merged: whether the comparison takes equal passages as one.
        base_cost: by metric, the mean of the base vectors with copies merged, minus that with the
            passages as they are; empty where it was not measured.
        adapted_cost: the same for the adapted vectors.
    """

    passages: int
    merged: bool = False
    base_cost: Mapping[str, float] = field(default_factory=dict)
    adapted_cost: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return {
            "passages": self.passages,
            "merged": self.merged,
            "base_cost": dict(self.base_cost),
            "adapted_cost": dict(self.adapted_cost),
        }


def metrics_with_merged_copies(
    data: VectorDataset, queries: ArrayLike, k: int
) -> dict[str, NDArray[np.float64]]:
    """Score queries over passages of which equal ones are one, relevant if any of them is.

    Args:
        data: passages, relevance and similarity.
        queries: ``(n_queries, passage_dim)``.
        k: how many passages to look at.

    Returns:
        The metrics of every query, as
        :func:`llama_index_adapters.retrieval.ranking.metrics_at_k` gives them.
    """
    asked = np.asarray(queries, dtype=np.float32)
    is_first = data.copies == np.arange(len(data.copies))
    places = min(k, int(np.count_nonzero(is_first)))
    rows = np.empty((len(asked), places), np.int64)
    scores = np.empty((len(asked), places), np.float32)
    pending, wanted = np.arange(len(asked)), 2 * k
    while pending.size:
        # Of equal scores the lower row comes first, so a copy follows what it is a copy of.
        top = data.top_k(asked[pending], wanted)
        kept = is_first[top.passages]
        full = kept.sum(axis=1) >= places
        order = np.argsort(~kept, axis=1, kind="stable")[full, :places]
        rows[pending[full]] = np.take_along_axis(top.passages[full], order, axis=1)
        scores[pending[full]] = np.take_along_axis(top.scores[full], order, axis=1)
        pending, wanted = pending[~full], 4 * wanted
    # Numbered without gaps, as a corpus of its own.
    numbers = np.cumsum(is_first) - 1
    once = merged(data.relevance, data.copies)
    relevance = Relevance(once.offsets, numbers[once.passages])
    return metrics_at_k(TopK(numbers[rows], scores), relevance, k)
