"""The plots of a report, as documents for Bokeh's script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, Scatter
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2.utils import htmlsafe_json_dumps

from llama_index_adapters.display.html import cut
from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.report.measure import DEPTH, Measured, question_map

MAX_POINTS = 12_000
_NAME_LENGTH = 60
_NAMES_BYTES = 600_000  # of all names on the map: in JSON some characters take six bytes each
_MARKERS = {"same": (0, "circle"), "better": (1, "triangle"), "worse": (-1, "inverted_triangle")}
_MODEL_ID = re.compile(r"p\d+")

Item = dict[str, Any]


def script() -> str:
    """Return Bokeh's own script, without the parts that no plot here uses."""
    raw = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    return raw[0].replace("</script", "<\\/script")


def metric_plot(by_k: Mapping[int, Comparison], target: str) -> Item:
    """Return nDCG and hit rate over ``k``, before and after."""
    ks = list(by_k)
    plot = _figure("how many results are looked at", "mean over the questions", 300)
    for metric, dash in (("hit_rate", "dashed"), ("ndcg", "solid")):
        for side, tag in (("base", "same"), ("adapted", "accent")):
            values = [getattr(by_k[k], side)[f"{metric}@{k}"] for k in ks]
            label = {"hit_rate": "hit rate", "ndcg": "nDCG"}[metric]
            source = ColumnDataSource(
                {
                    "k": list(map(str, ks)),
                    "x": list(range(len(ks))),
                    "y": values,
                    "what": [f"{label}, {'before' if side == 'base' else 'after'}"] * len(ks),
                }
            )
            line = plot.line("x", "y", source=source, line_width=2.5, line_dash=dash)
            dots = plot.scatter("x", "y", source=source, size=7)
            for renderer in (line, dots):
                renderer.glyph.tags = [tag]
    plot.xaxis.ticker = list(range(len(ks)))
    plot.xaxis.major_label_overrides = {row: str(k) for row, k in enumerate(ks)}
    plot.add_tools(HoverTool(tooltips=[("", "@what at @k"), ("", "@y{0.000}")]))
    return _item(plot, target)


def map_plot(measured: Measured, names: Sequence[str], target: str) -> tuple[Item, int, float]:
    """Return the map of the questions, how many it shows, and the share of variance in it.

    Args:
        measured: base and adapted.
        names: what stands for each question when it is pointed at.
        target: the id of the element that it is drawn into.
    """
    places, share = question_map(measured.base_queries)
    changes = measured.changes
    shown = np.arange(len(changes))
    if len(shown) > MAX_POINTS:
        shown = np.linspace(0, len(changes) - 1, MAX_POINTS).astype(np.int64)
    labels = _labels([names[row] for row in shown])
    by_row = dict(zip(shown.tolist(), labels, strict=True))
    plot = _figure(None, None, 440)
    plot.grid.visible = False
    plot.axis.visible = False
    for tag, (sign, marker) in _MARKERS.items():
        rows = shown[np.sign(changes[shown]) == sign]
        source = ColumnDataSource(
            {
                "x": places[rows, 0],
                "y": places[rows, 1],
                "size": (6 + 8 * np.abs(changes[rows])).astype(np.float32),
                "name": [by_row[int(row)] for row in rows],
                "ranks": [ranks_text(measured, row) for row in rows],
            }
        )
        glyph = Scatter(x="x", y="y", size="size", marker=marker, fill_alpha=0.65, tags=[tag])
        plot.add_glyph(source, glyph)
    plot.add_tools(HoverTool(tooltips=[("question", "@name"), ("rank", "@ranks")]))
    return _item(plot, target), len(shown), share


def history_plot(history: Sequence[Any], target: str) -> Item:
    """Return the validation nDCG@10 after each epoch of training."""
    records = [record for record in history if record.validation is not None]
    plot = _figure("epochs", "nDCG@10 on held-out questions", 260)
    source = ColumnDataSource(
        {
            "x": [record.epoch for record in records],
            "y": [record.validation for record in records],
        }
    )
    line = plot.line("x", "y", source=source, line_width=2.5)
    for renderer in (line, plot.scatter("x", "y", source=source, size=6)):
        renderer.glyph.tags = ["accent"]
    plot.add_tools(HoverTool(tooltips=[("epoch", "@x"), ("nDCG@10", "@y{0.0000}")]))
    return _item(plot, target)


def _labels(names: Sequence[str]) -> list[str]:
    """Return names short enough to be on the map together."""
    length = _NAME_LENGTH
    while True:
        labels = [cut(name, length) for name in names]
        if sum(len(htmlsafe_json_dumps(label)) for label in labels) <= _NAMES_BYTES or length < 8:
            return labels
        length = length * 3 // 4


def ranks_text(measured: Measured, row: int) -> str:
    """Return ``12 → 3``: the rank of the first relevant passage, before and after."""
    beyond = f"> {min(DEPTH, measured.before.passages.shape[1])}"
    before, after = int(measured.rank_before[row]), int(measured.rank_after[row])
    return f"{before or beyond} → {after or beyond}"


def _figure(x_label: str | None, y_label: str | None, height: int) -> Any:
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_label=x_label,
        y_axis_label=y_label,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
    )
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.xgrid.visible = False
    return plot


def _item(plot: Any, target: str) -> Item:
    """Return a plot as JSON, with names that do not depend on what was drawn before it."""
    names: dict[str, str] = {}

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: renamed(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [renamed(part) for part in value]
        if key in ("id", "root_id") and isinstance(value, str) and _MODEL_ID.fullmatch(value):
            return names.setdefault(value, f"{target}-{len(names)}")
        return value

    item: Item = renamed(dict(json_item(plot, ID(target))))
    return item
