"""``llama-index-adapters split``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llama_index_adapters.cli.options import DirectoryOutput, SeedOption, one_of
from llama_index_adapters.cli.output import console, counted
from llama_index_adapters.cli.question_files import is_table, read_labels, read_questions
from llama_index_adapters.errors import InvalidFileError

if TYPE_CHECKING:
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

SIDES = ("train", "val", "test")
WAYS = ("query", "passage")
HELP = """Divide questions into train, val and test.

SET is a question set in LlamaIndex's JSON, a folder of BEIR (FOLDER#SPLIT), or a table of labels
for an index (.csv or .jsonl with query, node_id and grade, clicked or the like). A set gives
train.json, val.json and test.json, a table train.csv, val.csv and test.csv.

By passage (the default) no question of one file asks about a passage of another: that measures
questions about what was never asked about. By query every passage is in all of them: that
measures new questions about known passages. Questions of the same text stay together.

For example:

\b
  llama-index-adapters split questions.json -o parts
  llama-index-adapters split labels.csv -o parts --by query \\
      --fractions 0.7,0.3
"""


def split(
    questions: Annotated[Path, typer.Argument(metavar="SET", help="Questions with known answers.")],
    output: DirectoryOutput,
    by: Annotated[
        str, typer.Option(metavar="|".join(WAYS), callback=one_of(WAYS), help="What to divide.")
    ] = "passage",
    fractions: Annotated[
        str,
        typer.Option(
            metavar="X,X[,X]",
            help="Shares of the questions: train, val and test, or train and test.",
        ),
    ] = "0.8,0.1,0.1",
    seed: SeedOption = 0,
) -> None:
    """Divide a set into files."""
    shares = _shares(fractions)
    names = SIDES if len(shares) == len(SIDES) else ("train", "test")
    ending = ".csv" if is_table(questions) else ".json"
    paths = [output / f"{name}{ending}" for name in names]
    there = [path.name for path in paths if path.exists()]
    if there:
        raise InvalidFileError(
            f"{output} has {' and '.join(there)} already. Name another folder, or move them away."
        )
    out = console()
    if ending == ".csv":
        _split_table(questions, by, shares, seed, paths)
    else:
        _split_set(questions, by, shares, seed, paths)
    out.print(f"Divided {questions} by {by} into {', '.join(map(str, paths))}", soft_wrap=True)


def _split_set(path: Path, by: str, shares: list[float], seed: int, paths: list[Path]) -> None:
    from llama_index_adapters.questions.split import split_by_passage, split_by_query

    divide = split_by_query if by == "query" else split_by_passage
    sides: tuple[EmbeddingQAFinetuneDataset, ...] = divide(read_questions(path), shares, seed=seed)
    for side, target in zip(sides, paths, strict=True):
        side.save_json(target)
        _say(target, len(side.queries), len(side.corpus))


def _split_table(path: Path, by: str, shares: list[float], seed: int, paths: list[Path]) -> None:
    from llama_index_adapters.questions.labels import split_judgements, write_labels

    sides = split_judgements(read_labels(path), shares, by_passage=by == "passage", seed=seed)
    for side, target in zip(sides, paths, strict=True):
        write_labels(side, target)
        asked: Mapping[str, Any] = {
            node_id: None for graded in side.relevant.values() for node_id in graded
        }
        _say(target, len(side.relevant), len(asked))


def _say(path: Path, queries: int, passages: int) -> None:
    console().print(
        f"{path}: {counted(queries, 'question')}, {counted(passages, 'passage')}", soft_wrap=True
    )


def _shares(words: str) -> list[float]:
    try:
        shares = [float(word) for word in words.split(",")]
    except ValueError:
        shares = []
    if len(shares) not in (2, 3) or not all(share > 0 for share in shares):
        raise typer.BadParameter(
            f"--fractions is {words!r}; give two or three positive numbers with the sum 1, such "
            "as 0.8,0.1,0.1."
        )
    return shares
