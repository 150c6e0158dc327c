"""What the options of the benchmarks' commands have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from llama_index_adapters.errors import closest_name


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
