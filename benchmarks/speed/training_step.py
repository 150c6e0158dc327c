"""The loss over a whole corpus and its gradient, beside the bare matrix products it needs.

A step multiplies a batch of queries with all passages, and the weights of the passages with the
passages again. The bare products are these two with torch, in blocks of the size that is fastest,
into memory that is there already; nothing else is computed.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process
from benchmarks.speed.timing import Sample

DIM, BATCH, PASSAGES = 384, 256, 200_000
_BLOCKS = (4_096, 8_192, 16_384, 32_768, 65_536)


def measure(settings: Settings) -> Measured:
    """Time steps and bare products in turn in one process."""
    settings.report("training step: the loss over a corpus beside its matrix products")
    passages = settings.size(PASSAGES, 2_000)
    ran = in_process(f"{__name__}:step_seconds", passages=passages, repetitions=settings.size(9, 2))
    return Measured(figures(ran.value, passages))


def figures(taken: dict[str, Any], passages: int) -> list[Figure]:
    """Compare a step with the fastest bare products."""
    step = Sample(taken["step"])
    bare = {block: Sample(values) for block, values in taken["bare"].items()}
    best = min(bare, key=lambda block: bare[block].median)
    share = bare[best].over(step)
    operations = 2 * 2 * BATCH * passages * DIM
    return [
        Figure(
            "loss and gradient over a corpus: share of the speed of its bare matrix products",
            100 * share.median,
            "%",
            None if share.low is None else 100 * share.low,
            None if share.high is None else 100 * share.high,
            Goal("at least", 60),
            f"{BATCH} queries against {passages:,} passages of {DIM} dimensions, float32, "
            f"{taken['threads']} threads: {operations / step.median / 1e9:.0f} and "
            f"{operations / bare[best].median / 1e9:.0f} GFLOP/s (blocks of {int(best):,})",
        )
    ]


def step_seconds(*, passages: int, repetitions: int) -> dict[str, Any]:
    """Time the loss with its gradient, and the bare products in blocks of several sizes."""
    from collections.abc import Callable

    import numpy as np
    import torch

    from benchmarks.speed.timing import side_by_side
    from llama_index_adapters import Relevance, VectorDataset
    from llama_index_adapters.training.objective import RetrievalObjective
    from llama_index_adapters.training.options import TrainingOptions

    rng = np.random.default_rng(0)
    data = VectorDataset(
        rng.standard_normal((BATCH, DIM), dtype=np.float32),
        rng.standard_normal((passages, DIM), dtype=np.float32),
        Relevance.from_rows(rng.integers(0, passages, (BATCH, 1))),
    )
    objective = RetrievalObjective(
        data, scale=TrainingOptions.scale, unit_input=True, device=torch.device("cpu")
    )
    rows = torch.arange(BATCH)
    adapted = objective.queries[rows].clone().requires_grad_()

    def step() -> None:
        adapted.grad = None
        objective.loss(adapted, rows).backward()

    queries = objective.queries[rows].clone()
    corpus = torch.from_numpy(data.passages)

    def bare(block: int) -> Callable[[], None]:
        # A view of part of a row cannot be written to at full speed: the last block has its own.
        rest = passages % block
        scores = torch.empty(BATCH, block)
        last = torch.empty(BATCH, rest)
        sums = torch.zeros(BATCH, DIM)

        def products() -> None:
            for start in range(0, passages, block):
                part = corpus[start : start + block]
                target = scores if len(part) == block else last
                torch.mm(queries, part.T, out=target)
                sums.addmm_(target, part, beta=0)

        return products

    blocks = [block for block in _BLOCKS if block <= passages] or [passages]
    works: dict[str, Callable[[], object]] = {"step": step}
    works |= {str(block): bare(block) for block in blocks}
    samples = side_by_side(works, repetitions=repetitions)
    return {
        "step": list(samples.pop("step").values),
        "bare": {block: list(sample.values) for block, sample in samples.items()},
        "threads": torch.get_num_threads(),
    }


MEASUREMENT = Measurement("training", "A training step", measure)
