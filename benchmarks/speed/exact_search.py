"""Exact ranking beside FAISS's flat index, on the same vectors, with the same result."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.figures import Figure, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process
from benchmarks.speed.timing import Sample

DIM, K, PASSAGES, QUERIES = 384, 10, 100_000, 1_000


def measure(settings: Settings) -> Measured:
    """Rank with both in turn in one process."""
    settings.report("ranking: top_k beside FAISS IndexFlatIP")
    sizes = {"passages": settings.size(PASSAGES, 1_000), "queries": settings.size(QUERIES, 20)}
    ran = in_process(f"{__name__}:ranking_seconds", repetitions=settings.size(7, 2), **sizes)
    return Measured(figures(ran.value, **sizes))


def figures(taken: dict[str, Any], passages: int, queries: int) -> list[Figure]:
    """Compare the times, and the passages found."""
    ours, theirs = Sample(taken["ours"]), Sample(taken["faiss"])
    ratio = ours.over(theirs)
    return [
        Figure(
            "exact ranking: our time / FAISS IndexFlatIP",
            ratio.median,
            "x",
            ratio.low,
            ratio.high,
            detail=f"the best {K} of {passages:,} passages for {queries:,} queries, {DIM} "
            f"dimensions: {ours.median:.2f} and {theirs.median:.2f} s; FAISS's vectors were added "
            "before, ours are checked for NaN and ranked again in float64 within the time; "
            f"{taken['same']:.3%} of the passages found are the same",
        )
    ]


def ranking_seconds(*, passages: int, queries: int, repetitions: int) -> dict[str, Any]:
    """Time both; give the share of passages that both found."""
    import faiss
    import numpy as np

    from benchmarks.speed.timing import side_by_side
    from llama_index_adapters.retrieval.ranking import top_k, unit_rows

    rng = np.random.default_rng(0)
    corpus = unit_rows(rng.standard_normal((passages, DIM), dtype=np.float32))
    asked = unit_rows(rng.standard_normal((queries, DIM), dtype=np.float32))
    index = faiss.IndexFlatIP(DIM)
    index.add(corpus)
    samples = side_by_side(
        {
            "ours": lambda: top_k(asked, corpus, K, similarity="dot_product"),
            "faiss": lambda: index.search(asked, K),
        },
        repetitions=repetitions,
    )
    ours = top_k(asked, corpus, K, similarity="dot_product").passages
    _, theirs = index.search(asked, K)
    same = [len(set(a) & set(b)) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    return {
        **{name: list(sample.values) for name, sample in samples.items()},
        "same": sum(same) / ours.size,
    }


MEASUREMENT = Measurement("ranking", "Exact ranking", measure, __doc__)
