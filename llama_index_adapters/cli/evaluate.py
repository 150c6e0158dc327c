"""``llama-index-adapters evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import (
    JsonOption,
    QueryModelOption,
    SeedOption,
    SimilarityOption,
    StoreOption,
)
from llama_index_adapters.cli.output import console, counted, show_comparison, shows_progress, took
from llama_index_adapters.retrieval.ranking import Similarity

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.evaluation.evaluate import Evaluation
    from llama_index_adapters.evaluation.replacement import Replacement
    from llama_index_adapters.serving.model import AdapterEmbeddingModel
    from llama_index_adapters.serving.saved import SavedAdapter

HELP = """Measure a saved adapter against its base model.

TEST.json is a question set in LlamaIndex's JSON, as the command generate writes it. Each
question ranks the whole corpus of the file, once as the base model has it and once adapted.
Take questions that training has not seen.

With --against, DIR is compared with the adapter in use instead of the base model, and the last
line says whether to switch: when the whole 95% interval of the gain in nDCG@10 is above zero.

For example:

\b
  llama-index-adapters evaluate adapter test.json --json result.json
  llama-index-adapters evaluate new-adapter test.json --against adapter
"""


AdapterDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The adapter's directory.")]
TestFile = Annotated[
    Path, typer.Argument(metavar="TEST.json", help="Questions with known answers.")
]
EmbedModelOption = Annotated[
    str | None,
    typer.Option(
        metavar=models.EMBED_MODELS,
        help="The model the adapter was trained on.",
        show_default="the one that DIR names",
    ),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR2", help="The adapter in use, to compare with."),
]


def evaluate(
    directory: AdapterDirectory,
    test: TestFile,
    embed_model: EmbedModelOption = None,
    query_embed_model: QueryModelOption = None,
    against: AgainstOption = None,
    similarity: SimilarityOption = "cosine",
    store: StoreOption = None,
    seed: SeedOption = 0,
    merge_copies: Annotated[
        bool,
        typer.Option(
            "--merge-copies",
            help="Take passages of the same text under different ids as one. Without it each is "
            "ranked by itself, and the table says what that costs.",
        ),
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compare base and adapted on a question set."""
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
    from llama_index_adapters.serving.saved import load_saved

    dataset = EmbeddingQAFinetuneDataset.from_json(test)
    saved = load_saved(directory)
    name = embed_model or models.name_of_base_model(saved.metadata.base_model)
    base_model = models.open_embed_model(name)

    from llama_index_adapters.evaluation.evaluate import evaluate as evaluated
    from llama_index_adapters.evaluation.replacement import compare_adapters
    from llama_index_adapters.vectors.identity import IdentifiedModel

    model = opened(directory, saved, name, base_model, query_embed_model)
    measure: Callable[..., Evaluation | Replacement] = partial(evaluated, model)
    compared = f"Base and adapted ({saved.kind})"
    if against is not None:
        in_use = opened(against, load_saved(against), name, base_model, query_embed_model)
        measure = partial(compare_adapters, in_use, model)
        compared = f"{against} (in use) and {directory} (candidate)"
    measured = measure(
        dataset,
        store=store,
        similarity=cast(Similarity, similarity),
        seed=seed,
        merge_copies=merge_copies,
        show_progress=shows_progress(),
    )
    label = IdentifiedModel(base_model).label
    if json is not None:
        _write_figures(json, measured, saved.kind, directory, label, against)
    out = console()
    out.print(
        f"Embedded {counted(measured.texts_embedded, 'text')} in "
        f"{took(measured.seconds['embed'])} with {label}\n\n"
        f"{compared} on the questions of {test}:",
        soft_wrap=True,
    )
    _show_comparison(out, measured)
    if json is not None:
        out.print(f"\nThese figures written to {json}.", soft_wrap=True)


def opened(
    path: Path,
    saved: SavedAdapter,
    base_name: str,
    base_model: BaseEmbedding,
    query_names: Sequence[str] | None,
) -> AdapterEmbeddingModel:
    """Return a saved adapter with the models it asks, opened by their names.

    Raises:
        InvalidOptionError: when a model cannot be opened by the name that the adapter has of it.
        ModelMismatchError: when a model is another one than in training.
    """
    from llama_index_adapters.serving.model import AdapterEmbeddingModel

    names = _query_models(saved, base_name, query_names)
    queried = models.open_query_models(names, base_name, base_model)
    return AdapterEmbeddingModel(base_model, path, query_embed_models=queried)


def _query_models(
    saved: SavedAdapter, base_name: str, given: Sequence[str] | None
) -> Sequence[str]:
    """Return the names of the models that embed queries; none where the base does alone.

    Raises:
        InvalidOptionError: when a model cannot be opened by the name that the adapter has of it.
    """
    asked = saved.metadata.query_models
    if len(asked) == 1 and asked[0].role == "base":
        return ()
    return given or [
        base_name if model.role == "base" else models.name_of_query_model(model.name)
        for model in asked
    ]


def _write_figures(
    path: Path,
    measured: Evaluation | Replacement,
    kind: str,
    directory: Path,
    embed_model: str,
    against: Path | None,
) -> None:
    from llama_index_adapters.evaluation.replacement import Replacement
    from llama_index_adapters.evaluation.result_file import result_record, write_result

    record = result_record(
        measured.comparison,
        measured_on="test",
        adapter=kind,
        path=directory,
        embed_model=embed_model,
        seconds=measured.seconds,
        texts_embedded=measured.texts_embedded,
    )
    if isinstance(measured, Replacement):
        record |= {"against": str(against), "switch": measured.switch}
    write_result(path, record)


def _show_comparison(out: Console, measured: Evaluation | Replacement) -> None:
    from llama_index_adapters.evaluation.replacement import LABELS, Replacement

    if isinstance(measured, Replacement):
        show_comparison(out, measured.comparison, LABELS)
        out.print(measured.advice, soft_wrap=True)
    else:
        show_comparison(out, measured.comparison)
