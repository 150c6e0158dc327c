"""Choose a map without labels: by how much of the new model's own ranking it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from llama_index_adapters.alignment.maps import Recipe, maps
from llama_index_adapters.checks import seeded_generator
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.vector_dataset import as_matrix

FEWEST = 20
"""Passages that a map needs at least: fewer leave nothing to choose by."""

_FOLDS = 4
_K = 10
_CONFIDENCE = 0.95
_DISCOUNTS = 1 / np.log2(np.arange(2, _K + 2))
_CURVE = (0.25, 0.5, 0.75)


class Kept(NamedTuple):
    """A share of a ranking, and its interval."""

    mean: float
    low: float
    high: float


class Point(NamedTuple):
    """What a map from so many passages keeps."""

    passages: int
    kept: float


@dataclass(frozen=True)
class AlignmentReport:
    """How much of the new model's own ranking a map keeps, on texts that it did not see.

    A text stands for a query. Its own ranking of the passages that the map was not made from is
    the new model's, its mapped ranking that of the mapped vector over the stored ones. The share
    kept is an nDCG@10: the gain of a passage is the square of the new model's own score above its
    mean over the passages, so that 1 means passages as good in that model's eyes as its own first
    ten. An index has more passages than those, and the more there are, the less of a ranking is
    kept.

    Attributes:
        chosen: the map that was taken.
        kept: its share, with a 95% interval by the t distribution over the texts.
        first_found: nDCG@10 of the one passage that the new model has first. Maps are chosen by
            it, because it follows the order of their real gains more closely than ``kept``.
        passages: how many passages both models embedded.
        judged_on: ``"passages"``, or ``"queries"`` where there was a log of them.
        tried: every map with its ``first_found``, the best first.
        curve: the share kept with fewer passages.
        with_thousand_more: what the curve says of a thousand further passages: a line through its
            last points over ``1 / passages``, as the error of a regression shrinks.
    """

    chosen: str
    kept: Kept
    first_found: float
    passages: int
    judged_on: str
    tried: tuple[tuple[str, float], ...] = field(repr=False)
    curve: tuple[Point, ...] = field(repr=False)
    with_thousand_more: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "chosen": self.chosen,
            "kept": self.kept._asdict(),
            "first_found": self.first_found,
            "passages": self.passages,
            "judged_on": self.judged_on,
            "tried": [list(one) for one in self.tried],
            "curve": [point._asdict() for point in self.curve],
            "with_thousand_more": self.with_thousand_more,
        }

    def __str__(self) -> str:
        """Say it in a few lines."""
        grown = ", ".join(f"{point.passages:,}: {point.kept:.3f}" for point in self.curve)
        return (
            f"{self.kept.mean:.1%} of the new model's own ranking is kept (95% interval "
            f"{self.kept.low:.1%} to {self.kept.high:.1%}), judged on {self.judged_on} that the "
            f"map had not seen\n"
            f"map: {self.chosen}, from {self.passages:,} passages\n"
            f"kept by passages: {grown}; with 1,000 more about {self.with_thousand_more:.3f}"
        )


@dataclass(frozen=True, eq=False)
class Alignment:
    """A map of a new model's queries into the space of an index.

    Attributes:
        weight: ``(old_dim, new_dim)``; ``q' = weight @ q`` for a query of unit length.
        report: how good it is.
        by_kind: the best map of each kind, likewise.
    """

    weight: NDArray[np.float32] = field(repr=False)
    report: AlignmentReport
    by_kind: Mapping[str, NDArray[np.float32]] = field(repr=False)


def align(
    new_passages: ArrayLike,
    old_passages: ArrayLike,
    *,
    new_queries: ArrayLike | None = None,
    old_queries: ArrayLike | None = None,
    seed: int = 0,
) -> Alignment:
    """Return the map that keeps most of the new model's own ranking; no labels are needed.

    The maps are those of :mod:`llama_index_adapters.alignment.maps`. Each is made from three
    quarters of the sample and judged on the texts of the last quarter, four times; the best is
    made again from all of it.

    Args:
        new_passages: ``(n, new_dim)`` a sample of passages, as the new model embeds them.
        old_passages: ``(n, old_dim)`` the same passages, as the index has them.
        new_queries: ``(m, new_dim)`` queries without known answers, as the new model embeds them:
            they judge instead of the passages, because they are what will be asked.
        old_queries: ``(m, old_dim)`` the same queries by the old model, where that still answers.
        seed: of the folds.

    Raises:
        InvalidVectorsError: for vectors that do not fit together, or fewer than :data:`FEWEST`.
    """
    new, old = _checked(new_passages, old_passages, "passages")
    if len(new) < FEWEST:
        raise InvalidVectorsError(
            f"{len(new)} passages are too few to align two models; give {FEWEST} or more, better a "
            "thousand."
        )
    sample = _Sample(new, old)
    if new_queries is not None:
        sample = _Sample(new, old, *_checked_queries(new_queries, old_queries, sample))
    judged = _judged(sample, seed)
    chosen = max(judged, key=lambda recipe: judged[recipe].first.mean())
    made = dict(maps(new, old, extra=sample.extra()))
    curve = _curve(sample, chosen, seed)
    best = judged[chosen]
    curve = (*curve, Point(len(new), float(best.kept.mean())))
    ranked = sorted(judged, key=lambda recipe: -judged[recipe].first.mean())
    report = AlignmentReport(
        chosen=str(chosen),
        kept=_interval(best.kept),
        first_found=float(best.first.mean()),
        passages=len(new),
        judged_on="passages" if sample.new_queries is None else "queries",
        tried=tuple((str(recipe), float(judged[recipe].first.mean())) for recipe in ranked),
        curve=curve,
        with_thousand_more=_extrapolated(curve, len(new) + 1000),
    )
    best_of_kind = {recipe.kind: recipe for recipe in reversed(ranked)}
    by_kind = {kind: made[recipe] for kind, recipe in sorted(best_of_kind.items())}
    return Alignment(made[chosen], report, by_kind)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Texts that both models embedded, at unit length."""

    new: FloatArray
    old: FloatArray
    new_queries: FloatArray | None = None
    old_queries: FloatArray | None = None

    def extra(self, kept: NDArray[np.bool_] | None = None) -> tuple[FloatArray, FloatArray] | None:
        """Return queries that the regression may learn from."""
        if self.new_queries is None or self.old_queries is None:
            return None
        rows = slice(None) if kept is None else kept
        return self.new_queries[rows], self.old_queries[rows]


class _Judged(NamedTuple):
    """How each judging text fared."""

    kept: NDArray[np.float64]
    first: NDArray[np.float64]


def _judged(
    sample: _Sample, seed: int, *, size: int | None = None, only: Recipe | None = None
) -> dict[Recipe, _Judged]:
    """Return what texts say of maps that were made without them.

    Args:
        sample: the texts.
        seed: of the folds.
        size: make the maps as from so many passages of the sample; from all when left out.
        only: the map to judge; every one when left out.
    """
    parts: dict[Recipe, list[_Judged]] = {}
    folds = _fold_numbers(len(sample.new), seed)
    most = None if size is None else int(size * (1 - 1 / _FOLDS))
    of_queries = None
    if sample.new_queries is not None:
        of_queries = _fold_numbers(len(sample.new_queries), 0)
    for number in range(_FOLDS):
        held = folds == number
        kept_queries = None if of_queries is None else of_queries != number
        extra = sample.extra(kept_queries)
        unseen = _Sample(sample.new[held], sample.old[held])
        texts, own = unseen.new, np.arange(len(unseen.new))
        if sample.new_queries is not None and kept_queries is not None:
            texts, own = sample.new_queries[~kept_queries], np.zeros(0, np.int64)
        ranking = _OwnRanking(texts, own, unseen)
        rows = np.flatnonzero(~held)[:most]
        for recipe, weight in maps(sample.new[rows], sample.old[rows], extra=extra):
            if only in (None, recipe):
                parts.setdefault(recipe, []).append(ranking.of(weight))
    return {
        recipe: _Judged(*(np.concatenate(column) for column in zip(*found, strict=True)))
        for recipe, found in parts.items()
    }


class _OwnRanking:
    """The new model's own ranking of the passages for some texts.

    Args:
        texts: ``(m, new_dim)``.
        own: ``(m,)`` the row of the passage that each text is, which it must not find; empty for
            queries.
        sample: the passages; none that the map was made from, because the adjoint reproduces the
            scores of those better than of the rest of an index.
    """

    def __init__(self, texts: FloatArray, own: NDArray[np.int64], sample: _Sample) -> None:
        self._texts, self._own, self._old = texts, own, sample.old
        scores = texts @ sample.new.T
        self._gains = np.maximum(0.0, scores - scores.mean(axis=1, keepdims=True)) ** 2
        self._leave_out(self._gains, 0.0)
        self._leave_out(scores, -np.inf)
        self._best = _first(scores)
        ideal = np.take_along_axis(self._gains, self._best, axis=1) @ _discounts(self._best)
        self._ideal = np.where(ideal > 0, ideal, 1.0)

    def of(self, weight: FloatArray) -> _Judged:
        """Return how near the mapped texts come to it."""
        scores = (self._texts @ weight.T) @ self._old.T
        self._leave_out(scores, -np.inf)
        found = _first(scores)
        discounts = _discounts(found)
        kept = (np.take_along_axis(self._gains, found, axis=1) @ discounts) / self._ideal
        kept = np.minimum(kept, 1.0)  # rounding may leave it a hair above
        first = (found == self._best[:, :1]) @ discounts
        return _Judged(kept.astype(np.float64), first.astype(np.float64))

    def _leave_out(self, scores: FloatArray, value: float) -> None:
        if len(self._own):
            scores[np.arange(len(self._own)), self._own] = value


def _first(scores: FloatArray) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :_K]
    return order


def _discounts(found: NDArray[np.int64]) -> NDArray[np.float64]:
    return _DISCOUNTS[: found.shape[1]]


def _curve(sample: _Sample, chosen: Recipe, seed: int) -> tuple[Point, ...]:
    """Return what the chosen map keeps when it is made from part of the sample."""
    sizes = [int(share * len(sample.new)) for share in _CURVE]
    return tuple(
        Point(size, float(_judged(sample, seed, size=size, only=chosen)[chosen].kept.mean()))
        for size in sizes
        if size >= FEWEST
    )


def _extrapolated(curve: Sequence[Point], passages: int) -> float:
    last = curve[-1].kept
    if len(curve) < 2:
        return last
    points = curve[-3:]
    slope, level = np.polyfit([1 / point.passages for point in points], [p.kept for p in points], 1)
    return float(np.clip(level + slope / passages, last, 1.0))


def _interval(values: NDArray[np.float64]) -> Kept:
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Kept(mean, 0.0, 1.0)
    spread = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1) * values.std(ddof=1))
    half = spread / float(np.sqrt(count))
    return Kept(mean, max(0.0, mean - half), min(1.0, mean + half))


def _fold_numbers(count: int, seed: int) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = seeded_generator(seed).permutation(count) % _FOLDS
    return numbers


def _checked(new: ArrayLike, old: ArrayLike, what: str) -> tuple[FloatArray, FloatArray]:
    pair = as_matrix(new, f"new_{what}"), as_matrix(old, f"old_{what}")
    if len(pair[0]) != len(pair[1]):
        raise InvalidVectorsError(
            f"new_{what} has {len(pair[0])} rows and old_{what} {len(pair[1])}; give the vectors "
            "of the same texts in the same order."
        )
    for name, vectors in zip(("new", "old"), pair, strict=True):
        zero = np.flatnonzero(~vectors.any(axis=1))
        if zero.size:
            raise InvalidVectorsError(
                f"{name}_{what} has {zero.size} zero vectors, the first in rows "
                f"{zero[:5].tolist()}. Leave those texts out."
            )
    return unit_rows(pair[0]), unit_rows(pair[1])


def _checked_queries(
    new: ArrayLike, old: ArrayLike | None, sample: _Sample
) -> tuple[FloatArray, FloatArray | None]:
    queries, of_old = _checked(new, new if old is None else old, "queries")
    for vectors, passages, name in ((queries, sample.new, "new"), (of_old, sample.old, "old")):
        if name == "old" and old is None:
            continue
        if vectors.shape[1] != passages.shape[1]:
            raise InvalidVectorsError(
                f"{name}_queries has vectors of {vectors.shape[1]} dimensions, {name}_passages of "
                f"{passages.shape[1]}. Embed both with the same model."
            )
    return queries, None if old is None else of_old
