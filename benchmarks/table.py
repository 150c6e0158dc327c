"""The table of all cells, as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table

from benchmarks.cells import Cell, K, Results
from benchmarks.data import SETS
from benchmarks.methods import METHODS
from benchmarks.published import PUBLISHED

HEADINGS = (
    "set",
    "method",
    "moves",
    f"nDCG@{K}",
    "gain, 95% interval",
    f"hit rate@{K}",
    f"MRR@{K}",
    "training",
)


class Row(NamedTuple):
    """One line of the table, as text."""

    set: str
    method: str
    moves: str
    ndcg: str
    gain: str
    hit_rate: str
    mrr: str
    seconds: str


def rows(results: Results) -> list[Row]:
    """Return a line for each cell there is, in the order of sets and methods."""
    return [
        _row(results.cells[name, method])
        for name in SETS
        for method in METHODS
        if (name, method) in results.cells
    ]


def terminal_table(results: Results) -> Table:
    """Return the table for a terminal."""
    table = Table(box=box.SIMPLE)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 3 else "right")
    previous = ""
    for row in rows(results):
        if previous and row.set != previous:
            table.add_section()
        table.add_row(*row)
        previous = row.set
    return table


def markdown(results: Results) -> str:
    """Return the whole report: the table, what it was measured with, and published figures."""
    lines = [
        "# Results",
        "",
        "Written by `make benchmark`; [README.md](README.md) says what each method is. "
        "Every method had the same vectors of all-MiniLM-L6-v2, the same splits and the same "
        f"metrics; all passages of the test corpus are ranked. The gain is that in nDCG@{K} over "
        "the base vectors, with a paired bootstrap interval over the test questions. The time is "
        "wall-clock training time, vectors stored.",
        "",
        *markdown_table(HEADINGS, rows(results)),
        "",
        "## Time and gain",
        "",
        *_time_and_gain(results),
        "",
        "## Notes",
        "",
        *_notes(results),
        "",
        "## Published figures",
        "",
        "Other models, other metrics or another measure: none can be compared with a line above.",
        "",
        *markdown_table(("method", "set and model", "figures", "source"), PUBLISHED),
        "",
        "## Measured with",
        "",
        *(f"- {name}: {value}" for name, value in sorted(results.about.items())),
        *(
            f"- {name}: {sizes['train_queries']:,} training questions about "
            f"{sizes['train_passages']:,} passages, {sizes['val_queries']:,} to validate with, "
            f"{sizes['test_queries']:,} test questions on {sizes['test_passages']:,} passages"
            for name, sizes in sorted(results.sizes.items())
        ),
    ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Return seconds as people read them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _row(cell: Cell) -> Row:
    method = METHODS[cell.method]
    if cell.metrics is None or cell.gain is None:
        return Row(cell.set, method.title, method.moves, *["n/a"] * 5)
    gain = cell.gain
    base = cell.method == "base"
    return Row(
        cell.set,
        method.title,
        method.moves,
        f"{cell.metrics[f'ndcg@{K}']:.4f}",
        "" if base else f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})",
        f"{cell.metrics[f'hit_rate@{K}']:.4f}",
        f"{cell.metrics[f'mrr@{K}']:.4f}",
        "" if base else duration(cell.seconds),
    )


def markdown_table(headings: Sequence[str], body: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [
        "| " + " | ".join(headings) + " |",
        "|" + "---|" * len(headings),
        *("| " + " | ".join(row) + " |" for row in body),
    ]


def _time_and_gain(results: Results) -> list[str]:
    """One sentence for each set on which full fine-tuning was measured."""
    lines = []
    for name in SETS:
        ours = results.cells.get((name, "auto"))
        full = results.cells.get((name, "full-finetuning"))
        if ours is None or full is None or ours.gain is None or full.gain is None:
            continue
        lines.append(
            f"- {name}: this package {ours.gain['mean']:+.4f} nDCG@{K} in "
            f"{duration(ours.seconds)}; full fine-tuning {full.gain['mean']:+.4f} in "
            f"{duration(full.seconds)}, and every document has to be embedded again."
        )
    return lines or ["Full fine-tuning has not been measured yet."]


def _notes(results: Results) -> list[str]:
    return [
        f"- {name}, {METHODS[method].title}: {results.cells[name, method].detail}."
        for name in SETS
        for method in METHODS
        if (name, method) in results.cells and results.cells[name, method].detail
    ]
