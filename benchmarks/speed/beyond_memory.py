"""Training from vectors that stay in files: a million passages in a few GiB of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import Ran, in_process
from benchmarks.speed.synthetic import write_topics

PASSAGES, QUERIES, DIM = 1_000_000, 200_000, 384
GIB = 2**30

OPTIONS: dict[str, Any] = {"epochs": 2}
"""Training options of the engine."""


def measure(settings: Settings) -> Measured:
    """Write vectors to files and train on them in a process of its own."""
    sizes = {
        "passages": settings.size(PASSAGES, 500),
        "queries": settings.size(QUERIES, 100),
    }
    settings.report(f"beyond memory: {sizes['queries']:,} queries, {sizes['passages']:,} passages")
    folder = settings.folder / "beyond-memory"
    folder.mkdir()
    write_topics(folder, dim=DIM, **sizes)
    ran = in_process(f"{__name__}:train", folder=str(folder), options=OPTIONS)
    return Measured(figures(ran, **sizes))


def figures(ran: Ran, passages: int, queries: int) -> list[Figure]:
    """Say how much memory training held."""
    gains = ran.value["ndcg@10"]
    options = ", ".join(f"{name}={value!r}" for name, value in OPTIONS.items())
    return [
        Figure(
            f"training on {queries:,} queries and {passages:,} passages in files: peak memory",
            ran.peak_bytes / GIB,
            "GiB",
            goal=Goal("at most", 4),
            detail=f"{ran.value['seconds']:.0f} s with {options}; nDCG@10 on held-out queries "
            f"{gains['base']:.3f} before and {gains['adapted']:.3f} after",
        )
    ]


def train(*, folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train a linear adapter on memory-mapped vectors."""
    import time

    import numpy as np

    from llama_index_adapters import EmbeddingAdapterFinetuneEngine, Relevance, VectorDataset

    place = Path(folder)
    answers = np.load(place / "answers.npy")
    started = time.perf_counter()
    data = VectorDataset(
        np.load(place / "queries.npy", mmap_mode="r"),
        np.load(place / "passages.npy", mmap_mode="r"),
        Relevance(np.arange(len(answers) + 1), answers),
    )
    engine = EmbeddingAdapterFinetuneEngine(
        data,
        None,
        adapter="linear",
        model_output_path=place / "adapter",
        show_progress=False,
        **options,
    )
    result = engine.finetune()
    base = None if result.comparison is None else result.comparison.base
    return {
        "seconds": time.perf_counter() - started,
        "ndcg@10": {"base": (base or {})["ndcg@10"], "adapted": result.adapted["ndcg@10"]},
    }


MEASUREMENT = Measurement("beyond-memory", "Beyond memory", measure, __doc__)
