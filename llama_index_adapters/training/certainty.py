"""How certain a gain is that was seen on held-out queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def lower_end(gains: NDArray[np.float64], certainty: float) -> float:
    """Return the lower end of the one-sided interval of a mean, by the t distribution.

    Args:
        gains: ``(n_queries,)`` paired differences.
        certainty: how often the mean of all queries lies above it, for example 0.995.

    Returns:
        The lower end; -1 for a single query, which says nothing of how queries differ.
    """
    if len(gains) < 2:
        return -1.0
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean() - stats.t.ppf(certainty, len(gains) - 1) * error)
