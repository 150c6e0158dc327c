"""``llama-index-adapters report``."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from llama_index_adapters.cli import models
from llama_index_adapters.cli.evaluate import (
    AdapterDirectories,
    EmbedModelOption,
    TestFile,
    opened,
    refuse_twice,
)
from llama_index_adapters.cli.options import (
    QueryModelOption,
    ReportOutput,
    SeedOption,
    SimilarityOption,
    StoreOption,
)
from llama_index_adapters.cli.output import console
from llama_index_adapters.cli.question_files import read_questions
from llama_index_adapters.retrieval.ranking import Similarity

HELP = """Write an HTML page that shows what an adapter changed.

One file that opens without a network: the gain with its interval, every metric, the questions that
got better and worse with the passages that were found, a map of the questions, and the passages
that come up too often. Several DIRs stand side by side, and the first is shown in detail. The page
holds texts of TEST.json, unless --no-texts is given. Needs the extra "report".

For example:

\b
  llama-index-adapters report adapter test.json --output report.html
  llama-index-adapters report new adapter test.json -o report.html
"""


def report(
    directories: AdapterDirectories,
    test: TestFile,
    output: ReportOutput,
    embed_model: EmbedModelOption = None,
    query_embed_model: QueryModelOption = None,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Show texts, or ids alone.")
    ] = True,
    similarity: SimilarityOption = "cosine",
    store: StoreOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write a report of one or several adapters."""
    refuse_twice(directories)
    from llama_index_adapters.report import write_report
    from llama_index_adapters.serving.saved import load_saved

    dataset = read_questions(test)
    saved = {path: load_saved(path) for path in directories}
    name = embed_model or models.name_of_base_model(saved[directories[0]].metadata.base_model)
    base_model = models.open_embed_model(name)
    # A page that is sent around need not say where the adapter lies.
    unique = len({path.name for path in saved}) == len(saved)
    shown = {}
    for path, one in saved.items():
        model, _ = opened(path, one, name, base_model, query_embed_model or ())
        shown[(unique and path.name) or str(path)] = model
    written = write_report(
        output,
        shown,
        dataset,
        texts=texts,
        store=store,
        similarity=cast(Similarity, similarity),
        seed=seed,
        show_progress=True,
    )
    out = console()
    out.print(written.sentence, soft_wrap=True)
    out.print(f"\nThe report is in {output}.", soft_wrap=True)
