"""``llama-index-adapters finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llama_index_adapters.adapters.families import ADAPTERS, DEFAULT_ADAPTER
from llama_index_adapters.cli import models
from llama_index_adapters.cli.finetune_output import (
    WITHOUT_PASSAGES,
    Figures,
    QuestionSets,
    show_adapter,
    show_figures,
    show_role_of_passages,
    show_start,
    write_figures,
)
from llama_index_adapters.cli.options import (
    DirectoryOutput,
    JsonOption,
    KOption,
    QueryModelOption,
    SeedOption,
    SimilarityOption,
    StoreOption,
    one_of,
)
from llama_index_adapters.cli.output import console, show_use
from llama_index_adapters.cli.question_files import IndexOption, OpenedIndex, require_labels
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
    from llama_index_adapters.engines.base import FinetuneResult
    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.evaluate import Evaluation

DEFAULT_K = 10
HELP = """Train an adapter on questions with known answers.

Every file is a question set in LlamaIndex's JSON, as the command generate writes it:

\b
  {"queries":       {"q1": "How long is the warranty?"},
   "corpus":        {"n1": "The warranty lasts two years."},
   "relevant_docs": {"q1": ["n1"]}}

A folder of BEIR (FOLDER#SPLIT) does as well. With --index the passages are the stored vectors of
an index, and a file may be a table of labels: .csv or .jsonl with query, node_id and grade,
clicked or the like. No passage is embedded, but for three to see whose vectors they are.

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
  llama-index-adapters finetune labels.csv --index ./chroma \\
      --embed-model local -o adapter

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
    index: IndexOption = None,
    query_embed_model: QueryModelOption = None,
    also_without_passages: WithoutPassagesOption = False,
    json: JsonOption = None,
    adapter: AdapterOption = DEFAULT_ADAPTER,
    similarity: SimilarityOption = "cosine",
    k: KOption = DEFAULT_K,
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
    if k != DEFAULT_K and test is None:
        raise typer.BadParameter("--k is how TEST.json is measured; name it with --test TEST.json.")
    sets = None
    if index is None:
        sets = QuestionSets.read(train, val, test)
    else:
        require_labels(train, val, test)
    base_model = models.open_embed_model(embed_model)
    query_names = query_embed_model or []
    query_models = models.open_query_models(query_names, embed_model, base_model)
    if index is not None:
        opened = OpenedIndex.open(index, base_model, store)
        sets = QuestionSets.of_index(opened, (train, val, test), query_models)
    assert sets is not None
    shared = {"similarity": similarity, "seed": seed, "store": store}
    shared["show_progress"] = True
    how = {"adapter": adapter, "epochs": epochs, "batch_size": batch_size, "bias": bias}
    # Only handed on when they were given: a rate turns off the search, the others need it.
    given = {
        "learning_rate": learning_rate,
        "unseen_share": unseen_share,
        "target_dim": target_dim,
        "query_embed_models": query_models,
    }
    how |= {name: value for name, value in given.items() if value is not None}
    training = _Training(sets, base_model, shared, {**how, "device": device}, k)

    searches = adapter == DEFAULT_ADAPTER and bias is None and learning_rate is None
    target_corpus = sets.other_passages() if searches else None
    engine = training.engine(output, target_corpus)
    out = console()
    show_start(out, sets, query_models or [base_model])
    finetuned = engine.finetune()
    figures = training.figures(engine, finetuned)
    without = None
    if also_without_passages and finetuned.target_corpus:
        without = training.tested_without_target_corpus()
    if json is not None:
        write_figures(json, figures, finetuned, base_model, query_models, without)
    show_figures(out, figures, finetuned, sets)
    if test is not None:
        show_role_of_passages(out, test, finetuned, without, asked=also_without_passages)
    show_adapter(out, finetuned, json)
    show_use(out, output, embed_model, query_names, maps_passages=target_dim is not None)


@dataclass(frozen=True)
class _Training:
    """Trains on the question sets, and tests what it gave.

    Attributes:
        sets: the question sets.
        base_model: embeds their texts.
        shared: what the engine and the evaluation are both given.
        how: what only the engine is given.
        k: how many passages the test set looks at.
    """

    sets: QuestionSets
    base_model: BaseEmbedding
    shared: Mapping[str, Any]
    how: Mapping[str, Any]
    k: int

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

    def figures(self, engine: EmbeddingAdapterFinetuneEngine, finetuned: FinetuneResult) -> Figures:
        """Return the figures of the test set, of the validation set when there is none."""
        texts, seconds = finetuned.texts_embedded, finetuned.seconds
        if self.sets.embedded is not None:
            texts += self.sets.embedded.texts
            seconds = {**seconds, "embed": seconds["embed"] + self.sets.embedded.seconds}
        tested = self._tested(engine)
        if tested is None:
            assert finetuned.comparison is not None  # texts of one model: vectors of one dimension
            return Figures(finetuned.comparison, "validation", texts, seconds)
        return Figures(
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
        return evaluate(engine.get_finetuned_model(), self.sets.test, k=self.k, **self.shared)
