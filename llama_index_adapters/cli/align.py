"""``llama-index-adapters align``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_index_adapters.cli import models
from llama_index_adapters.cli.indexes import INDEX_HELP, INDEXES, open_index
from llama_index_adapters.cli.options import DirectoryOutput, JsonOption, SeedOption, StoreOption
from llama_index_adapters.cli.output import console, counted, show_command

if TYPE_CHECKING:
    from llama_index_adapters.engines.alignment import Passages
    from llama_index_adapters.vectors.query_models import QueryModels

BELOW_THRESHOLD = 3

HELP = """Ask another model for queries, and keep the index as it is. No labels are needed.

A sample of at most a thousand passages is embedded by the other model, and a map is made from
its vectors and the stored ones. What the map keeps of the other model's own ranking is measured on
texts that it has not seen. The texts, requests and tokens this takes are shown before anything is
embedded.

With --keep-at-least the exit status is 3 when less is kept, and the map is written all the same.
The share is of the other model's ranking of the sample, not of answers: only labels tell those
(the command evaluate, or the engine in Python).

For example:

\b
  llama-index-adapters align --index ./storage -o adapter \\
      --query-embed-model local

\b
  llama-index-adapters align --index ./chroma#articles --dry-run \\
      --query-embed-model openai:text-embedding-3-small -o adapter
"""


def align(
    index: Annotated[str, typer.Option(metavar=INDEXES, help=INDEX_HELP)],
    query_embed_model: Annotated[
        str,
        typer.Option(metavar=models.EMBED_MODELS, help="The model that embeds queries from now."),
    ],
    output: DirectoryOutput,
    query_log: Annotated[
        Path | None,
        typer.Option(
            metavar="QUERIES.txt",
            help="Queries without known answers, one a line: they say better than passages what "
            "is kept.",
        ),
    ] = None,
    keep_at_least: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Exit with status 3 when less than this share of the ranking is kept.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be embedded, and stop.")
    ] = False,
    store: StoreOption = None,
    seed: SeedOption = 0,
    json: JsonOption = None,
) -> None:
    """Map another model's queries into the space of an index."""
    other = models.open_embed_model(query_embed_model)

    from llama_index_adapters.engines.alignment import (
        align_query_model,
        drawn_passages,
        save_alignment,
    )
    from llama_index_adapters.evaluation.result_file import write_result
    from llama_index_adapters.index.read import read_index
    from llama_index_adapters.questions.logs import read_queries
    from llama_index_adapters.vectors.query_models import QueryModels

    out = console()
    log = None if query_log is None else read_queries(query_log)
    query_models = QueryModels.of(None, [other])
    corpus = read_index(open_index(index), check_model=False, show_progress=True)
    out.print(str(corpus), soft_wrap=True)
    passages = drawn_passages(corpus, query_models, store, seed=seed)
    out.print(_cost(query_models, passages, log or [], store), soft_wrap=True)
    if dry_run:
        return
    aligned = align_query_model(
        passages, query_models, log, store=store, seed=seed, show_progress=True
    )
    save_alignment(output, query_models, aligned, passages)
    if json is not None:
        write_result(json, {"alignment": aligned.report.to_dict(), "path": str(output)})
    out.print(f"\n{aligned.report}\n\nAdapter written to {output}.\n", soft_wrap=True)
    _show_use(query_embed_model, output)
    if keep_at_least is not None and aligned.report.kept.mean < keep_at_least:
        out.print(f"Less than the {keep_at_least:.1%} of --keep-at-least is kept.")
        raise typer.Exit(BELOW_THRESHOLD)


def _cost(models_: QueryModels, passages: Passages, log: list[str], store: Path | None) -> str:
    """Say what the other model will be asked for, which is what is not stored yet."""
    from llama_index.core.utils import get_tokenizer

    from llama_index_adapters.vectors.store import EmbeddingStore

    (other,) = models_.models
    with EmbeddingStore(store) as opened:
        missing = opened.missing(other.identity, "passage", passages.texts)
        asked = opened.missing(other.identity, "query", log)
    tokenizer = get_tokenizer()
    tokens = sum(len(tokenizer(text)) for text in [*missing, *asked])
    requests = -(-len(missing) // other.model.embed_batch_size) + len(asked)
    return (
        f"{other.label} will be asked for {counted(len(missing), 'passage')} of "
        f"{passages.count:,} and {counted(len(asked), 'query').replace('querys', 'queries')}: "
        f"at most {counted(requests, 'request')}, about {tokens:,} tokens"
    )


def _show_use(query_embed_model: str, output: Path) -> None:
    out = console()
    line, expression = models.code_for(query_embed_model)
    out.print("To use it with the index you have:\n")
    show_command(
        out,
        "\n  ".join(
            (
                line,
                "from llama_index_adapters import AdapterEmbeddingModel",
                f'embed_model = AdapterEmbeddingModel(None, "{output}", '
                f"query_embed_models=[{expression}])",
                "retriever = index.as_retriever(embed_model=embed_model)",
            )
        ),
    )
