"""What ``llama-index-adapters finetune`` was given, and what it shows and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from llama_index_adapters.cli.output import counted, show_comparison, took
from llama_index_adapters.cli.question_files import OpenedIndex, read_questions
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.engines.base import FinetuneResult
    from llama_index_adapters.engines.data import CheckedQuestions
    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.result_file import MeasuredOn
    from llama_index_adapters.vectors.embed import EmbeddingCost

WITHOUT_PASSAGES = "--also-without-passages"


@dataclass(frozen=True)
class QuestionSets:
    """The question sets of the command, and the files they were read from."""

    train: CheckedQuestions
    val: CheckedQuestions | None
    test: CheckedQuestions | None
    paths: tuple[Path, Path | None, Path | None]
    embedded: EmbeddingCost | None = None

    @classmethod
    def read(cls, train: Path, val: Path | None, test: Path | None) -> QuestionSets:
        """Read texts."""
        return cls._read(read_questions, (train, val, test))

    @classmethod
    def of_index(
        cls,
        index: OpenedIndex,
        paths: tuple[Path, Path | None, Path | None],
        query_models: Sequence[BaseEmbedding] | None,
    ) -> QuestionSets:
        """Read questions about the nodes of an index, and embed them."""
        read = cls._read(lambda path: index.questions(path, query_models), paths)
        return replace(read, embedded=index.cost)

    @classmethod
    def _read(
        cls,
        read: Callable[[Path], CheckedQuestions],
        paths: tuple[Path, Path | None, Path | None],
    ) -> QuestionSets:
        train, val, test = paths
        return cls(
            read(train),
            None if val is None else read(val),
            None if test is None else read(test),
            paths,
        )

    @property
    def described(self) -> str:
        """How much there is to learn from."""
        train = self.train
        passages = train.passages if isinstance(train, VectorDataset) else train.corpus
        return (
            f"{counted(len(train.queries), 'question')} about {counted(len(passages), 'passage')}"
        )

    def other_passages(self) -> list[str] | None:
        """Return the passages of the test set, if training does not have them all."""
        if isinstance(self.test, VectorDataset) or isinstance(self.train, VectorDataset):
            return None  # those of the index, which training has
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
class Figures:
    """What was measured, and what all of it took."""

    comparison: Comparison
    measured_on: MeasuredOn
    texts_embedded: int
    seconds: Mapping[str, float]


def write_figures(
    path: Path,
    figures: Figures,
    finetuned: FinetuneResult,
    base_model: BaseEmbedding,
    query_models: Sequence[BaseEmbedding] | None,
    without: Comparison | None,
) -> None:
    """Write what was measured as JSON."""
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


def show_start(out: Console, sets: QuestionSets, asked: Sequence[BaseEmbedding]) -> None:
    """Say what is trained on."""
    from llama_index_adapters.vectors.identity import IdentifiedModel

    names = " and ".join(IdentifiedModel(model).label for model in asked)
    out.print(
        f"Training on {sets.described}, with {names}",
        soft_wrap=True,
    )


def show_figures(
    out: Console, figures: Figures, finetuned: FinetuneResult, sets: QuestionSets
) -> None:
    """Show what training took, and base and adapted."""
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


def show_role_of_passages(
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
        metric = without.metric.replace("ndcg", "nDCG")
        figure = f"Without them the adapted {metric} is {without.adapted[without.metric]:.4f}."
    out.print(
        f"\nThe search knew the passages of {test} (not its questions or answers), as an index is "
        f"known before it is asked. {figure}"
    )


def show_adapter(out: Console, finetuned: FinetuneResult, json: Path | None) -> None:
    """Say why the adapter is what it is, and where."""
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
