"""``python -m benchmarks.speed``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.data import DATA_VARIABLE, load_texts
from benchmarks.environments import DEFAULT_FOLDER
from benchmarks.options import EnvironmentsFolder, known_names
from benchmarks.speed import plots
from benchmarks.speed.figures import Results
from benchmarks.speed.machine import about
from benchmarks.speed.measurement import Settings
from benchmarks.speed.measurements import MEASUREMENTS
from benchmarks.speed.report import MISSED, markdown, terminal_table
from llama_index_adapters.errors import AdaptersError, MissingFileError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.questions.combine import sample_queries

DEFAULT_OUTPUT = Path(__file__).parents[2] / "docs" / "performance.md"
TABLE_WIDTH = 150

HELP = f"""Measure speed and size beside what a user would run instead.

Both sides of a ratio run in turn in the same run, with a process of their own where imports or
memory count. The table has a goal beside each figure that has one, and says whether it is met.
Peers run in environments of their own, which are made the first time (minutes, 3 GB).

\b
  python -m benchmarks.speed                          everything: about a quarter of an hour
  python -m benchmarks.speed --only serving,ranking   these again; the other figures are kept
  python -m benchmarks.speed --short --output x.md    sizes so small that figures mean nothing

\b
{chr(10).join(f"  {name:<14} {one.title}" for name, one in MEASUREMENTS.items())}

Nothing else should run on the machine meanwhile: ratios survive a busy machine, spreads do not.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def bench(
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            callback=known_names(MEASUREMENTS),
            help="Which measurements.",
            show_default="all",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar=DATA_VARIABLE,
            help="Where tenk.train.json is, which is finetuned on.",
            show_default="the documentation of Python, numpy and torch is finetuned on",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            metavar="PAGE.md",
            help="The page; figures are kept beside it, with the ending .json.",
            show_default="docs/performance.md",
        ),
    ] = DEFAULT_OUTPUT,
    environments: EnvironmentsFolder = DEFAULT_FOLDER,
    short: Annotated[
        bool, typer.Option("--short", help="Small sizes, to see that everything runs.")
    ] = False,
) -> None:
    """Measure, write the page and show the table."""
    out = Console(highlight=False, markup=False, emoji=False)
    try:
        results = Results.open(output.with_suffix(".json"))
        with TemporaryDirectory(prefix="speed-") as folder:
            settings = Settings(
                environments=environments,
                folder=Path(folder),
                questions=Path(folder) / "questions.json",
                questions_name="",
                model="hashing" if short else "local",
                short=short,
                report=lambda line: out.print(line, soft_wrap=True),
            )
            settings = _with_questions(settings, data)
            failures = run(
                list(MEASUREMENTS) if only is None else only.split(","), results, settings
            )
        curves = [curve for one in results.measured.values() for curve in one.curves]
        pictures = plots.draw(curves, output.parent) if curves else {}
        write_text(output, markdown(results, pictures, MISSED.read_text()))
    except AdaptersError as error:
        typer.echo(f"benchmarks.speed: {error}", err=True)
        raise typer.Exit(2) from error
    wide = Console(highlight=False, width=max(out.width, TABLE_WIDTH))
    wide.print(terminal_table(results))
    for failure in failures:
        out.print(f"failed: {failure}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def run(names: Sequence[str], results: Results, settings: Settings) -> list[str]:
    """Take measurements, each on disk as soon as it is there; return what failed."""
    machine = about()
    failures = []
    for name in names:
        settings.report(f"{name} ...")
        try:
            measured = MEASUREMENTS[name].run(settings)
        except AdaptersError as error:
            failures.append(f"{name}: {error}")
            settings.report(failures[-1])
            continue
        results.add(name, replace(measured, about=machine))
        for figure in measured.figures:
            settings.report(f"  {figure.what}: {figure.value:.4g} {figure.unit} {figure.verdict}")
    return failures


def _with_questions(settings: Settings, data: Path | None) -> Settings:
    """Write the question set to finetune on where every process can read it."""
    name = "documentation" if data is None else "tenk"
    try:
        texts = load_texts(name, data)
    except MissingFileError as absent:
        settings.report(f"{absent} The set documentation is finetuned on instead.")
        name = "documentation"
        texts = load_texts(name, None)
    if data is None:
        settings.report(
            "No data folder was named, so the set documentation is finetuned on. For tenk: --data "
            f"FOLDER or the variable {DATA_VARIABLE}."
        )
    train = texts.train
    if settings.short:
        train = sample_queries(train, 24)
    train.save_json(str(settings.questions))
    return replace(settings, questions_name=name)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.speed")
