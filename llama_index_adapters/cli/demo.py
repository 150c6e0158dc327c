"""``llama-index-adapters demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import DirectoryOutput, SeedOption, StoreOption
from llama_index_adapters.cli.output import (
    console,
    counted,
    show_comparison,
    show_use,
    took,
)

if TYPE_CHECKING:
    from llama_index_adapters.demo.run import Search

HELP = """Finetune and compare on your installation's documentation.

The text is the documentation of the Python standard library, numpy and torch: the first
sentence of an entry is the question, the rest of it the passage to find. The embedding model
is all-MiniLM-L6-v2, which the extra "local" brings: no key, no network. About three minutes on
two cores the first time; then the vectors are stored.

Writes adapter/, result.json and data/{train,val,test}.json, on which the other commands run
too. Before and after are measured on questions that training has not seen, whose answers are
searched among all passages.

For example:

\b
  llama-index-adapters demo -o demo-output
"""

SHOWN = 3  # passages of each model
WIDEST = 110  # columns


def demo(
    output: DirectoryOutput = Path("demo-output"),
    pairs: Annotated[int, typer.Option(metavar="N", min=10, help="Questions, in all.")] = 3000,
    seed: SeedOption = 0,
    store: StoreOption = None,
) -> None:
    """Run the demo and show what it gave."""
    base_model = models.open_embed_model(models.LOCAL)

    from llama_index_adapters.demo.run import run_demo

    out = console()
    result = run_demo(
        output,
        base_model,
        n_pairs=pairs,
        seed=seed,
        store=store,
        show_progress=True,
        report=out.print,
    )
    seconds = result.record["seconds"]
    out.print(
        f"Embedded {counted(result.record['texts_embedded'], 'text')} in "
        f"{took(seconds['embed'])}, trained in {took(seconds['train'])}\n\n"
        "Base and adapted on the test questions, which decided nothing before:"
    )
    show_comparison(out, result.evaluation.comparison)
    if result.searches:
        out.print(
            "\nTest questions through one VectorStoreIndex, with the base model and with the "
            "adapted one. Chosen by their change in nDCG@10; * is the passage that answers."
        )
    else:
        out.print("\nNo test question finds other passages than before.")
    for search in result.searches:
        out.print()
        out.print(_side_by_side(search, min(out.width, WIDEST)))
    out.print(
        f"\nWritten to {output}: result.json, adapter/ ({result.finetuned.adapter}) and data/\n",
        soft_wrap=True,
    )
    show_use(out, output / "adapter", models.LOCAL)


def _side_by_side(search: Search, width: int) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text.assemble((search.chosen_as.capitalize(), "bold"), f": {search.question}"),
        title_justify="left",
        title_style="",
        width=width,
    )
    table.add_column("", justify="right", width=2)
    table.add_column("base", ratio=1)
    table.add_column("adapted", ratio=1)
    room = (width - 12) // 2
    for place in range(SHOWN):
        cells = (_passage(search, ranked, place, room) for ranked in (search.base, search.adapted))
        table.add_row(str(place + 1), *cells)
    places = [_place(search, ranked) for ranked in (search.base, search.adapted)]
    if any(places):
        table.add_row("", *places, style="dim")
    return table


def _passage(search: Search, ranked: Sequence[str], place: int, room: int) -> Text:
    name = ranked[place] if place < len(ranked) else ""
    wanted = name == search.wanted
    mark = "* " if wanted else "  "
    # The end of a qualified name says more than its beginning.
    shown = name if len(mark + name) <= room else f"...{name[len(mark) + 3 - room :]}"
    return Text(mark + shown, "bold green" if wanted else "")


def _place(search: Search, ranked: tuple[str, ...]) -> str:
    place = search.rank(ranked)
    if place is None:
        return f"* not among the first {len(ranked)}"
    return "" if place <= SHOWN else f"* number {place}"
