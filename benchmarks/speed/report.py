"""The page of figures, and the table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.table import Table

from benchmarks.speed.figures import Curve, Figure, Measured, Results
from benchmarks.speed.measurements import MEASUREMENTS
from benchmarks.table import markdown_table

HEADINGS = ("what", "figure", "spread", "goal", "")
MISSED = Path(__file__).parent / "missed.md"


class Row(NamedTuple):
    """One line of the table, as text."""

    what: str
    figure: str
    spread: str
    goal: str
    verdict: str


def row(figure: Figure) -> Row:
    """Return a figure as the table shows it."""
    spread = goal = ""
    if figure.low is not None and figure.high is not None:
        spread = f"{shown(figure.low)} to {shown(figure.high)}"
    if figure.goal is not None:
        goal = f"{figure.goal.kind} {shown(figure.goal.bound)} {figure.unit}"
    return Row(figure.what, f"{shown(figure.value)} {figure.unit}", spread, goal, figure.verdict)


def shown(value: float) -> str:
    """Return a number with three digits that count, and none of them lost before the point."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def terminal_table(results: Results) -> Table:
    """Return the table for a terminal, a section for each measurement."""
    table = Table(box=box.SIMPLE)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number in (1, 2) else "left")
    styles = {"met": "green", "missed": "bold red"}
    for _, measured in _sections(results):
        for figure in measured.figures:
            *cells, verdict = row(figure)
            style = styles.get(verdict)
            table.add_row(*cells, f"[{style}]{verdict}[/]" if style else verdict)
        table.add_section()
    return table


def markdown(results: Results, pictures: Mapping[str, str], missed: str) -> str:
    """Return the whole page.

    Args:
        results: what was measured.
        pictures: file name and description of each plot beside the page.
        missed: the hand-written part about goals that are missed.
    """
    lines = [
        "# Performance",
        "",
        "Written by `make bench`, which measures both sides of a ratio in turn in one run, each in "
        "a process of its own where imports or memory count. A figure is the median of its "
        "repetitions and the spread their smallest and largest; a figure without a spread was "
        "measured once. Both sides have the machine's own number of threads.",
        "",
        "The last column says whether the goal is met. Where there is no goal, the figure stands "
        "for itself.",
    ]
    for title, measured in _sections(results):
        lines += ["", f"## {title}", ""]
        lines += markdown_table(HEADINGS, [row(figure) for figure in measured.figures])
        lines += ["", *(f"- {one.what}: {one.detail}" for one in measured.figures if one.detail)]
        for curve in measured.curves:
            lines += ["", f"{curve.what[0].upper()}{curve.what[1:]}:", "", *_curve(curve)]
        if measured.curves:
            lines += ["", *(f"![{about}]({name})" for name, about in pictures.items())]
    lines += ["", "## Goals that are missed", "", missed.strip() or "None."]
    lines += ["", "## Measured with", "", *_machines(results)]
    return "\n".join(lines) + "\n"


def _sections(results: Results) -> Iterator[tuple[str, Measured]]:
    for name, measurement in MEASUREMENTS.items():
        if name in results.measured:
            yield measurement.title, results.measured[name]


def _curve(curve: Curve) -> list[str]:
    headings = ("passages", "seconds", "peak memory of the process")
    memory = curve.bytes or [None] * len(curve.passages)
    return markdown_table(
        headings,
        [
            (f"{n:,}", f"{seconds:.3g}", "" if held is None else f"{held / 2**20:,.0f} MiB")
            for n, seconds, held in zip(curve.passages, curve.seconds, memory, strict=True)
        ],
    )


def _machines(results: Results) -> list[str]:
    """Name the machine once when all measurements are of one run, else for each."""
    by_machine: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for title, measured in _sections(results):
        by_machine.setdefault(tuple(measured.about.items()), []).append(title)
    lines = []
    for about, titles in by_machine.items():
        if len(by_machine) > 1:
            lines += [f"{', '.join(titles)}:", ""]
        lines += [*(f"- {name}: {value}" for name, value in about), ""]
    return lines[:-1]
