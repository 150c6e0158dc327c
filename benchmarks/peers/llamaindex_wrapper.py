"""LlamaIndex's AdapterEmbeddingModel; imported by the interpreter of its environment."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

_NAME = "llamaindex-layer"


def write_layer(folder: str, dim: int) -> str:
    """Save a linear layer without bias, as its finetuning would."""
    import torch
    from llama_index.embeddings.adapter.utils import LinearLayer

    torch.manual_seed(0)
    path = str(Path(folder) / f"{_NAME}-{dim}")
    LinearLayer(dim, dim, bias=False).save(path)
    return path


def wrapped(base: BaseEmbedding, folder: str, dim: int) -> BaseEmbedding:
    """Return the wrapper around a base model with a layer of its own."""
    from llama_index.embeddings.adapter import AdapterEmbeddingModel

    return AdapterEmbeddingModel(base, write_layer(folder, dim))


def query_seconds(
    *, folder: str, dim: int, repetitions: int, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Time a query of the base model alone and through the wrapper."""
    from benchmarks.speed.models import StoredEmbedding
    from benchmarks.speed.timing import side_by_side

    base = StoredEmbedding([1 / dim**0.5] * dim)
    model = wrapped(base, folder, dim)
    samples = side_by_side(
        {
            "base": lambda: base.get_query_embedding("a query"),
            "adapted": lambda: model.get_query_embedding("a query"),
        },
        repetitions=repetitions,
        rounds=rounds,
        calls=calls,
    )
    return {name: list(sample.values) for name, sample in samples.items()}


def serve_one(*, path: str, dim: int) -> dict[str, Any]:
    """Import the wrapper, open a saved layer and answer one query."""
    from benchmarks.speed.child import memory
    from benchmarks.speed.models import StoredEmbedding

    started = time.perf_counter()
    from llama_index.embeddings.adapter import AdapterEmbeddingModel

    imported = time.perf_counter()
    model = AdapterEmbeddingModel(StoredEmbedding([1 / dim**0.5] * dim), path)
    model.get_query_embedding("a query")
    return {
        "import": imported - started,
        "first query": time.perf_counter() - imported,
        "resident": memory("VmRSS"),
        "torch": sum(name.partition(".")[0] == "torch" for name in sys.modules),
    }
