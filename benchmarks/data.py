"""The sets that methods are compared on: questions, passages and their stored vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.demo.documentation import documentation_dataset
from llama_index_adapters.demo.run import DEFAULT_PAIRS, split_parts
from llama_index_adapters.errors import MissingFileError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.embed import Embedder

DATA_VARIABLE = "LLAMA_INDEX_ADAPTERS_DATA"

_SOURCES = {
    "tenk": "Copy train_dataset.json and val_dataset.json from the folder data of the public "
    "repository run-llama/finetune-embedding there, as tenk.train.json and tenk.test.json.",
    "tldr": "Build its three files from a checkout of the public repository "
    "tldr-pages/tldr with: python -m benchmarks.tldr_pages --help",
}
_WITH_VALIDATION = frozenset({"tldr"})


@dataclass(frozen=True)
class QuestionSets:
    """The texts of one benchmark.

    Attributes:
        train: what methods learn from.
        val: what methods that validate may validate on; None when the benchmark has none.
        test: what is measured, once, at the end.
    """

    train: EmbeddingQAFinetuneDataset
    val: EmbeddingQAFinetuneDataset | None
    test: EmbeddingQAFinetuneDataset


@dataclass(frozen=True)
class BenchmarkData:
    """One benchmark as every method gets it: the same texts, splits and vectors.

    Attributes:
        name: the name of the set.
        texts: the questions and passages.
        train: the vectors of ``texts.train``.
        val: the vectors of ``texts.val``.
        test: the vectors of ``texts.test``.
        embed_model: the model the vectors came from.
        store: where its vectors are kept; None stands for the user's cache directory.
    """

    name: str
    texts: QuestionSets
    train: VectorDataset
    val: VectorDataset | None
    test: VectorDataset
    embed_model: BaseEmbedding
    store: Path | None = None

    @property
    def searches_training_passages(self) -> bool:
        """Whether the passages that training asks about are searched in the test too."""
        return set(self.train.passage_ids) <= set(self.test.passage_ids)

    def sizes(self) -> dict[str, int]:
        """Return how many queries and passages there are."""
        return {
            "train_queries": len(self.train.queries),
            "val_queries": 0 if self.val is None else len(self.val.queries),
            "test_queries": len(self.test.queries),
            "train_passages": len(self.train.passages),
            "test_passages": len(self.test.passages),
        }


def load_texts(name: str, folder: Path | None, *, seed: int = 0) -> QuestionSets:
    """Return the questions and passages of a set.

    Args:
        name: one of :data:`SETS`.
        folder: where the files of ``tenk`` and ``tldr`` are.
        seed: of the choice and the split of ``documentation``, as in the demo.

    Raises:
        MissingFileError: when a file is not there, with where to get it.
    """
    return SETS[name](name, folder, seed)


def embedded(
    name: str, texts: QuestionSets, embed_model: BaseEmbedding, store: Path | None = None
) -> BenchmarkData:
    """Return a benchmark with its vectors, embedding what is not stored yet."""
    embedder = Embedder(embed_model, store, show_progress=sys.stderr.isatty())

    def vectors(part: EmbeddingQAFinetuneDataset) -> VectorDataset:
        return embedder.dataset(part).data

    return BenchmarkData(
        name=name,
        texts=texts,
        train=vectors(texts.train),
        val=None if texts.val is None else vectors(texts.val),
        test=vectors(texts.test),
        embed_model=embed_model,
        store=store,
    )


def _from_files(name: str, folder: Path | None, seed: int) -> QuestionSets:
    def part(kind: str) -> EmbeddingQAFinetuneDataset:
        if folder is None:
            raise MissingFileError(
                f"The set {name} is left out: no folder with {name}.{kind}.json was named (--data "
                f"FOLDER, or the variable {DATA_VARIABLE}). {_SOURCES[name]}"
            )
        path = folder / f"{name}.{kind}.json"
        if not path.is_file():
            raise MissingFileError(
                f"The set {name} is left out: {path} does not exist. {_SOURCES[name]}"
            )
        return EmbeddingQAFinetuneDataset.from_json(path)

    return QuestionSets(
        part("train"), part("dev") if name in _WITH_VALIDATION else None, part("test")
    )


def _documentation(name: str, folder: Path | None, seed: int) -> QuestionSets:
    parts = split_parts(documentation_dataset(n_pairs=DEFAULT_PAIRS, seed=seed), seed=seed)
    return QuestionSets(parts["train"], parts["val"], parts["test"])


SETS: dict[str, Callable[[str, Path | None, int], QuestionSets]] = {
    "tenk": _from_files,
    "tldr": _from_files,
    "documentation": _documentation,
}
"""Every set by name: how its texts are loaded."""
