"""Base against adapted on the same queries, with the uncertainty of the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llama_index_adapters.checks import require_number, require_whole, seeded_generator
from llama_index_adapters.display.html import table as html_table
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.evaluation.copies import Copies, metrics_with_merged_copies
from llama_index_adapters.evaluation.paired import (
    Interval,
    PerQueryMetrics,
    bootstrap_interval,
    differences_of,
    sign_flip_p_value,
)
from llama_index_adapters.evaluation.question_kind import QuestionKind, kind_of_questions
from llama_index_adapters.retrieval.ranking import mean_metrics, metrics_at_k
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

if TYPE_CHECKING:
    from rich.table import Table

BaseIs = Literal["model", "map without labels"]
_BASE_TEXTS = {
    "model": "",
    "map without labels": "\nbase: the queries' model mapped without labels, since the index's "
    "own is not asked",
}

_LABELS = {"hit_rate": "hit rate", "mrr": "MRR", "ndcg": "nDCG", "map": "MAP"}


class PerQuery(NamedTuple):
    """Metrics of every query: name to an array ``(n_queries,)``."""

    base: PerQueryMetrics
    adapted: PerQueryMetrics


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What an adapter changed, on the queries it was asked about.

    Attributes:
        base: the mean over queries of each metric, for the base vectors.
        adapted: the same for the adapted vectors.
        gains: adapted minus base for each metric, with its interval.
        p_value: how often a difference in nDCG at least this large, in either direction,
            comes up when base and adapted are swapped at random query by query.
        wins: queries whose nDCG rose.
        losses: queries whose nDCG fell.
        ties: queries whose nDCG stayed the same.
        confidence: the level of the intervals, such as 0.95.
        metric: the key of the nDCG that ``p_value``, ``wins``, ``losses``, ``ties``,
            :meth:`worst` and :meth:`best` look at, such as ``"ndcg@10"``.
        per_query: the metrics of every query, base and adapted.
        copies: how many passages equal another one, and what that costs; None where only metrics
            were compared.
        base_is: what the base vectors are: those of the index's own model, or of a map without
            labels where that model is not asked.
        seen: the queries about passages that training asked about: any of its relevant passages,
            or one with an equal vector. None where that is unknown.
        unseen: the other queries; likewise.
    """

    base: dict[str, float]
    adapted: dict[str, float]
    gains: dict[str, Interval]
    p_value: float
    wins: int
    losses: int
    ties: int
    confidence: float
    metric: str
    per_query: PerQuery = field(repr=False)
    copies: Copies | None = None
    base_is: BaseIs = "model"
    seen: QuestionKind | None = None
    unseen: QuestionKind | None = None

    def worst(self, n: int = 10) -> NDArray[np.int64]:
        """Return the rows of at most ``n`` queries whose nDCG fell, the largest loss first."""
        return self._largest(-self._changes(), n)

    def best(self, n: int = 10) -> NDArray[np.int64]:
        """Return the rows of at most ``n`` queries whose nDCG rose, the largest gain first."""
        return self._largest(self._changes(), n)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but :attr:`per_query` as plain numbers, ready for JSON."""
        return {
            "base": dict(self.base),
            "adapted": dict(self.adapted),
            "gains": {name: gain._asdict() for name, gain in self.gains.items()},
            "confidence": self.confidence,
            "metric": self.metric,
            "p_value": self.p_value,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "copies": None if self.copies is None else self.copies.to_dict(),
            "base_is": self.base_is,
            **self.kinds_to_dict(),
        }

    def kinds_to_dict(self) -> dict[str, Any]:
        """Return :attr:`seen` and :attr:`unseen` as plain values, None where they are unknown."""
        kinds = {"seen": self.seen, "unseen": self.unseen}
        return {name: None if kind is None else kind.to_dict() for name, kind in kinds.items()}

    def table(self, base: str = "base", adapted: str = "adapted") -> Table:
        """Return a table of base, adapted, gain and its interval, one row per metric.

        Args:
            base: the heading of the first column of figures.
            adapted: the heading of the second.
        """
        from rich import box
        from rich.table import Table

        queries = self.wins + self.losses + self.ties
        table = Table(
            box=box.SIMPLE,
            caption=(
                f"{queries:,} queries, {_label(self.metric)}: {self.wins:,} better, "
                f"{self.losses:,} worse, {self.ties:,} the same\n"
                f"paired randomisation test: p {_p_text(self.p_value)}"
                f"{self._copies_text(base, adapted)}{_BASE_TEXTS[self.base_is]}\n"
                f"{self._kinds_text()}"
            ),
            caption_justify="left",
        )
        table.add_column("metric", no_wrap=True)
        for heading in (base, adapted, "gain", f"{self.confidence * 100:g}% interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, gain in self.gains.items():
            table.add_row(_label(name), *_figures(self.base[name], self.adapted[name], gain))
        for word, kind in (("seen", self.seen), ("unseen", self.unseen)):
            if kind is not None and kind.queries:
                before, after = kind.base[self.metric], kind.adapted[self.metric]
                figures = _figures(before, after, kind.gains[self.metric])
                table.add_row(f"{_label(self.metric)}, {word}", *figures)
        return table

    def __repr__(self) -> str:
        """Say in one line how many queries there are and what was gained."""
        before, after = self.base[self.metric], self.adapted[self.metric]
        gain = self.gains[self.metric]
        return (
            f"Comparison({len(self._changes()):,} queries, {self.metric} {before:.4f} -> "
            f"{after:.4f}, gain {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}))"
        )

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return self.html()

    def html(self, base: str = "base", adapted: str = "adapted") -> str:
        """Return the table as HTML, with the headings of :meth:`table`."""
        shown = self.table(base, adapted)
        columns = [list(map(str, column.cells)) for column in shown.columns]
        heads = [str(column.header) for column in shown.columns]
        return html_table(heads, zip(*columns, strict=True), *str(shown.caption).splitlines())

    def __str__(self) -> str:
        """Return the table as plain ASCII text, at most 80 columns wide."""
        return self.text()

    def text(self, base: str = "base", adapted: str = "adapted") -> str:
        """Return the table as plain ASCII text, with the headings of :meth:`table`."""
        from rich import box
        from rich.console import Console

        table = self.table(base, adapted)
        table.box = box.MARKDOWN
        text = StringIO()
        Console(file=text, width=80, color_system=None, force_jupyter=False).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().split("\n")).strip()

    def _copies_text(self, base: str, adapted: str) -> str:
        copies = self.copies
        if copies is None or not copies.passages:
            return ""
        text = f"\n{copies.passages:,} passages are copies of others"
        costs = copies.base_cost.get(self.metric), copies.adapted_cost.get(self.metric)
        if None in costs:
            return f"{text}."
        text += " and merged; apart they\nwould cost" if copies.merged else ", which costs\n"
        return (
            f"{text} {costs[0]:.4f} ({base}) and {costs[1]:.4f} ({adapted}) {_label(self.metric)}"
        )

    def _kinds_text(self) -> str:
        if self.seen is None or self.unseen is None:
            return "seen and unseen: unknown, which passages training asked about"
        return (
            f"seen: {self.seen.queries:,} about passages training asked about; "
            f"unseen: {self.unseen.queries:,} others"
        )

    def _changes(self) -> NDArray[np.float64]:
        return differences_of(self.per_query.base, self.per_query.adapted, self.metric)

    @staticmethod
    def _largest(changes: NDArray[np.float64], n: int) -> NDArray[np.int64]:
        order = np.argsort(-changes, kind="stable")
        return order[changes[order] > 0][:n].astype(np.int64)


def compare(
    base: PerQueryMetrics,
    adapted: PerQueryMetrics,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seen: ArrayLike | None = None,
) -> Comparison:
    """Compare two rankings of the same queries, metric by metric.

    Intervals are percentile intervals of a paired bootstrap (Efron and Tibshirani, An
    Introduction to the Bootstrap, chapter 13): queries are drawn with replacement, each with
    its difference between adapted and base. The p-value is that of a paired randomisation
    test, recommended for retrieval by Smucker, Allan and Carterette (CIKM 2007); it is exact
    when all sign flips are fewer than ``n_resamples``.

    The resampling unit is the query. Queries that ask about the same passages are not quite
    independent, so where many do, the intervals are somewhat too narrow. A single query says
    nothing about others: its intervals reach from -1 to 1, all that a metric can change.

    Args:
        base: per-query metrics of the base vectors, as
            :func:`llama_index_adapters.retrieval.ranking.metrics_at_k` gives them.
        adapted: the same metrics of the same queries in the same order, adapted.
        seed: the same seed gives the same numbers.
        confidence: the level of the intervals, above 0 and below 1.
        n_resamples: bootstrap samples and sign flips to draw.
        seen: ``(n_queries,)`` whether each query is about a passage that training asked about;
            None where that is unknown.

    Returns:
        The comparison, on the metrics given.

    Raises:
        InvalidVectorsError: when the two do not hold the same metrics of as many queries,
            or not exactly one nDCG, or ``seen`` is not one truth value for each query.
        InvalidOptionError: for an impossible ``confidence``, ``n_resamples`` or ``seed``.
    """
    require_number(confidence, "confidence", above=0, below=1)
    require_whole(n_resamples, "n_resamples")
    metric = _checked_metric(base, adapted)
    base_means, adapted_means = mean_metrics(base), mean_metrics(adapted)
    differences = np.stack([differences_of(base, adapted, name) for name in base])
    generator = seeded_generator(seed)
    intervals = bootstrap_interval(differences, confidence, n_resamples, generator)
    changes = differences[list(base).index(metric)]
    p_value = sign_flip_p_value(changes, n_resamples, generator)
    kinds: dict[str, QuestionKind] = {}
    if seen is not None:
        among = _checked_seen(seen, len(changes))
        kinds = {
            name: kind_of_questions(
                base, adapted, rows, confidence, n_resamples, seeded_generator(seed)
            )
            for name, rows in (("seen", among), ("unseen", ~among))
        }
    return Comparison(
        base=base_means,
        adapted=adapted_means,
        gains=dict(zip(base, intervals, strict=True)),
        p_value=p_value,
        wins=int((changes > 0).sum()),
        losses=int((changes < 0).sum()),
        ties=int((changes == 0).sum()),
        confidence=confidence,
        metric=metric,
        per_query=PerQuery(dict(base), dict(adapted)),
        seen=kinds.get("seen"),
        unseen=kinds.get("unseen"),
    )


def by_quality(comparisons: Mapping[str, Comparison]) -> list[tuple[str, Comparison]]:
    """Return comparisons on the same questions, that with the highest adapted nDCG first."""
    return sorted(comparisons.items(), key=lambda named: -named[1].adapted[named[1].metric])


def compare_queries(
    data: VectorDataset,
    adapted_queries: ArrayLike,
    *,
    base_queries: ArrayLike | None = None,
    base_passages: ArrayLike | None = None,
    adapted_passages: ArrayLike | None = None,
    k: int = 10,
    seed: int = 0,
    merge_copies: bool = False,
    seen: ArrayLike | None = None,
) -> Comparison:
    """Rank the corpus for base and adapted query vectors and compare the two rankings.

    Args:
        data: passages, relevance, similarity, and the base query vectors.
        adapted_queries: ``(n_queries, passage_dim)``, in the order of ``data.queries``.
        base_queries: ``(n_queries, passage_dim)`` to compare with instead of
            ``data.base_queries``. Needed where queries come from other models than the passages:
            such queries rank nothing before they are adapted, so there is no base.
        base_passages: ``(n_passages, dim)`` what the base queries rank instead of
            ``data.passages``.
        adapted_passages: the same for the adapted queries, of an adapter that maps passages too.
        k: how many passages to look at.
        seed: the same seed gives the same numbers.
        merge_copies: take passages with equal vectors as one, which is relevant when one of them
            is. By default every passage is ranked by itself, as trec_eval does; what that costs is
            in the comparison's ``copies`` either way.
        seen: ``(n_queries,)`` whether each query is about a passage that training asked about, as
            :meth:`llama_index_adapters.retrieval.asked_passages.AskedPassages.seen_by` says;
            None where that is unknown.

    Returns:
        The comparison at ``k``, on every metric of
        :data:`llama_index_adapters.retrieval.ranking.METRICS`.

    Raises:
        InvalidVectorsError: for vectors that do not fit the data, or no base to compare with.
    """
    if base_queries is None:
        base_queries = data.base_queries
        if base_queries is None:
            raise InvalidVectorsError(
                f"The queries, of dimension {data.queries.shape[1]}, do not come from the model "
                "of the passages, so they rank nothing before they are adapted. Pass base_queries "
                f"of dimension {data.passages.shape[1]}, or score the adapted queries alone with "
                "ranking.metrics_at_k."
            )
    asked = [
        (data if passages is None else over_passages(data, passages, queries), queries)
        for queries, passages in (
            (base_queries, base_passages),
            (adapted_queries, adapted_passages),
        )
    ]
    as_they_are = [metrics_at_k(one.top_k(queries, k), one.relevance, k) for one, queries in asked]
    merged = as_they_are
    if data.n_copies:
        merged = [metrics_with_merged_copies(one, queries, k) for one, queries in asked]
    costs = [
        {name: mean - apart[name] for name, mean in mean_metrics(one).items()}
        for one, apart in zip(merged, map(mean_metrics, as_they_are), strict=True)
    ]
    comparison = compare(*(merged if merge_copies else as_they_are), seed=seed, seen=seen)
    return replace(comparison, copies=Copies(data.n_copies, merge_copies, *costs))


def over_passages(data: VectorDataset, passages: ArrayLike, queries: ArrayLike) -> VectorDataset:
    """Return the same questions with both sides mapped into another space."""
    mapped = np.asarray(passages, np.float32), np.asarray(queries, np.float32)
    return replace(data, passages=mapped[0], queries=mapped[1], blocks=(), search=None)


def _checked_metric(base: PerQueryMetrics, adapted: PerQueryMetrics) -> str:
    if set(base) != set(adapted):
        raise InvalidVectorsError(
            f"base has the metrics {', '.join(base)} and adapted {', '.join(adapted)}; "
            f"compare the same metrics."
        )
    sizes = {values.shape for metrics in (base, adapted) for values in metrics.values()}
    if len(sizes) > 1:
        raise InvalidVectorsError(
            f"The metrics are of different queries, their shapes are {sorted(sizes)}; "
            f"give one value per query, for the same queries."
        )
    ndcgs = [name for name in base if name.startswith("ndcg@")]
    if len(ndcgs) != 1:
        raise InvalidVectorsError(
            f"Found {len(ndcgs)} nDCG metrics among {', '.join(base) or 'none'}; wins, losses and "
            f"the p-value need exactly one, such as 'ndcg@10'."
        )
    return ndcgs[0]


def _checked_seen(seen: ArrayLike, n_queries: int) -> NDArray[np.bool_]:
    array = np.asarray(seen)
    if array.dtype != bool or array.shape != (n_queries,):
        raise InvalidVectorsError(
            f"seen has shape {array.shape} and type {array.dtype}; expected True or False for "
            f"each of the {n_queries} queries."
        )
    return array


def _figures(base: float, adapted: float, gain: Interval) -> tuple[str, str, str, str]:
    interval = f"{gain.low:+.4f} to {gain.high:+.4f}"
    return f"{base:.4f}", f"{adapted:.4f}", f"{gain.mean:+.4f}", interval


def _label(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{_LABELS.get(name, name)}@{k}"


def _p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
