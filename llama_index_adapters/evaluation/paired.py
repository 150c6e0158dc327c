"""Statistics of paired differences between base and adapted, one per query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PerQueryMetrics = Mapping[str, NDArray[np.float64]]

_CELLS_PER_BATCH = 2**20  # resampled differences held at once, 8 bytes each
_SAME = 1e-12  # differences below this are rounding, not another ranking


class Interval(NamedTuple):
    """A mean difference and its confidence interval, in units of the metric."""

    mean: float
    low: float
    high: float


def differences_of(
    base: PerQueryMetrics, adapted: PerQueryMetrics, name: str
) -> NDArray[np.float64]:
    """Return adapted minus base of one metric, ``(n_queries,)``."""
    differences = adapted[name] - base[name]
    return np.where(np.abs(differences) < _SAME, 0.0, differences)


def bootstrap_interval(
    differences: NDArray[np.float64],
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> list[Interval]:
    """Return the mean and the percentile interval of a paired bootstrap of each metric.

    Args:
        differences: ``(n_metrics, n_queries)``.
        confidence: the level of the intervals.
        n_resamples: bootstrap samples.
        generator: draws them.
    """
    from scipy import stats

    n_queries = differences.shape[1]
    means = differences.mean(axis=1)
    if n_queries == 1:
        return [Interval(float(mean), -1.0, 1.0) for mean in means]
    # One call for all metrics, so that every one of them sees the same samples of queries.
    result = stats.bootstrap(
        (differences,),
        np.mean,
        axis=-1,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=n_resamples,
        batch=max(1, _CELLS_PER_BATCH // differences.size),
        rng=generator,
    )
    low, high = result.confidence_interval
    return [Interval(*map(float, gain)) for gain in zip(means, low, high, strict=True)]


def sign_flip_p_value(
    changes: NDArray[np.float64], n_resamples: int, generator: np.random.Generator
) -> float:
    """Return the p-value of a paired randomisation test of ``(n_queries,)`` differences."""
    from scipy import stats

    # A difference of zero is the same with either sign, so it only costs time.
    changed = changes[changes != 0]
    if len(changed) < 2:
        return 1.0  # With one difference, both of its signs are as large.
    result = stats.permutation_test(
        (changed,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, _CELLS_PER_BATCH // len(changed)),
        rng=generator,
    )
    return float(result.pvalue)
