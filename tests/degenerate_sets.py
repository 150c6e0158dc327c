"""Question sets at the edge of what is one, and everything that takes a question set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.embeddings import BaseEmbedding

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    Relevance,
    VectorDataset,
    compare_adapters,
    evaluate,
    finetune_without_labels,
    merge_datasets,
    sample_queries,
    split_by_passage,
    split_by_query,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.cli import main
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import WordsEmbedding

DIMENSION = 8


def questions(
    queries: Sequence[str], passages: Sequence[str], relevant: Callable[[int], Sequence[int]]
) -> EmbeddingQAFinetuneDataset:
    return EmbeddingQAFinetuneDataset(
        queries={f"q{row}": text for row, text in enumerate(queries)},
        corpus={f"p{row}": text for row, text in enumerate(passages)},
        relevant_docs={f"q{row}": [f"p{p}" for p in relevant(row)] for row in range(len(queries))},
    )


def texts(noun: str, number: int) -> list[str]:
    return [f"{noun} number{row} of{row % 3}" for row in range(number)]


SETS: Mapping[str, EmbeddingQAFinetuneDataset] = {
    "one query, one passage": questions(["a query"], ["a passage"], lambda _: [0]),
    "one query": questions(["a query"], texts("passage", 12), lambda _: [3]),
    "two queries": questions(texts("query", 2), texts("passage", 2), lambda row: [row]),
    "three queries": questions(texts("query", 3), texts("passage", 3), lambda row: [row]),
    "one passage": questions(texts("query", 12), ["a passage"], lambda _: [0]),
    "two passages": questions(texts("query", 12), texts("passage", 2), lambda row: [row % 2]),
    "queries all equal": questions(["the query"] * 12, texts("passage", 12), lambda row: [row]),
    "passages all equal": questions(texts("query", 12), ["the passage"] * 12, lambda row: [row]),
    "all equal": questions(["the text"] * 12, ["the text"] * 12, lambda row: [row]),
    "queries equal to passages": questions(texts("a", 12), texts("a", 12), lambda row: [row]),
    "all passages relevant": questions(texts("query", 12), texts("passage", 9), lambda _: range(9)),
    "all but one relevant": questions(texts("query", 12), texts("passage", 9), lambda _: range(8)),
    "one passage relevant to all": questions(
        texts("query", 12), texts("passage", 12), lambda _: [0]
    ),
    "more queries than passages": questions(
        texts("query", 60), texts("passage", 4), lambda row: [row % 4]
    ),
    "more passages than queries": questions(
        texts("query", 4), texts("passage", 60), lambda row: [row]
    ),
    "every vector equal": questions(texts("query", 12), texts("passage", 12), lambda row: [row]),
    "vectors of opposite pairs": questions(
        texts("query", 12), texts("passage", 12), lambda row: [row]
    ),
    "vectors of one dimension": questions(
        texts("query", 12), texts("passage", 12), lambda row: [row]
    ),
    "tiny and huge vectors": questions(texts("query", 12), texts("passage", 12), lambda row: [row]),
}


class OtherVectors(WordsEmbedding):
    """A model whose vectors say little."""

    kind: str = ""

    def vector(self, text: str) -> list[float]:
        vector = np.asarray(super().vector(text))
        sign = 1.0 if sum(text.encode()) % 2 else -1.0
        if self.kind == "every vector equal":
            vector = np.ones_like(vector)
        elif self.kind == "vectors of opposite pairs":
            vector = sign * np.ones_like(vector)
        elif self.kind == "tiny and huge vectors":
            vector = vector * (1e18 if sign > 0 else 1e-18)
        return [float(number) for number in vector]


def model_of(name: str) -> BaseEmbedding:
    """Return the embedding model of a set."""
    dimension = 1 if name == "vectors of one dimension" else DIMENSION
    return OtherVectors(model_name=name, dimension=dimension, kind=name)


class Case:
    """A set, its model, and a directory to work in."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.data = SETS[name]
        self.model = model_of(name)
        self.directory = directory

    def adapted(self, scale: float = 1.0) -> AdapterEmbeddingModel:
        dimension = len(self.model.get_query_embedding("a"))
        adapter = LinearAdapter(dimension)
        adapter.linear.weight.data *= scale
        path = self.directory / f"adapter {scale}"
        save_adapter(path, adapter)
        return AdapterEmbeddingModel(self.model, path)

    def served(self, model: AdapterEmbeddingModel) -> None:
        for query in list(self.data.queries.values())[:3]:
            vector = np.asarray(model.get_query_embedding(query))
            assert np.isfinite(vector).all()
            assert vector.any()

    def finetuned(self, data: Any = None, **options: Any) -> None:
        options = {"epochs": 2, "batch_size": 4, "device": "cpu", "seed": 1, **options}
        engine = EmbeddingAdapterFinetuneEngine(
            self.data if data is None else data,
            self.model,
            model_output_path=self.directory / "adapter",
            store=self.directory / "store.sqlite3",
            show_progress=False,
            **options,
        )
        result = engine.finetune()
        self.served(engine.get_finetuned_model())
        for trial in result.trials:
            assert np.isfinite(trial.ndcg)

    def vectors(self) -> VectorDataset:
        rows = {name: row for row, name in enumerate(self.data.corpus)}
        return VectorDataset(
            np.array(self.model.get_text_embedding_batch(list(self.data.queries.values()))),
            np.array(self.model.get_text_embedding_batch(list(self.data.corpus.values()))),
            Relevance.from_rows(
                [[rows[name] for name in named] for named in self.data.relevant_docs.values()]
            ),
        )

    def without_labels(self, **options: Any) -> None:
        model = finetune_without_labels(
            list(self.data.corpus.values()),
            self.model,
            model_output_path=self.directory / "adapter",
            store=self.directory / "store.sqlite3",
            show_progress=False,
            **options,
        )
        self.served(model)

    def evaluated(self, **options: Any) -> None:
        found = evaluate(
            self.adapted(),
            self.data,
            store=EmbeddingStore.in_memory(),
            show_progress=False,
            **options,
        )
        assert "nan" not in str(found).lower()
        found.comparison.worst()

    def compared(self) -> None:
        store = EmbeddingStore.in_memory()
        found = compare_adapters(
            self.adapted(), self.adapted(-1.0), self.data, store=store, show_progress=False
        )
        assert "nan" not in str(found).lower()

    def command(self, *words: str) -> None:
        self.data.save_json(self.directory / "train.json")
        status = main(
            [
                *("finetune", str(self.directory / "train.json"), "--embed-model", "local"),
                *("-o", str(self.directory / "adapter"), "--epochs", "1"),
                *("--store", str(self.directory / "store.sqlite3"), *words),
            ]
        )
        # 1 is an error that nobody foresaw.
        assert status in (0, 2)


ENTRY_POINTS: Mapping[str, Callable[[Case], object]] = {
    "linear": lambda case: case.finetuned(adapter="linear"),
    "low-rank": lambda case: case.finetuned(adapter="low-rank"),
    "two-layer": lambda case: case.finetuned(adapter="two-layer"),
    "auto": lambda case: case.finetuned(),
    "auto, dot product": lambda case: case.finetuned(similarity="dot_product"),
    "auto, euclidean": lambda case: case.finetuned(similarity="euclidean"),
    "validated by itself": lambda case: case.finetuned(val_dataset=case.data, adapter="linear"),
    "auto, validated by itself": lambda case: case.finetuned(val_dataset=case.data),
    "mined negatives": lambda case: case.finetuned(adapter="linear", negatives=2, mined=2),
    "target corpus": lambda case: case.finetuned(target_corpus=texts("target", 5)),
    "target corpus of one": lambda case: case.finetuned(target_corpus=["a target"]),
    "query log": lambda case: case.finetuned(query_log=["a query of a log"]),
    "vectors": lambda case: case.finetuned(case.vectors()),
    "no labels": lambda case: case.without_labels(),
    "no labels, a log": lambda case: case.without_labels(
        query_log=list(case.data.queries.values())
    ),
    "evaluate": lambda case: case.evaluated(),
    "evaluate, copies merged": lambda case: case.evaluated(merge_copies=True),
    "compare": lambda case: case.compared(),
    "split by query": lambda case: split_by_query(case.data),
    "split by passage": lambda case: split_by_passage(case.data, (0.5, 0.5)),
    "merge": lambda case: merge_datasets(case.data, case.data),
    "sample": lambda case: sample_queries(case.data, 3),
    "command": lambda case: case.command(),
}
