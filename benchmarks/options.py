"""What the options of the benchmarks' commands have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from llama_index_adapters.errors import closest_name

EnvironmentsFolder = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        help="Where the environments of other packages are made.",
        show_default="benchmarks/.environments",
    ),
]
"""The option ``--environments`` of a command that measures other packages."""


def known_names(known: Iterable[str]) -> Callable[[str | None], str | None]:
    """Return a check that an option holds known names, with commas between."""
    words = list(known)

    def check(value: str | None) -> str | None:
        for name in [] if value is None else value.split(","):
            if name not in words:
                raise typer.BadParameter(
                    f"{name!r} is not one of {', '.join(words)}.{closest_name(name, words)}"
                )
        return value

    return check
