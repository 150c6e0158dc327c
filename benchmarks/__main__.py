"""``python -m benchmarks``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.cells import Results
from benchmarks.data import DATA_VARIABLE, SETS
from benchmarks.environments import DEFAULT_FOLDER
from benchmarks.matrix import run
from benchmarks.method import Settings
from benchmarks.methods import METHODS
from benchmarks.options import EnvironmentsFolder, known_names
from benchmarks.table import markdown, terminal_table
from llama_index_adapters.errors import AdaptersError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.vectors.local import local_embedding

DEFAULT_OUTPUT = Path(__file__).parent / "results.json"
TABLE_WIDTH = 160

HELP = """Measure this package beside everything a user might pick instead.

Every method gets the same vectors, splits and metrics. A cell (one method on one set) that is in
the results file is not measured again, so a run can be interrupted and continued.

\b
  python -m benchmarks --data FOLDER                        what is missing
  python -m benchmarks --sets documentation                 needs no file
  python -m benchmarks --methods auto,linear --again        ours, after a change
  python -m benchmarks --methods full-finetuning --sets tenk

Methods that are other people's packages run in environments of their own, made by the command the
first time. A set whose files are absent is named, with where to get it, and the rest runs on.
Cells that take hours are measured only when their method is named.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def benchmark(
    sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            callback=known_names(SETS),
            help=f"Which sets: {', '.join(SETS)}.",
            show_default="all",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            callback=known_names(METHODS),
            help=f"Which methods: {', '.join(METHODS)}.",
            show_default="all",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar=DATA_VARIABLE,
            help="Where the files of tenk and tldr are.",
            show_default="tenk is fetched",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure also what was measured before.")
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The same seed gives the same figures.")
    ] = 0,
    output: Annotated[
        Path,
        typer.Option(
            metavar="RESULTS.json",
            help="The results; the table is written beside it, with the ending .md.",
            show_default="benchmarks/results.json",
        ),
    ] = DEFAULT_OUTPUT,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where vectors are kept.",
            show_default="in the user's cache directory",
        ),
    ] = None,
    environments: EnvironmentsFolder = DEFAULT_FOLDER,
) -> None:
    """Measure what is missing, write the table and show it."""
    out = Console(highlight=False, markup=False, emoji=False)
    try:
        results = Results.open(output)
        failures = run(
            list(SETS) if sets is None else sets.split(","),
            list(METHODS) if methods is None else methods.split(","),
            results,
            Settings(seed, environments),
            local_embedding,
            folder=data,
            store=store,
            again=again,
            by_name=methods is not None,
            report=lambda line: out.print(line, soft_wrap=True),
        )
        if results.cells:
            write_text(output.with_suffix(".md"), markdown(results))
    except AdaptersError as error:
        typer.echo(f"benchmarks: {error}", err=True)
        raise typer.Exit(2) from error
    wide = out if out.width >= TABLE_WIDTH else Console(width=TABLE_WIDTH)
    wide.print(terminal_table(results))
    for failure in failures:
        out.print(f"failed: {failure}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
