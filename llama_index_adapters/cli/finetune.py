"""``llama-index-adapters finetune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from llama_index_adapters.adapters.families import ADAPTERS, DEFAULT_ADAPTER
from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import (
    DirectoryOutput,
    JsonOption,
    QueryModelOption,
    SeedOption,
    SimilarityOption,
    StoreOption,
    one_of,
)
from llama_index_adapters.cli.output import (
    console,
    counted,
    show_comparison,
    show_use,
    shows_progress,
    took,
)
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
    from llama_index_adapters.engines.base import FinetuneResult
    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.evaluate import Evaluation
    from llama_index_adapters.evaluation.result_file import MeasuredOn
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

WITHOUT_PASSAGES = "--also-without-passages"
HELP = """Train an adapter on questions with known answers.

Every file is a question set in LlamaIndex's JSON, as the command generate writes it:

\b
  {"queries":       {"q1": "How long is the warranty?"},
   "corpus":        {"n1": "The warranty lasts two years."},
   "relevant_docs": {"q1": ["n1"]}}

The passages of TEST.json (not its questions or answers) count as the corpus that will be
searched: the search for the best adapter may use their vectors, as an index is known before it
is asked. An option below shows how much of the gain that is.

The figures are those of TEST.json when there is one, else of the questions to validate with.
Those also decide what is learned and when training stops, so they flatter it a little.

For example:

\b
  llama-index-adapters finetune train.json --embed-model local -o adapter

\b
  llama-index-adapters finetune train.json --val val.json --test test.json \\
      --embed-model openai:text-embedding-3-small -o adapter

\b
  llama-index-adapters finetune train.json --embed-model local -o adapter \\
      --query-embed-model local \\
      --query-embed-model openai:text-embedding-3-small
"""

TrainFile = Annotated[Path, typer.Argument(metavar="TRAIN.json", help="Questions to learn from.")]
EmbedModelOption = Annotated[
    str,
    typer.Option(metavar=models.EMBED_MODELS, help="The model your index was built with."),
]
ValFile = Annotated[
    Path | None,
    typer.Option(
        metavar="VAL.json",
        help="Questions to validate with.",
        show_default="held out of TRAIN.json",
    ),
]
TestFile = Annotated[
    Path | None,
    typer.Option(
        metavar="TEST.json",
        help="Questions to measure the result on. Training never sees them.",
    ),
]
WithoutPassagesOption = Annotated[
    bool,
    typer.Option(
        WITHOUT_PASSAGES,
        help="Train a second time without the passages of TEST.json and give that figure too: "
        "it says what a corpus gets that training did not know. Takes as long again.",
    ),
]
AdapterOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(ADAPTERS),
        callback=one_of(ADAPTERS),
        help="What to learn; auto tries several and keeps what held-out questions show to be best.",
    ),
]
EpochsOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Passes over the questions, at most; training stops when validation no longer gains.",
    ),
]
BatchSizeOption = Annotated[int, typer.Option(metavar="N", min=1, help="Questions per step.")]
LearningRateOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="The peak of the learning rate. With auto: train a linear adapter at this rate.",
        show_default=f"{TrainingOptions.learning_rate:g}, auto tries several",
    ),
]
BiasOption = Annotated[
    bool | None,
    typer.Option(
        "--bias/--no-bias",
        help="Learn a bias too, or none. With auto: train a linear adapter like that.",
        show_default="as the adapter does",
    ),
]
UnseenShareOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        min=0,
        max=1,
        help="Share of later questions about passages nobody asked about; auto weighs them by it.",
        show_default="estimated from TRAIN.json",
    ),
]
TargetDimOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Map questions and passages to N dimensions, for an index that rewrite_index copies.",
        show_default="the model's, and passages stay as they are",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A torch device, such as cpu or cuda.",
        show_default="the best there is",
    ),
]


def finetune(
    train: TrainFile,
    embed_model: EmbedModelOption,
    output: DirectoryOutput,
    val: ValFile = None,
    test: TestFile = None,
    query_embed_model: QueryModelOption = None,
    also_without_passages: WithoutPassagesOption = False,
    json: JsonOption = None,
    adapter: AdapterOption = DEFAULT_ADAPTER,
    similarity: SimilarityOption = "cosine",
    store: StoreOption = None,
    epochs: EpochsOption = TrainingOptions.epochs,
    batch_size: BatchSizeOption = TrainingOptions.batch_size,
    learning_rate: LearningRateOption = None,
    bias: BiasOption = None,
    unseen_share: UnseenShareOption = None,
    target_dim: TargetDimOption = None,
    seed: SeedOption = TrainingOptions.seed,
    device: DeviceOption = TrainingOptions.device,
) -> None:
    """Finetune, measure, and show how to use the result."""
    if also_without_passages and test is None:
        raise typer.BadParameter(f"{WITHOUT_PASSAGES} needs --test TEST.json.")
    sets = _QuestionSets.read(train, val, test)
    base_model = models.open_embed_model(embed_model)
    query_names = query_embed_model or []
    query_models = models.open_query_models(query_names, embed_model, base_model)
    shared = {"similarity": similarity, "seed": seed, "store": store}
    shared["show_progress"] = shows_progress()
    how = {"adapter": adapter, "epochs": epochs, "batch_size": batch_size, "bias": bias}
    # Only handed on when they were given: a rate turns off the search, the others need it.
    given = {
        "learning_rate": learning_rate,
        "unseen_share": unseen_share,
        "target_dim": target_dim,
        "query_embed_models": query_models,
    }
    how |= {name: value for name, value in given.items() if value is not None}
    training = _Training(sets, base_model, shared, {**how, "device": device})

    searches = adapter == DEFAULT_ADAPTER and bias is None and learning_rate is None
    target_corpus = sets.other_passages() if searches else None
    engine = training.engine(output, target_corpus)
    out = console()
    _show_start(out, sets, query_models or [base_model])
    finetuned = engine.finetune()
    figures = training.figures(engine, finetuned)
    without = None
    if also_without_passages and finetuned.target_corpus:
        without = training.tested_without_target_corpus()
    if json is not None:
        _write_figures(json, figures, finetuned, base_model, query_models, without)
    _show_figures(out, figures, finetuned, sets)
    if test is not None:
        _show_role_of_passages(out, test, finetuned, without, asked=also_without_passages)
    _show_adapter(out, finetuned, json)
    show_use(out, output, embed_model, query_names, maps_passages=target_dim is not None)


@dataclass(frozen=True)
class _QuestionSets:
    """The question sets of the command, and the files they were read from."""

    train: EmbeddingQAFinetuneDataset
    val: EmbeddingQAFinetuneDataset | None
    test: EmbeddingQAFinetuneDataset | None
    paths: tuple[Path, Path | None, Path | None]

    @classmethod
    def read(cls, train: Path, val: Path | None, test: Path | None) -> _QuestionSets:
        from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

        read = EmbeddingQAFinetuneDataset.from_json
        return cls(
            read(train),
            None if val is None else read(val),
            None if test is None else read(test),
            (train, val, test),
        )

    def other_passages(self) -> list[str] | None:
        """Return the passages of the test set, if training does not have them all."""
        if self.test is None:
            return None
        passages = list(self.test.corpus.values())
        return passages if set(passages) - set(self.train.corpus.values()) else None

    def measured(self, comparison: Comparison) -> str:
        """Name the files that the questions of a comparison come from."""
        train, val, test = self.paths
        if test is not None:
            return str(test)
        if self.val is None:
            return f"held out of {train}"
        # A search adds training questions to a small validation set.
        judged = comparison.wins + comparison.losses + comparison.ties
        return f"{val} and held out of {train}" if judged > len(self.val.queries) else str(val)


@dataclass(frozen=True)
class _Figures:
    """What was measured, and what all of it took."""

    comparison: Comparison
    measured_on: MeasuredOn
    texts_embedded: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Training:
    """Trains on the question sets, and tests what it gave.

    Attributes:
        sets: the question sets.
        base_model: embeds their texts.
        shared: what the engine and the evaluation are both given.
        how: what only the engine is given.
    """

    sets: _QuestionSets
    base_model: BaseEmbedding
    shared: Mapping[str, Any]
    how: Mapping[str, Any]

    def engine(
        self, output: Path, target_corpus: list[str] | None
    ) -> EmbeddingAdapterFinetuneEngine:
        from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine

        return EmbeddingAdapterFinetuneEngine(
            self.sets.train,
            self.base_model,
            val_dataset=self.sets.val,
            model_output_path=output,
            target_corpus=target_corpus,
            **self.shared,
            **self.how,
        )

    def figures(
        self, engine: EmbeddingAdapterFinetuneEngine, finetuned: FinetuneResult
    ) -> _Figures:
        """Return the figures of the test set, of the validation set when there is none."""
        texts, seconds = finetuned.texts_embedded, finetuned.seconds
        tested = self._tested(engine)
        if tested is None:
            assert finetuned.comparison is not None  # texts of one model: vectors of one dimension
            return _Figures(finetuned.comparison, "validation", texts, seconds)
        return _Figures(
            tested.comparison,
            "test",
            texts + tested.texts_embedded,
            {stage: seconds[stage] + tested.seconds.get(stage, 0.0) for stage in seconds},
        )

    def tested_without_target_corpus(self) -> Comparison:
        """Train again without a target corpus, and return the figures of the test set."""
        with TemporaryDirectory() as directory:
            engine = self.engine(Path(directory) / "adapter", None)
            engine.finetune()
            tested = self._tested(engine)
        assert tested is not None
        return tested.comparison

    def _tested(self, engine: EmbeddingAdapterFinetuneEngine) -> Evaluation | None:
        from llama_index_adapters.evaluation.evaluate import evaluate

        if self.sets.test is None:
            return None
        return evaluate(engine.get_finetuned_model(), self.sets.test, **self.shared)


def _write_figures(
    path: Path,
    figures: _Figures,
    finetuned: FinetuneResult,
    base_model: BaseEmbedding,
    query_models: Sequence[BaseEmbedding] | None,
    without: Comparison | None,
) -> None:
    from llama_index_adapters.evaluation.result_file import result_record, write_result
    from llama_index_adapters.vectors.identity import IdentifiedModel

    record = result_record(
        figures.comparison,
        measured_on=figures.measured_on,
        adapter=finetuned.adapter,
        path=finetuned.path,
        embed_model=IdentifiedModel(base_model).label,
        seconds=figures.seconds,
        texts_embedded=figures.texts_embedded,
    )
    record["target_corpus"] = finetuned.target_corpus
    if query_models is not None:
        record["query_embed_models"] = [IdentifiedModel(model).label for model in query_models]
    parts = {"outlook": finetuned.outlook, "best_trial": finetuned.best_trial}
    record |= {name: None if part is None else asdict(part) for name, part in parts.items()}
    if without is not None:
        record["without_target_corpus"] = without.adapted
    write_result(path, record)


def _show_start(out: Console, sets: _QuestionSets, asked: Sequence[BaseEmbedding]) -> None:
    from llama_index_adapters.vectors.identity import IdentifiedModel

    names = " and ".join(IdentifiedModel(model).label for model in asked)
    out.print(
        f"Training on {counted(len(sets.train.queries), 'question')} about "
        f"{counted(len(sets.train.corpus), 'passage')}, with {names}",
        soft_wrap=True,
    )


def _show_figures(
    out: Console, figures: _Figures, finetuned: FinetuneResult, sets: _QuestionSets
) -> None:
    chosen = [trial.name for trial in finetuned.trials if trial.chosen]
    out.print(
        f"Embedded {counted(figures.texts_embedded, 'text')} in "
        f"{took(figures.seconds['embed'])}, trained in {took(figures.seconds['train'])}"
        + (f"\nChosen of {len(finetuned.trials)} adapters: {chosen[0]}" if chosen else "")
        + "\n\n"
        f"Base and adapted on the {figures.measured_on} questions "
        f"({sets.measured(figures.comparison)}):",
        soft_wrap=True,
    )
    show_comparison(out, figures.comparison)


def _show_role_of_passages(
    out: Console,
    test: Path,
    finetuned: FinetuneResult,
    without: Comparison | None,
    *,
    asked: bool,
) -> None:
    """Say whether the passages of the test set were known, and what they brought if asked."""
    if not finetuned.target_corpus:
        if asked:
            out.print(f"\nTraining did not use the passages of {test}: nothing to do without.")
        return
    figure = f"{WITHOUT_PASSAGES} trains a second time without them."
    if without is not None:
        figure = f"Without them the adapted nDCG@10 is {without.adapted['ndcg@10']:.4f}."
    out.print(
        f"\nThe search knew the passages of {test} (not its questions or answers), as an index is "
        f"known before it is asked. {figure}"
    )


def _show_adapter(out: Console, finetuned: FinetuneResult, json: Path | None) -> None:
    if finetuned.adapter == "identity":
        out.print(
            "Training gained nothing on the validation questions, so the adapter is the "
            "identity: it leaves questions as they are."
        )
    out.print(f"\n{finetuned.why}")
    written = "" if json is None else f", these figures to {json}"
    out.print(
        f"\nAdapter ({finetuned.adapter}) written to {finetuned.path}{written}.\n", soft_wrap=True
    )
