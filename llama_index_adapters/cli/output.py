"""What the commands show."""

from __future__ import annotations

import sys
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


def shows_progress() -> bool:
    """Whether there is somebody to see a progress bar."""
    return sys.stderr.isatty()


def show_comparison(
    out: Console, comparison: Comparison, labels: tuple[str, str] = ("base", "adapted")
) -> None:
    """Show the table of base and adapted; a narrow terminal wraps it rather than cut numbers."""
    wide = out if out.width >= TABLE_WIDTH else console(TABLE_WIDTH)
    wide.print(comparison.table(*labels))


def show_command(out: Console, command: str) -> None:
    """Show a line to copy."""
    out.print(f"  {command}\n", style="cyan", soft_wrap=True)


def show_use(out: Console, path: Path, embed_model: str) -> None:
    """Show the lines of Python that put an adapter into a retriever."""
    own = "from llama_index_adapters import "
    line, expression = code_for(embed_model)
    imports = [f"{own}AdapterEmbeddingModel"]
    if line.startswith(own):
        imports = [f"{imports[0]}, {line.removeprefix(own)}"]
    else:
        imports.insert(0, line)
    code = (
        *imports,
        f'embed_model = AdapterEmbeddingModel({expression}, "{path}")',
        "retriever = index.as_retriever(embed_model=embed_model)",
    )
    out.print("To use it with the index you have:\n")
    show_command(out, "\n  ".join(code))


def counted(number: int, noun: str) -> str:
    """Return ``1 question`` or ``1,234 questions``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def took(seconds: float) -> str:
    """Return seconds as people read them: ``0.4 s``, ``12 s``, ``2 min 5 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
