"""``llama-index-adapters generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import QuestionSetOutput
from llama_index_adapters.cli.output import console, counted, show_command

HELP = """Let a language model write questions about your documents.

Files are read with LlamaIndex's SimpleDirectoryReader and cut with its SentenceSplitter, so
the passages are those of an index that was built with these. Needs OPENAI_API_KEY.

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
"""


def generate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Files, or folders to read all files of."),
    ],
    output: QuestionSetOutput,
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
) -> None:
    """Generate a question set from files."""
    language_model = models.open_llm(llm)

    from llama_index_adapters.questions.generation.documents import nodes_from_files
    from llama_index_adapters.questions.generation.generate import generate_qa_embedding_pairs

    out = console()
    nodes = nodes_from_files(paths, chunk_size=chunk_size)
    out.print(
        f"{counted(len(nodes), 'passage')}; asking {llm} for "
        f"{counted(questions, 'question')} about each",
        soft_wrap=True,
    )
    dataset = generate_qa_embedding_pairs(
        nodes,
        language_model,
        num_questions_per_chunk=questions,
        output_path=output,
        num_workers=workers,
        verbose=True,
    )
    out.print(
        f"{counted(len(dataset.queries), 'question')} about "
        f"{counted(len(dataset.corpus), 'passage')} written to {output}\n\n"
        "Next, with the embedding model of your index:\n",
        soft_wrap=True,
    )
    show_command(out, f"llama-index-adapters finetune {output} --embed-model local -o adapter")
