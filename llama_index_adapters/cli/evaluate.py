"""``llama-index-adapters evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import (
    JsonOption,
    KOption,
    QueryModelOption,
    SeedOption,
    SimilarityOption,
    StoreOption,
    file_to_write,
)
from llama_index_adapters.cli.output import (
    console,
    counted,
    show_adapters,
    show_comparison,
    took,
)
from llama_index_adapters.cli.question_files import (
    IndexOption,
    OpenedIndex,
    read_questions,
    require_labels,
    texts_of_queries,
)
from llama_index_adapters.retrieval.ranking import Similarity

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.evaluate import Evaluation
    from llama_index_adapters.evaluation.replacement import Replacement
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
    from llama_index_adapters.questions.views import AnyQuestions
    from llama_index_adapters.serving.model import AdapterEmbeddingModel
    from llama_index_adapters.serving.saved import SavedAdapter

HELP = """Measure saved adapters against their base model.

TEST.json is a question set in LlamaIndex's JSON, as the command generate writes it, or a folder
of BEIR (FOLDER#SPLIT). Each question ranks the whole corpus of the file, once as the base model
has it and once adapted. Take questions that training has not seen. With --index the stored
vectors of that index are ranked, and TEST may be a table of labels: .csv or .jsonl with query,
node_id and grade, clicked or the like.

Several DIRs are measured on the same questions, the best first.

With --against, DIR is compared with the adapter in use instead of the base model, and the last
line says whether to switch: when the whole 95% interval of the gain in nDCG is above zero.

For example:

\b
  llama-index-adapters evaluate adapter test.json --json result.json
  llama-index-adapters evaluate may june july test.json --k 5
  llama-index-adapters evaluate new-adapter test.json --against adapter
  llama-index-adapters evaluate adapter labels.csv --index ./chroma
"""


AdapterDirectories = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="The directories of one adapter or several.")
]
TestFile = Annotated[
    Path, typer.Argument(metavar="TEST.json", help="Questions with known answers.")
]
EmbedModelOption = Annotated[
    str | None,
    typer.Option(
        metavar=models.EMBED_MODELS,
        help="The model the adapters were trained on.",
        show_default="the one that the first DIR names",
    ),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR2", help="The adapter in use, to compare with."),
]
PerQuestionOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        callback=file_to_write,
        help="Also write a row for each question here, with every metric of base and adapted.",
    ),
]


def evaluate(
    directories: AdapterDirectories,
    test: TestFile,
    index: IndexOption = None,
    embed_model: EmbedModelOption = None,
    query_embed_model: QueryModelOption = None,
    against: AgainstOption = None,
    k: KOption = 10,
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
    per_question: PerQuestionOption = None,
    json: JsonOption = None,
) -> None:
    """Compare base and adapted on a question set."""
    if against is not None and len(directories) > 1:
        raise typer.BadParameter("--against compares one DIR with the adapter in use.")
    refuse_twice(directories)
    from llama_index_adapters.serving.saved import load_saved
    from llama_index_adapters.vectors.identity import IdentifiedModel

    texts = None
    if index is None:
        texts = read_questions(test)
    else:
        require_labels(test)
    saved = {directory: load_saved(directory) for directory in directories}
    name = embed_model or models.name_of_base_model(saved[directories[0]].metadata.base_model)
    base_model = models.open_embed_model(name)
    opened = None if index is None else OpenedIndex.open(index, base_model, store)
    shared = {
        "store": store,
        "similarity": cast(Similarity, similarity),
        "k": k,
        "seed": seed,
        "merge_copies": merge_copies,
    }
    measuring = _Measuring(test, texts, opened, base_model, name, query_embed_model or (), shared)
    measured = {
        directory: measuring.measured(directory, found, against)
        for directory, found in saved.items()
    }
    label = IdentifiedModel(base_model).label
    if json is not None:
        records = [
            _record(result, saved[directory].kind, directory, label, against)
            for directory, result in measured.items()
        ]
        _write(json, records)
    if per_question is not None:
        measuring.write_per_question(per_question, measured, against)
    out = console()
    embedded = opened.cost.texts if opened is not None else 0
    embedded += sum(result.texts_embedded for result in measured.values())
    seconds = opened.cost.seconds if opened is not None else 0.0
    seconds += sum(result.seconds["embed"] for result in measured.values())
    out.print(f"Embedded {counted(embedded, 'text')} in {took(seconds)} with {label}\n")
    _show(out, measured, saved, test, against)
    for path, what in ((json, "These figures"), (per_question, "A row for each question")):
        if path is not None:
            out.print(f"\n{what} written to {path}.", soft_wrap=True)


@dataclass
class _Measuring:
    """Measures adapters on the same questions.

    Attributes:
        test: the file they come from.
        texts: the questions as texts; None where an index has the passages.
        index: the index; None for texts.
        base_model: the model of the passages.
        name: its name on the command line.
        query_models: the names of the models that embed queries, where they were given.
        shared: what is measured, and how.
        query_ids: the ids of the questions, in the order they are measured in.
    """

    test: Path
    texts: EmbeddingQAFinetuneDataset | None
    index: OpenedIndex | None
    base_model: BaseEmbedding
    name: str
    query_models: Sequence[str]
    shared: Mapping[str, Any]
    query_ids: Sequence[str] = ()

    def measured(
        self, directory: Path, saved: SavedAdapter, against: Path | None
    ) -> Evaluation | Replacement:
        from llama_index_adapters.evaluation.evaluate import evaluate as evaluated
        from llama_index_adapters.evaluation.replacement import compare_adapters
        from llama_index_adapters.serving.saved import load_saved

        how = {**self.shared, "show_progress": True}
        model, asked = self._opened(directory, saved)
        dataset = self._questions(asked)
        if against is None:
            return evaluated(model, dataset, **how)
        in_use, _ = self._opened(against, load_saved(against))
        return compare_adapters(in_use, model, dataset, **how)

    def write_per_question(
        self,
        path: Path,
        measured: Mapping[Path, Evaluation | Replacement],
        against: Path | None,
    ) -> None:
        from llama_index_adapters.evaluation.per_question import write_per_question

        texts = texts_of_queries(self.test) if self.texts is None else self.texts.queries
        comparisons = {str(name): result.comparison for name, result in measured.items()}
        labels = ("base", "adapted") if against is None else ("in_use", "candidate")
        write_per_question(path, comparisons, self.query_ids, texts, labels=labels)

    def _questions(self, query_models: Sequence[BaseEmbedding] | None) -> AnyQuestions:
        if self.index is not None:
            data = self.index.questions(self.test, query_models)
            self.query_ids = data.query_ids
            return data
        assert self.texts is not None
        self.query_ids = tuple(self.texts.queries)
        return self.texts

    def _opened(
        self, path: Path, saved: SavedAdapter
    ) -> tuple[AdapterEmbeddingModel, list[BaseEmbedding] | None]:
        return opened(path, saved, self.name, self.base_model, self.query_models)


def refuse_twice(directories: Sequence[Path]) -> None:
    """Refuse directories that are not distinct.

    Raises:
        BadParameter: when the same one is named twice.
    """
    if len(set(directories)) < len(directories):
        raise typer.BadParameter("the same DIR is named twice.")


def opened(
    path: Path,
    saved: SavedAdapter,
    base_name: str,
    base_model: BaseEmbedding,
    query_names: Sequence[str],
) -> tuple[AdapterEmbeddingModel, list[BaseEmbedding] | None]:
    """Return a saved adapter with the models it asks, opened by their names, and those models.

    Raises:
        InvalidOptionError: when a model cannot be opened by the name that the adapter has of it.
        ModelMismatchError: when a model is another one than in training.
    """
    from llama_index_adapters.serving.model import AdapterEmbeddingModel

    names = _query_models(saved, base_name, query_names)
    asked = models.open_query_models(names, base_name, base_model)
    return AdapterEmbeddingModel(base_model, path, query_embed_models=asked), asked


def _query_models(saved: SavedAdapter, base_name: str, given: Sequence[str]) -> Sequence[str]:
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


def _record(
    measured: Evaluation | Replacement,
    kind: str,
    directory: Path,
    embed_model: str,
    against: Path | None,
) -> dict[str, Any]:
    from llama_index_adapters.evaluation.replacement import Replacement
    from llama_index_adapters.evaluation.result_file import result_record

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
    return record


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    from llama_index_adapters.evaluation.result_file import write_result

    write_result(path, records[0] if len(records) == 1 else {"adapters": records})


def _show(
    out: Console,
    measured: Mapping[Path, Evaluation | Replacement],
    saved: Mapping[Path, SavedAdapter],
    test: Path,
    against: Path | None,
) -> None:
    from llama_index_adapters.evaluation.replacement import LABELS, Replacement

    if len(measured) > 1:
        out.print(f"Base and adapted on the questions of {test}:", soft_wrap=True)
        comparisons = {str(name): result.comparison for name, result in measured.items()}
        show_adapters(out, comparisons)
        out.print(_lead(comparisons), soft_wrap=True)
        return
    ((directory, result),) = measured.items()
    compared = f"Base and adapted ({saved[directory].kind})"
    if against is not None:
        compared = f"{against} (in use) and {directory} (candidate)"
    out.print(f"{compared} on the questions of {test}:", soft_wrap=True)
    if isinstance(result, Replacement):
        show_comparison(out, result.comparison, LABELS)
        out.print(result.advice, soft_wrap=True)
    else:
        show_comparison(out, result.comparison)


def _lead(comparisons: Mapping[str, Comparison]) -> str:
    """Say by how much the best adapter leads the next, and whether that is certain."""
    from llama_index_adapters.evaluation.comparison import by_quality, compare

    (best, first), (next_best, second) = by_quality(comparisons)[:2]
    lead = compare(second.per_query.adapted, first.per_query.adapted)
    gain = lead.gains[lead.metric]
    certain = "" if gain.low > 0 else ", which is not certain"
    return (
        f"{best} leads {next_best} by {gain.mean:.4f} nDCG (95% interval {gain.low:+.4f} to "
        f"{gain.high:+.4f}){certain}."
    )
