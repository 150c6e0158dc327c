"""A query served in a process that has imported nothing else; see ``served_process``."""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.speed.child import memory
from benchmarks.speed.models import StoredEmbedding


def serve_one(*, path: str, dim: int) -> dict[str, Any]:
    """Import the package, open a saved adapter and answer one query."""
    started = time.perf_counter()
    from llama_index_adapters import AdapterEmbeddingModel

    imported = time.perf_counter()
    model = AdapterEmbeddingModel(StoredEmbedding([1 / dim**0.5] * dim), path)
    model.get_query_embedding("a query")
    return {
        "import": imported - started,
        "first query": time.perf_counter() - imported,
        "resident": memory("VmRSS"),
        "torch": sum(name.partition(".")[0] == "torch" for name in sys.modules),
    }
