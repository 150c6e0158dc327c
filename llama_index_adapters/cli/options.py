"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from llama_index_adapters.errors import closest_name
from llama_index_adapters.files.atomic import require_writable_directory, require_writable_file
from llama_index_adapters.retrieval.ranking import SIMILARITIES


def one_of(values: Sequence[str]) -> Callable[[str], str]:
    """Return a check that an option is one of some words."""

    def check(value: str) -> str:
        if value not in values:
            raise typer.BadParameter(
                f"{value!r} is not one of {', '.join(values)}.{closest_name(value, values)}"
            )
        return value

    return check


# What cannot be written is refused before anything is paid for.


def file_to_write(path: Path | None) -> Path | None:
    """Refuse a file that could not be written."""
    if path is not None:
        require_writable_file(path)
    return path


def _directory_to_write(path: Path) -> Path:
    require_writable_directory(path)
    return path


StoreOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        callback=file_to_write,
        help="Where vectors are kept, so that a text is embedded once.",
        show_default="in the user's cache directory",
    ),
]
SimilarityOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(SIMILARITIES),
        callback=one_of(SIMILARITIES),
        help="How your vector store compares vectors.",
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RESULT.json",
        callback=file_to_write,
        help="Also write the figures here: base, adapted, adapter, seconds, texts_embedded "
        "and more.",
    ),
]
QuestionSetOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="SET.json",
        callback=file_to_write,
        help="The question set to write.",
    ),
]
ReportOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="REPORT.html",
        callback=file_to_write,
        help="The page to write.",
    ),
]
DirectoryOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        callback=_directory_to_write,
        help="Directory to write to.",
    ),
]
SeedOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="The same seed gives the same result.")
]
KOption = Annotated[
    int,
    typer.Option(
        "--k", metavar="K", min=1, help="Passages to look at: as many as your retriever returns."
    ),
]
QueryModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--query-embed-model",
        metavar="NAME",
        help="A model that embeds questions; give it once for each, in the order of the training. "
        "With two, each question goes through both. Passages stay as --embed-model made them.",
        show_default="the model of --embed-model",
    ),
]
