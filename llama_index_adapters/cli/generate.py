"""``llama-index-adapters generate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_index_adapters.cli import models
from llama_index_adapters.cli.indexes import open_index
from llama_index_adapters.cli.options import QuestionSetOutput, SeedOption
from llama_index_adapters.cli.output import console, counted, show_command
from llama_index_adapters.cli.question_files import IndexOption, read_labels
from llama_index_adapters.errors import InvalidDatasetError

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode

HELP = """Let a language model write questions about your documents.

With --index the passages are those of an index that exists. Otherwise files are read with
LlamaIndex's SimpleDirectoryReader and cut with its SentenceSplitter, so the passages are those of
an index that was built with these. Needs OPENAI_API_KEY.

Every answer is stored as it arrives. After an interruption the same command asks only about
the rest, and on changed documents only about what has changed.

The result is a question set in LlamaIndex's JSON:

\b
  {"queries":       {"q1": "How long is the warranty?"},
   "corpus":        {"n1": "The warranty lasts two years."},
   "relevant_docs": {"q1": ["n1"]}, "mode": "text"}

For example:

\b
  llama-index-adapters generate docs/ -o train.json
  llama-index-adapters generate docs/ -o train.json --limit 300 --dry-run
  llama-index-adapters generate --index ./chroma -o train.json \\
      --uncovered-by labels.csv
"""


def generate(
    output: QuestionSetOutput,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Files, or folders to read all files of."),
    ] = None,
    index: IndexOption = None,
    llm: Annotated[
        str,
        typer.Option(metavar="openai:NAME", help="The model that writes the questions."),
    ] = models.DEFAULT_LLM,
    chunk_size: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Tokens per passage, at most. Give your index's; the default is LlamaIndex's.",
        ),
    ] = 1024,
    questions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Questions about each passage.")
    ] = 2,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Requests under way at a time.")
    ] = 4,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Ask about so many passages, drawn at random. The others stay in the corpus.",
            show_default="all",
        ),
    ] = None,
    uncovered_by: Annotated[
        Path | None,
        typer.Option(
            metavar="LABELS", help="Ask only about passages that no question of this file is about."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked, and stop.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Generate a question set from files."""
    if bool(paths) == (index is not None):
        raise typer.BadParameter("give either PATH... or --index.")
    language_model = models.open_llm(llm)

    from llama_index_adapters.questions.generation.documents import nodes_from_files
    from llama_index_adapters.questions.generation.generate import generate_qa_embedding_pairs

    out = console()
    covered: set[str] = set()
    if uncovered_by is not None:
        relevant = read_labels(uncovered_by).relevant
        covered = {node_id for graded in relevant.values() for node_id in graded}
    if index is None:
        nodes = nodes_from_files(paths or [], chunk_size=chunk_size)
    else:
        nodes = _nodes_of_index(index)
    chosen = _chosen(nodes, covered, limit, seed)
    out.print(
        f"{counted(len(nodes), 'passage')}; asking {llm} for "
        f"{counted(questions, 'question')} about {_how_many(len(chosen), len(nodes))}",
        soft_wrap=True,
    )
    if dry_run:
        out.print(_cost(chosen, questions), soft_wrap=True)
        return
    dataset = generate_qa_embedding_pairs(
        nodes,
        language_model,
        num_questions_per_chunk=questions,
        output_path=output,
        num_workers=workers,
        verbose=True,
        ask_about=[node.node_id for node in chosen],
    )
    out.print(
        f"{counted(len(dataset.queries), 'question')} about "
        f"{counted(len(dataset.corpus), 'passage')} written to {output}\n\n"
        "Next, with the embedding model of your index:\n",
        soft_wrap=True,
    )
    show_command(out, f"llama-index-adapters finetune {output} --embed-model local -o adapter")


def _nodes_of_index(index: str) -> list[BaseNode]:
    """Return the nodes of an index; those without a text to ask about are left out."""
    from llama_index.core.schema import MetadataMode

    from llama_index_adapters.index.read import read_index

    corpus = read_index(open_index(index), check_model=False)
    console().print(str(corpus), soft_wrap=True)
    nodes = corpus.nodes()
    return [node for node in nodes if node.get_content(metadata_mode=MetadataMode.NONE).strip()]


def _chosen(
    nodes: Sequence[BaseNode], covered: set[str], limit: int | None, seed: int
) -> list[BaseNode]:
    """Return the nodes to ask about: those not covered, or as many of them as the limit says."""
    import numpy as np

    open_ = [node for node in nodes if node.node_id not in covered]
    if not open_:
        raise InvalidDatasetError(
            f"There are {len(nodes)} passages, and questions about all of them: nothing to ask."
        )
    if limit is None or limit >= len(open_):
        return open_
    rows = np.random.default_rng(seed).permutation(len(open_))[:limit]
    return [open_[row] for row in np.sort(rows)]


def _how_many(chosen: int, of_all: int) -> str:
    return "each" if chosen == of_all else f"each of {chosen:,}"


def _cost(nodes: Sequence[BaseNode], questions: int) -> str:
    """Say what the model would be asked, when no answer is stored yet."""
    from llama_index.core.schema import MetadataMode
    from llama_index.core.utils import get_tokenizer

    from llama_index_adapters.questions.generation.prompt import (
        DEFAULT_QA_GENERATE_PROMPT_TMPL,
        question_prompt,
    )

    tokenizer = get_tokenizer()
    tokens = 0
    for node in nodes:
        text = node.get_content(metadata_mode=MetadataMode.NONE)
        prompt = question_prompt(DEFAULT_QA_GENERATE_PROMPT_TMPL, text, questions)
        tokens += len(tokenizer(prompt))
    return (
        f"At most {counted(len(nodes), 'request')}, about {tokens:,} tokens to read and, at 20 a "
        f"question, {20 * questions * len(nodes):,} to write. What was answered before is not "
        "asked again."
    )
