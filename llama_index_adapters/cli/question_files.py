"""From what was named on the command line to questions: texts, or vectors of an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_index_adapters.cli.indexes import INDEX_HELP, INDEXES, open_index
from llama_index_adapters.cli.output import console
from llama_index_adapters.errors import InvalidFileError

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llama_index_adapters.index.corpus import IndexCorpus
    from llama_index_adapters.questions.labels import Judgements
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
    from llama_index_adapters.retrieval.vector_dataset import VectorDataset
    from llama_index_adapters.vectors.embed import EmbeddingCost

TABLES = (".csv", ".jsonl", ".ndjson")
IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar=INDEXES,
        help=f"{INDEX_HELP} Its stored vectors are the passages, and questions name its nodes.",
        show_default="the passages are texts in the files",
    ),
]


def is_table(path: Path) -> bool:
    """Whether a path is that of labels: queries and node ids, without passages."""
    return path.suffix.lower() in TABLES


def read_questions(path: Path) -> EmbeddingQAFinetuneDataset:
    """Return a question set from a JSON file or a folder of BEIR.

    Raises:
        InvalidFileError: for a table of labels, which has no passages.
        MissingFileError: when it is not there.
        InvalidDatasetError: when its parts do not fit together.
    """
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
    from llama_index_adapters.questions.trec import read_beir

    if is_table(path):
        raise InvalidFileError(
            f"{path} has queries and node ids and no passages. Name the index that has them: "
            f"--index {INDEXES}."
        )
    name, _, split = str(path).partition("#")
    if (Path(name) / "corpus.jsonl").is_file():
        return read_beir(name, split or "test")
    return EmbeddingQAFinetuneDataset.from_json(path)


def read_labels(path: Path) -> Judgements:
    """Return which nodes answer which query, from any file of questions.

    Raises:
        MissingFileError: when it is not there.
        InvalidFileError: for a file that is not what it should be.
        InvalidDatasetError: when its parts do not fit together.
    """
    from llama_index_adapters.questions.labels import as_judgements

    return as_judgements(path if is_table(path) else read_questions(path))


def require_labels(*paths: Path | None) -> None:
    """Refuse files of questions that cannot be used, before an index is read for them."""
    for path in paths:
        if path is not None:
            read_labels(path)


@dataclass
class OpenedIndex:
    """An index and the questions about it, as vectors.

    Attributes:
        corpus: the stored vectors.
        store: where the vectors of queries are kept.
        cost: what was embedded so far.
    """

    corpus: IndexCorpus
    store: Path | None
    cost: EmbeddingCost = field(init=False)
    _made: dict[tuple[object, ...], VectorDataset] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Count the passages that were embedded to see whose vectors they are."""
        from llama_index_adapters.vectors.embed import EmbeddingCost

        self.cost = EmbeddingCost(self.corpus.texts_embedded)

    @classmethod
    def open(cls, index: str, embed_model: BaseEmbedding, store: Path | None) -> OpenedIndex:
        """Read an index and say what was read."""
        from llama_index_adapters.index.read import read_index

        corpus = read_index(open_index(index), embed_model, show_progress=True)
        console().print(str(corpus), soft_wrap=True)
        return cls(corpus, store)

    def questions(
        self, path: Path, query_embed_models: Sequence[BaseEmbedding] | None
    ) -> VectorDataset:
        """Return the questions of a file, embedding those that are not stored."""
        known = path, *map(id, query_embed_models or ())
        if known not in self._made:
            self._made[known] = self._dataset(path, query_embed_models)
        return self._made[known]

    def _dataset(
        self, path: Path, query_embed_models: Sequence[BaseEmbedding] | None
    ) -> VectorDataset:
        labels = path if is_table(path) else read_questions(path)
        embedded = self.corpus.embedded(
            labels,
            query_embed_models=query_embed_models,
            store=self.store,
            show_progress=True,
        )
        self.cost += embedded.cost
        return embedded.data


def texts_of_queries(path: Path) -> Mapping[str, str]:
    """Return the text of each query of a file, by its id."""
    if is_table(path):
        return {name: text for text, name in read_labels(path).query_ids.items()}
    return read_questions(path).queries
