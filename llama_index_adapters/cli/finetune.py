"""``llama-index-adapters finetune``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from llama_index_adapters.adapters.families import ADAPTERS, DEFAULT_ADAPTER
from llama_index_adapters.cli import models
from llama_index_adapters.cli.options import (
    DirectoryOutput,
    JsonOption,
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
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.evaluate import Evaluation
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

HELP = """Train an adapter on questions with known answers.

Every file is a question set in LlamaIndex's JSON, as the command generate writes it:

\b
  {"queries":       {"q1": "How long is the warranty?"},
   "corpus":        {"n1": "The warranty lasts two years."},
   "relevant_docs": {"q1": ["n1"]}}

The passages of TEST.json (not its questions or answers) count as the corpus that will be
searched: the search for the best adapter may use their vectors, and the result also gives the
figure without them.

The figures are those of TEST.json when there is one, else of the questions to validate with.
Those also decide what is learned and when training stops, so they flatter it a little.

For example:

\b
  llama-index-adapters finetune train.json --embed-model local -o adapter

\b
  llama-index-adapters finetune train.json --val val.json --test test.json \\
      --embed-model openai:text-embedding-3-small -o adapter
"""


def finetune(
    train: Annotated[Path, typer.Argument(metavar="TRAIN.json", help="Questions to learn from.")],
    embed_model: Annotated[
        str,
        typer.Option(metavar=models.EMBED_MODELS, help="The model your index was built with."),
    ],
    output: DirectoryOutput,
    val: Annotated[
        Path | None,
        typer.Option(
            metavar="VAL.json",
            help="Questions to validate with.",
            show_default="held out of TRAIN.json",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="TEST.json",
            help="Questions to measure the result on. Training never sees them.",
        ),
    ] = None,
    json: JsonOption = None,
    adapter: Annotated[
        str,
        typer.Option(
            metavar="|".join(ADAPTERS),
            callback=one_of(ADAPTERS),
            help="What to learn; auto tries several and keeps what held-out questions show to be "
            "best.",
        ),
    ] = DEFAULT_ADAPTER,
    similarity: SimilarityOption = "cosine",
    store: StoreOption = None,
    epochs: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over the questions, at most; training stops when validation no longer "
            "gains.",
        ),
    ] = TrainingOptions.epochs,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Questions per step.")
    ] = TrainingOptions.batch_size,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="The peak of the learning rate. With auto: train a linear adapter at this rate.",
            show_default=f"{TrainingOptions.learning_rate:g}, auto tries several",
        ),
    ] = None,
    bias: Annotated[
        bool | None,
        typer.Option(
            "--bias/--no-bias",
            help="Learn a bias too, or none. With auto: train a linear adapter like that.",
            show_default="as the adapter does",
        ),
    ] = None,
    seed: SeedOption = TrainingOptions.seed,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A torch device, such as cpu or cuda.",
            show_default="the best there is",
        ),
    ] = TrainingOptions.device,
) -> None:
    """Finetune, measure, and show how to use the result."""
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

    train_set = EmbeddingQAFinetuneDataset.from_json(train)
    val_set = None if val is None else EmbeddingQAFinetuneDataset.from_json(val)
    test_set = None if test is None else EmbeddingQAFinetuneDataset.from_json(test)
    base_model = models.open_embed_model(embed_model)

    from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
    from llama_index_adapters.evaluation.evaluate import evaluate
    from llama_index_adapters.evaluation.result_file import (
        MeasuredOn,
        result_record,
        write_result,
    )
    from llama_index_adapters.vectors.identity import IdentifiedModel

    # The rate is only handed on when it is given: it turns off the search for the best adapter.
    rate: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
    compared_by, progress = cast(Similarity, similarity), shows_progress()

    def engine_writing(
        directory: Path, target_corpus: list[str] | None
    ) -> EmbeddingAdapterFinetuneEngine:
        return EmbeddingAdapterFinetuneEngine(
            train_set,
            base_model,
            val_dataset=val_set,
            model_output_path=directory,
            adapter=adapter,
            target_corpus=target_corpus,
            similarity=compared_by,
            epochs=epochs,
            batch_size=batch_size,
            bias=bias,
            seed=seed,
            device=device,
            store=store,
            show_progress=progress,
            **rate,
        )

    def tested(engine: EmbeddingAdapterFinetuneEngine) -> Evaluation:
        return evaluate(
            engine.get_finetuned_model(),
            test_set,
            store=store,
            similarity=compared_by,
            seed=seed,
            show_progress=progress,
        )

    searches = adapter == "auto" and bias is None and not rate
    target_corpus = None
    if test_set is not None and searches:
        target_corpus = _other_passages(test_set, train_set)
    engine = engine_writing(output, target_corpus)
    out = console()
    out.print(
        f"Training on {counted(len(train_set.queries), 'question')} about "
        f"{counted(len(train_set.corpus), 'passage')}, with {IdentifiedModel(base_model).label}",
        soft_wrap=True,
    )
    finetuned = engine.finetune()
    comparison, texts, seconds = finetuned.comparison, finetuned.texts_embedded, finetuned.seconds
    measured_on: MeasuredOn = "validation"
    without: Comparison | None = None
    if test_set is not None:
        evaluation = tested(engine)
        comparison, measured_on = evaluation.comparison, "test"
        texts += evaluation.texts_embedded
        seconds = {stage: seconds[stage] + evaluation.seconds.get(stage, 0.0) for stage in seconds}
        if finetuned.target_corpus:
            with TemporaryDirectory() as directory:
                plain = engine_writing(Path(directory) / "adapter", None)
                plain.finetune()
                without = tested(plain).comparison
    assert comparison is not None  # the texts of one model have vectors of one dimension
    if json is not None:
        record = result_record(
            comparison,
            measured_on=measured_on,
            adapter=finetuned.adapter,
            path=output,
            embed_model=IdentifiedModel(base_model).label,
            seconds=seconds,
            texts_embedded=texts,
        )
        record["target_corpus"] = finetuned.target_corpus
        if without is not None:
            record["without_target_corpus"] = without.adapted
        write_result(json, record)

    source = str(test or val or f"held out of {train}")
    if measured_on == "validation" and val_set is not None:
        judged = comparison.wins + comparison.losses + comparison.ties
        if judged > len(val_set.queries):  # a search adds training questions to a small set
            source = f"{val} and held out of {train}"
    chosen = [trial.name for trial in finetuned.trials if trial.chosen]
    out.print(
        f"Embedded {counted(texts, 'text')} in {took(seconds['embed'])}, "
        f"trained in {took(seconds['train'])}"
        + (f"\nChosen of {len(finetuned.trials)} adapters: {chosen[0]}" if chosen else "")
        + "\n\n"
        f"Base and adapted on the {measured_on} questions ({source}):",
        soft_wrap=True,
    )
    show_comparison(out, comparison)
    if without is not None:
        out.print(
            f"\nThe search knew the passages of {test} (not its questions or answers), as an index "
            "is known before it is asked. Without them the adapted nDCG@10 is "
            f"{without.adapted['ndcg@10']:.4f}."
        )
    if finetuned.adapter == "identity":
        out.print(
            "Training gained nothing on the validation questions, so the adapter is the "
            "identity: it leaves questions as they are.\n"
        )
    written = "" if json is None else f", these figures to {json}"
    out.print(f"\nAdapter ({finetuned.adapter}) written to {output}{written}.\n", soft_wrap=True)
    show_use(out, output, embed_model)


def _other_passages(
    test_set: EmbeddingQAFinetuneDataset, train_set: EmbeddingQAFinetuneDataset
) -> list[str] | None:
    """Return the passages that will be searched, if training does not have them all."""
    passages = list(test_set.corpus.values())
    return passages if set(passages) - set(train_set.corpus.values()) else None
