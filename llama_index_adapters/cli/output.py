"""What the commands show."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from llama_index_adapters.cli.models import code_for

if TYPE_CHECKING:
    from llama_index_adapters.evaluation.comparison import Comparison

TABLE_WIDTH = 72  # columns that the table of a comparison needs


def console(width: int | None = None) -> Console:
    """Return the console of standard output; what is printed is text, not markup."""
    return Console(width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Draw progress bars on a terminal, and write lines in their place elsewhere."""
    if sys.stderr.isatty():
        yield
        return
    from llama_index_adapters.services.progress import progress_lines

    with progress_lines():
        yield


def show_comparison(
    out: Console, comparison: Comparison, labels: tuple[str, str] = ("base", "adapted")
) -> None:
    """Show the table of base and adapted; a narrow terminal wraps it rather than cut numbers."""
    wide = out if out.width >= TABLE_WIDTH else console(TABLE_WIDTH)
    wide.print(comparison.table(*labels))


def show_adapters(out: Console, comparisons: Mapping[str, Comparison]) -> None:
    """Show a row for each adapter that was measured on the same questions, the best first."""
    from rich import box
    from rich.table import Table

    from llama_index_adapters.evaluation.comparison import by_quality

    named = by_quality(comparisons)
    metric = named[0][1].metric.replace("ndcg", "nDCG")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("adapter", overflow="fold")
    for heading in ("base", f"{metric}", "gain", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, comparison in named:
        gain = comparison.gains[comparison.metric]
        table.add_row(
            name,
            f"{comparison.base[comparison.metric]:.4f}",
            f"{comparison.adapted[comparison.metric]:.4f}",
            f"{gain.mean:+.4f}",
            f"{gain.low:+.4f} to {gain.high:+.4f}",
        )
    wide = out if out.width >= TABLE_WIDTH else console(TABLE_WIDTH)
    wide.print(table)


def show_command(out: Console, command: str) -> None:
    """Show a line to copy."""
    out.print(f"  {command}\n", style="cyan", soft_wrap=True)


def show_use(
    out: Console,
    path: Path,
    embed_model: str,
    query_embed_models: Sequence[str] = (),
    *,
    maps_passages: bool = False,
) -> None:
    """Show the lines of Python that put an adapter into a retriever."""
    own = "from llama_index_adapters import "
    names = dict.fromkeys((embed_model, *query_embed_models))
    lines, expressions = zip(*map(code_for, names), strict=True)
    ours = ["AdapterEmbeddingModel", *(line.removeprefix(own) for line in lines if own in line)]
    imports = sorted({line for line in lines if own not in line})
    if maps_passages:
        ours.append("rewrite_index")
    imports.append(own + ", ".join(dict.fromkeys(ours)))
    if not query_embed_models:
        opened = [f'embed_model = AdapterEmbeddingModel({expressions[0]}, "{path}")']
    else:
        variables = dict(zip(names, ("base", *_variables(len(names) - 1)), strict=True))
        models = ", ".join(variables[name] for name in query_embed_models)
        opened = [f"{variables[name]} = {code_for(name)[1]}" for name in names]
        opened.append(
            f'embed_model = AdapterEmbeddingModel(base, "{path}", query_embed_models=[{models}])'
        )
    code = [*imports, *opened, "retriever = index.as_retriever(embed_model=embed_model)"]
    if maps_passages:
        code[-1:] = [
            "smaller = rewrite_index(index, embed_model, empty_vector_store)",
            "retriever = smaller.as_retriever()",
        ]
    out.print(
        "To copy the index you have, without embedding anything:\n"
        if maps_passages
        else "To use it with the index you have:\n"
    )
    show_command(out, "\n  ".join(code))


def _variables(count: int) -> list[str]:
    return ["other"] if count == 1 else [f"other_{number + 1}" for number in range(count)]


def counted(number: int, noun: str) -> str:
    """Return ``1 question`` or ``1,234 questions``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def took(seconds: float) -> str:
    """Return seconds as people read them: ``0.4 s``, ``12 s``, ``2 min 5 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
