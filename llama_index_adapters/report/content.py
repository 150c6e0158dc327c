"""What stands on the page, as plain values for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.evaluation.paired import Interval
from llama_index_adapters.report import plots
from llama_index_adapters.report.measure import (
    DEPTH,
    K,
    Measured,
    most_changed,
    most_frequent_passages,
)
from llama_index_adapters.report.texts import Texts
from llama_index_adapters.retrieval.ranking import METRICS
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.version import __version__

LABELS = {
    "hit_rate": "Hit rate",
    "mrr": "MRR",
    "ndcg": "nDCG",
    "recall": "Recall",
    "precision": "Precision",
    "map": "MAP",
}


def content_of(
    models: Mapping[str, AdapterEmbeddingModel],
    measured: Mapping[str, Measured],
    texts: Texts,
    count: int,
    finetuned: Any,
) -> dict[str, Any]:
    """Return everything the template names.

    Args:
        models: the adapted models, the first of which is shown in detail.
        measured: what was measured of each.
        texts: what stands for questions and passages.
        count: how many of the most improved, and of the most worsened, questions to show.
        finetuned: what training gave, or None.
    """
    name, first = next(iter(measured.items()))
    model = models[name]
    comparison = first.comparison
    drawn = {"by-k": plots.metric_plot(first.by_k, "by-k")}
    names = [texts.question(row) for row in range(len(first.data.queries))]
    drawn["map"], points, share = plots.map_plot(first, names, "map")
    history = (
        [] if finetuned is None else [r for r in finetuned.history if r.validation is not None]
    )
    if len(history) > 1:
        drawn["history"] = plots.history_plot(history, "history")
    better, worse = most_changed(first, count)
    return {
        "version": __version__,
        "name": name,
        "kind": model.adapter_kind,
        "maps_passages": model.maps_passages,
        "base_model": _models_of(model),
        "sentence": gain_sentence(comparison),
        "certainty": certainty_sentence(comparison),
        "comparison": comparison,
        "metric": comparison.metric,
        "n_questions": len(first.data.queries),
        "n_passages": len(first.data.passages),
        "metrics": [_row(comparison, f"{metric}@{K}", LABELS[metric]) for metric in METRICS],
        "by_k": [
            {
                "label": LABELS[metric],
                "rows": [_row(one, f"{metric}@{k}", str(k)) for k, one in first.by_k.items()],
            }
            for metric in METRICS
        ],
        "kinds": _kinds(comparison),
        "adapters": [_adapter(other, part.comparison) for other, part in measured.items()],
        "changed": [_changed(first, texts, row) for row in (*better, *worse)],
        "n_better": comparison.wins,
        "n_worse": comparison.losses,
        "n_same": comparison.ties,
        "left_out": comparison.wins + comparison.losses - len(better) - len(worse),
        "depth": min(DEPTH, first.before.passages.shape[1]),
        "texts_shown": texts.shown,
        "texts_wanted": texts.wanted,
        "hubs": [
            {
                "passage": texts.passage(hub.row, 140),
                "relevant": hub.relevant,
                "before": hub.before,
                "after": hub.after,
            }
            for hub in most_frequent_passages(first)
        ],
        "points": points,
        "share": share,
        "trials": _trials(model),
        "training": model.metadata.data,
        "size": sum(file.stat().st_size for file in Path(model.adapter_path).iterdir()),
        "finetuned": finetuned,
        "plots": drawn,
    }


def gain_sentence(comparison: Comparison) -> str:
    """Return the gain with its interval, in a sentence for people who know no metrics."""
    k = comparison.metric.partition("@")[2]
    name = f"hit_rate@{k}"
    before, after = comparison.base[name] * 100, comparison.adapted[name] * 100
    mean, low, high = (100 * part for part in comparison.gains[name])
    said = (
        f"With the adapter, {after:.0f} of 100 questions find an answer among the first {k} results"
    )
    interval = f"{comparison.confidence * 100:g}% interval {low:+.1f} to {high:+.1f}"
    if abs(mean) < 0.05:
        return f"{said}, as many as without it ({interval})."
    way = "up" if mean > 0 else "down"
    return f"{said}, {way} from {before:.0f} ({mean:+.1f}; {interval})."


def certainty_sentence(comparison: Comparison) -> str:
    """Return how certain the gain is."""
    gain = comparison.gains[comparison.metric]
    if not comparison.wins + comparison.losses:
        return f"Every answer stands where it stood: {_label(comparison.metric)} is the same."
    said = (
        f"Answers stand {'higher' if gain.mean >= 0 else 'lower'} in the list: "
        f"{_label(comparison.metric)} goes from {comparison.base[comparison.metric]:.3f} to "
        f"{comparison.adapted[comparison.metric]:.3f}, a change of {gain.mean:+.3f} "
        f"({comparison.confidence * 100:g}% interval {gain.low:+.3f} to {gain.high:+.3f})."
    )
    if gain.low > 0:
        return f"{said} The whole interval is above zero, so chance does not explain the gain."
    if gain.high < 0:
        return f"{said} The whole interval is below zero: the adapter makes results worse."
    return f"{said} The interval includes zero, so the difference may be chance."


def _models_of(model: AdapterEmbeddingModel) -> str:
    return ", ".join(one.label for one in model.query_models.models)


def _label(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{LABELS.get(name, name)}@{k}"


def _row(comparison: Comparison, metric: str, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "before": comparison.base[metric],
        "after": comparison.adapted[metric],
        "gain": comparison.gains[metric],
        "sign": _sign(comparison.gains[metric]),
    }


def _sign(gain: Interval) -> str:
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "same"


def _kinds(comparison: Comparison) -> list[dict[str, Any]] | None:
    if comparison.seen is None or comparison.unseen is None:
        return None
    parts = (
        ("asked about in training", comparison.seen),
        ("not asked about", comparison.unseen),
    )
    metric = comparison.metric
    return [
        {
            "label": label,
            "queries": kind.queries,
            "before": kind.base.get(metric),
            "after": kind.adapted.get(metric),
            "gain": kind.gains.get(metric),
            "sign": _sign(kind.gains[metric]) if metric in kind.gains else "same",
        }
        for label, kind in parts
    ]


def _adapter(name: str, comparison: Comparison) -> dict[str, Any]:
    hit_rate = f"hit_rate@{comparison.metric.partition('@')[2]}"
    return {
        "name": name,
        "hit_rate": comparison.adapted[hit_rate],
        "ndcg": comparison.adapted[comparison.metric],
        "gain": comparison.gains[comparison.metric],
        "sign": _sign(comparison.gains[comparison.metric]),
        "wins": comparison.wins,
        "losses": comparison.losses,
    }


def _changed(measured: Measured, texts: Texts, row: int) -> dict[str, Any]:
    relevance = measured.data.relevance
    answers = relevance.passages[relevance.offsets[row] : relevance.offsets[row + 1]].tolist()
    first = [int(top.passages[row, 0]) for top in (measured.before, measured.after)]
    change = float(measured.changes[row])
    return {
        "question": texts.question(row),
        "change": change,
        "sign": "better" if change > 0 else "worse",
        "ranks": plots.ranks_text(measured, row),
        "rank_before": int(measured.rank_before[row]) or DEPTH + 1,
        "rank_after": int(measured.rank_after[row]) or DEPTH + 1,
        "answer": texts.passage(answers[0]),
        "more_answers": len(answers) - 1,
        "found_before": None if first[0] in answers else texts.passage(first[0]),
        "found_after": None if first[1] in answers else texts.passage(first[1]),
    }


def _trials(model: AdapterEmbeddingModel) -> list[dict[str, Any]]:
    """Return what a search tried, with places from 0 to 100 for its bar."""
    found = model.metadata.training.get("trials")
    trials = [
        trial
        for trial in (found if isinstance(found, Sequence) else ())
        if isinstance(trial, Mapping)
        and isinstance(trial.get("gain"), float)
        and isinstance(trial.get("gain_low"), float)
    ]
    if not trials:
        return []
    # What made results far worse would leave no room to tell the others apart.
    gains = [float(trial["gain"]) for trial in trials]
    reach = 1.1 * max(*gains, 0.01)

    def place(value: float) -> float:
        return 50 + 50 * max(-1.0, min(1.0, value / reach))

    return [
        {
            "name": trial.get("name", ""),
            "gain": trial["gain"],
            "low": trial["gain_low"],
            "chosen": bool(trial.get("chosen")),
            "left": place(trial["gain_low"]),
            "at": place(trial["gain"]),
        }
        for trial in sorted(trials, key=lambda trial: -trial["gain"])
    ]
