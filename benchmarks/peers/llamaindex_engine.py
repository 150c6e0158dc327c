"""LlamaIndex's EmbeddingAdapterFinetuneEngine with the options of its guide.

Run by the interpreter of an environment that holds llama-index-finetuning, with the folder of one
task. The embedding model looks every text up among the stored vectors, so the seconds are those
of training.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llama_index.core.embeddings import BaseEmbedding
from llama_index.finetuning import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset
from pydantic import PrivateAttr

EPOCHS, BATCH_SIZE = 4, 10


class StoredEmbedding(BaseEmbedding):
    """An embedding model that knows the vectors of some texts."""

    _queries: dict[str, list[float]] = PrivateAttr()
    _passages: dict[str, list[float]] = PrivateAttr()

    def __init__(self, queries: dict[str, Any], passages: dict[str, Any]) -> None:
        super().__init__()
        self._queries, self._passages = queries, passages

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._queries[query]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._queries[query]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._passages[text]


def main(folder: Path) -> None:
    """Train on one task and write the adapted test queries."""
    task = json.loads((folder / "task.json").read_text())
    vectors = np.load(folder / "vectors.npz")
    train, test = task["train"], task["test"]
    queries: dict[str, list[float]] = {}
    for part, rows in ((train, vectors["train_queries"]), (test, vectors["test_queries"])):
        queries.update(zip(part["queries"].values(), rows.tolist(), strict=True))
    passages = dict(zip(train["corpus"].values(), vectors["train_passages"].tolist(), strict=True))
    torch.manual_seed(task["seed"])
    with tempfile.TemporaryDirectory() as output:
        engine = EmbeddingAdapterFinetuneEngine(
            EmbeddingQAFinetuneDataset(**train),
            StoredEmbedding(queries, passages),
            batch_size=BATCH_SIZE,
            epochs=EPOCHS,
            dim=vectors["train_queries"].shape[1],
            model_output_path=output,
            verbose=True,
            bias=False,
        )
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every loss
            engine.finetune()
        seconds = time.perf_counter() - started
        model = engine.get_finetuned_model()
        adapted = [model.get_query_embedding(query) for query in test["queries"].values()]
    np.savez(folder / "learned.npz", queries=np.array(adapted, np.float32))
    detail = f"llama-index-finetuning {version('llama-index-finetuning')}"
    (folder / "learned.json").write_text(json.dumps({"seconds": seconds, "detail": detail}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
