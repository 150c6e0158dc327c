"""How time and memory grow with the corpus, each size in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.figures import Curve, Figure, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import Ran, in_process
from benchmarks.speed.synthetic import write_unit_vectors

DIM = 384
SIZES = (1_000, 10_000, 100_000, 1_000_000)
_SHORT_SIZES = (200, 400)
_QUERIES = 100
_STEP_QUERIES = 256
# Texts whose vectors arrive together, as many as OpenAIEmbedding asks for at once.
_BATCH = 100

TASKS = {
    "store": "store the vectors of passages, and look all of them up",
    "training": f"one training step of {_STEP_QUERIES} queries, default negatives",
    "exact": f"one training step of {_STEP_QUERIES} queries, all passages as negatives",
    "ranking": f"rank all passages for {_QUERIES} queries",
    "serving": "answer a query through a linear adapter",
    "memory": "answer a query through a memory of a quarter as many training queries",
}


def measure(settings: Settings) -> Measured:
    """Run every task at every size."""
    sizes = _SHORT_SIZES if settings.short else SIZES
    ran: dict[str, list[Ran]] = {task: [] for task in TASKS}
    for size in sizes:
        settings.report(f"growth: {size:,} passages")
        vectors = settings.folder / f"passages-{size}.npy"
        write_unit_vectors(vectors, size, DIM)
        for task, runs in ran.items():
            runs.append(
                in_process(
                    f"{__name__}:{task}_seconds", vectors=str(vectors), folder=str(settings.folder)
                )
            )
        vectors.unlink()
    return Measured(figures(ran, sizes), curves(ran, sizes))


def curves(ran: dict[str, list[Ran]], sizes: tuple[int, ...]) -> list[Curve]:
    """Return time and memory of every task."""
    return [
        Curve(what, sizes, [run.value for run in ran[task]], [run.peak_bytes for run in ran[task]])
        for task, what in TASKS.items()
    ]


def figures(ran: dict[str, list[Ran]], sizes: tuple[int, ...]) -> list[Figure]:
    """Compare the two largest sizes of every task."""
    before, last = sizes[-2:]
    return [
        Figure(
            f"{what}: time for {last:,} passages / for {before:,}",
            ran[task][-1].value / ran[task][-2].value,
            "x",
            detail=f"{_seconds(ran[task][-1].value)} and {_seconds(ran[task][-2].value)}; the "
            f"process held at most {ran[task][-1].peak_bytes / 2**30:.2f} and "
            f"{ran[task][-2].peak_bytes / 2**30:.2f} GiB. {last // before} is in proportion.",
        )
        for task, what in TASKS.items()
    ]


def store_seconds(*, vectors: str, folder: str) -> float:
    """Put vectors into a store in batches, and get all of them."""
    import time

    import numpy as np

    from llama_index_adapters.vectors.store import EmbeddingStore

    passages = np.load(vectors, mmap_mode="r")
    path = Path(folder) / "growth.sqlite3"
    texts = [f"passage {row}" for row in range(len(passages))]
    started = time.perf_counter()
    with EmbeddingStore(path) as store:
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            store.put("model", "passage", texts[part], passages[part])
        found = store.get("model", "passage", texts).found
    seconds = time.perf_counter() - started
    if not found.all():
        raise RuntimeError(f"{np.count_nonzero(~found)} vectors are not in the store")
    path.unlink()
    return seconds


def training_seconds(*, vectors: str, folder: str) -> float:
    """Take a gradient step of a linear adapter, with as many negatives as the engine takes."""
    return _step_seconds(vectors, None)


def exact_seconds(*, vectors: str, folder: str) -> float:
    """Take a gradient step of a linear adapter; the loss is over all passages."""
    return _step_seconds(vectors, "all")


def _step_seconds(vectors: str, negatives: Any) -> float:
    import numpy as np
    import torch

    from llama_index_adapters import Relevance, VectorDataset
    from llama_index_adapters.adapters.learned.linear import LinearAdapter
    from llama_index_adapters.training.objective import RetrievalObjective
    from llama_index_adapters.training.options import TrainingOptions

    passages = np.load(vectors, mmap_mode="r")
    answers = np.random.default_rng(0).integers(0, len(passages), (_STEP_QUERIES, 1))
    data = VectorDataset(passages[answers[:, 0]], passages, Relevance.from_rows(answers))
    objective = RetrievalObjective(
        data,
        scale=TrainingOptions.scale,
        unit_input=True,
        device=torch.device("cpu"),
        negatives=TrainingOptions(negatives=negatives).negatives_of(len(passages)),
    )
    adapter = LinearAdapter(DIM)
    rows = torch.arange(_STEP_QUERIES)

    def step() -> None:
        adapter.zero_grad()
        objective.loss(adapter(objective.queries[rows]), rows).backward()

    return _median_seconds(step, 3)


def ranking_seconds(*, vectors: str, folder: str) -> float:
    """Rank all passages for some queries."""
    import numpy as np

    from llama_index_adapters.retrieval.ranking import top_k

    passages = np.load(vectors, mmap_mode="r")
    queries = passages[:: max(1, len(passages) // _QUERIES)][:_QUERIES]
    return _median_seconds(lambda: top_k(queries, passages, 10), 3)


def serving_seconds(*, vectors: str, folder: str) -> float:
    """Answer queries through a linear adapter."""
    from llama_index_adapters.adapters.disk.save import save_adapter
    from llama_index_adapters.adapters.learned.linear import LinearAdapter

    path = Path(folder) / "growth-linear"
    save_adapter(path, LinearAdapter(DIM))
    return _query_seconds(path)


def memory_seconds(*, vectors: str, folder: str) -> float:
    """Answer queries through a memory adapter."""
    import numpy as np

    from benchmarks.speed.adapters import save_memory

    path = Path(folder) / "growth-memory"
    save_memory(str(path), DIM, len(np.load(vectors, mmap_mode="r")) // 4)
    return _query_seconds(path)


def _query_seconds(path: Path) -> float:
    from benchmarks.speed.models import StoredEmbedding
    from llama_index_adapters import AdapterEmbeddingModel

    model = AdapterEmbeddingModel(StoredEmbedding([1 / DIM**0.5] * DIM), path)
    return _median_seconds(lambda: model.get_query_embedding("a query"), 500)


def _median_seconds(work: Any, repetitions: int) -> float:
    from benchmarks.speed.timing import side_by_side

    return side_by_side({"work": work}, repetitions=repetitions)["work"].median


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


MEASUREMENT = Measurement("growth", "How cost grows", measure, __doc__)
