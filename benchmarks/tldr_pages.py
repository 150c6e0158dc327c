"""Build the question set tldr from a checkout of tldr-pages (CC BY 4.0).

A page explains one command by examples, each with a description of what a user wants to do. The
descriptions are the queries; the passage to find is the page without them: its title, its
summary and its commands. Queries are split, so that a test query may be about a page that
training queries are about too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from llama_index_adapters.errors import AdaptersError, InvalidFileError, MissingFileError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.questions.split import split_by_query

PLATFORMS = ("common", "linux")
FRACTIONS = {"train": 0.7, "dev": 0.1, "test": 0.2}

_LINK = re.compile(r"^(More information|See also): ?")
# "[c]reate" says which letter the option comes from.
_MNEMONIC = re.compile(r"\[(\w)\]")


@dataclass(frozen=True)
class Page:
    """One command.

    Attributes:
        title: its name.
        summary: what it is for.
        descriptions: what a user wants to do, one for each example.
        commands: how it is done.
    """

    title: str
    summary: str
    descriptions: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def passage(self) -> str:
        """Return the page without its descriptions."""
        return "\n".join((self.title, self.summary, *self.commands))


def read_page(text: str) -> Page:
    """Read a page in the format of tldr-pages.

    Raises:
        InvalidFileError: when it has no title or no examples.
    """
    lines = [line.strip() for line in text.splitlines()]
    titles = [line[2:].strip() for line in lines if line.startswith("# ")]
    summary = [line[2:].strip() for line in lines if line.startswith("> ")]
    descriptions = [_query(line[2:]) for line in lines if line.startswith("- ")]
    commands = [line.strip("`") for line in lines if line.startswith("`")]
    if not titles or not descriptions:
        raise InvalidFileError(
            f"A page has {len(titles)} titles and {len(descriptions)} descriptions; expected a "
            "line that starts with '# ' and others that start with '- '."
        )
    return Page(
        titles[0],
        " ".join(line for line in summary if not _LINK.match(line)),
        tuple(descriptions),
        tuple(commands),
    )


def read_checkout(
    checkout: Path, platforms: Iterable[str] = PLATFORMS
) -> EmbeddingQAFinetuneDataset:
    """Return all pages of a checkout as one question set.

    Pages that only point to another one, as an alias of it, are left out.

    Args:
        checkout: the repository's folder.
        platforms: which folders of ``pages`` to read.

    Raises:
        MissingFileError: when the folder is not such a checkout.
        InvalidFileError: for a page in another format.
    """
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for platform in platforms:
        folder = checkout / "pages" / platform
        paths = sorted(folder.glob("*.md"))
        if not paths:
            raise MissingFileError(
                f"{folder} holds no pages. Give the folder of a checkout of the public repository "
                "tldr-pages/tldr."
            )
        for path in paths:
            try:
                page = read_page(path.read_text(encoding="utf-8"))
            except InvalidFileError as error:
                raise InvalidFileError(f"{path}: {error}") from error
            if "is an alias of" in page.summary:
                continue
            name = f"{platform}/{path.stem}"
            corpus[name] = page.passage
            for number, description in enumerate(page.descriptions):
                queries[f"{name}#{number}"] = description
                relevant[f"{name}#{number}"] = [name]
    return EmbeddingQAFinetuneDataset(queries=queries, corpus=corpus, relevant_docs=relevant)


def _query(description: str) -> str:
    return _MNEMONIC.sub(r"\1", description.strip().removesuffix(":").replace("`", ""))


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=__doc__)
def build(
    checkout: Annotated[Path, typer.Argument(help="A checkout of tldr-pages/tldr.")],
    output: Annotated[Path, typer.Argument(help="The folder that tldr.*.json is written to.")],
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the split.")] = 0,
) -> None:
    """Write ``tldr.train.json``, ``tldr.dev.json`` and ``tldr.test.json``."""
    try:
        whole = read_checkout(checkout)
        parts = split_by_query(whole, tuple(FRACTIONS.values()), seed=seed)
        output.mkdir(parents=True, exist_ok=True)
        for name, part in zip(FRACTIONS, parts, strict=True):
            part.save_json(output / f"tldr.{name}.json")
            typer.echo(f"tldr.{name}.json: {len(part.queries):,} queries")
    except AdaptersError as error:
        typer.echo(f"tldr_pages: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{len(whole.corpus):,} passages")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.tldr_pages")
