"""What an adapted query costs beside the base model's own time.

The base model is one that answers at once with a stored list, so that a call costs what LlamaIndex
does around it. What a wrapper adds is the time of ``get_query_embedding`` on the wrapper minus that
on the base model, called in turn. Plain numpy is the same call of the base model followed by
``(W @ np.asarray(vector, dtype=np.float32)).tolist()``, minus the base model's: from a list to a
list, without a check or a length.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process
from benchmarks.speed.timing import Sample

DIMS = (384, 1536)
MEMORY_QUERIES = 20_000
_REPETITIONS, _ROUNDS, _CALLS = 9, 40, 20


def measure(settings: Settings) -> Measured:
    """Time every adapter in one process without torch, and LlamaIndex's wrapper in another."""
    python = settings.peer("llamaindex-wrapper")
    dims = list(DIMS)
    settings.report("serving: writing adapters")
    paths = in_process(
        "benchmarks.speed.adapters:write_adapters",
        folder=str(settings.folder),
        dims=dims,
        memory_queries=settings.size(MEMORY_QUERIES, 200),
    ).value
    timing = {
        "repetitions": settings.size(_REPETITIONS, 2),
        "rounds": settings.size(_ROUNDS, 1),
        "calls": settings.size(_CALLS, 2),
    }
    settings.report("serving: one query at a time")
    ours: dict[str, dict[str, Sample]] = {}
    for name, path in paths.items():
        dim = dims[0] if name == "memory" else int(name.split()[-1])
        ran = in_process(f"{__name__}:query_seconds", path=path, dim=dim, **timing)
        ours[name] = {work: Sample(values) for work, values in ran.value.items()}
    theirs = {}
    for dim in dims:
        ran = in_process(
            "benchmarks.peers.llamaindex_wrapper:query_seconds",
            python=python,
            folder=str(settings.folder),
            dim=dim,
            **timing,
        )
        theirs[dim] = {work: Sample(values) for work, values in ran.value.items()}
    return Measured(figures(ours, theirs))


def figures(
    ours: dict[str, dict[str, Sample]], theirs: dict[int, dict[str, Sample]]
) -> list[Figure]:
    """Compare what is added to a query by each adapter, plain numpy and LlamaIndex's wrapper."""
    found = []
    for name in (f"{kind} {dim}" for dim in DIMS for kind in ("linear", "closed form")):
        added, plain = (ours[name][work].minus(ours[name]["base"]) for work in ("adapted", "plain"))
        ratio = added.over(plain)
        found.append(
            Figure(
                f"a query, {name}: time added / plain numpy, list to list",
                ratio.median,
                "x",
                ratio.low,
                ratio.high,
                Goal("at most", 1.5),
                f"{_micro(added)} and {_micro(plain)}; the base model's own call "
                f"{_micro(ours[name]['base'])}; plain numpy alone, no model called between, "
                f"{_micro(ours[name]['plain alone'])}; with an event handler attached "
                f"{_micro(ours[name]['watched'])} added",
            )
        )
    for dim, samples in theirs.items():
        added = samples["adapted"].minus(samples["base"])
        mine = ours[f"linear {dim}"]["adapted"].minus(ours[f"linear {dim}"]["base"])
        found.append(
            Figure(
                f"a query, linear {dim}: time LlamaIndex's wrapper adds / ours",
                added.over(mine).median,
                "x",
                added.over(mine).low,
                added.over(mine).high,
                detail=f"{_micro(added)} and {_micro(mine)}, in processes of their own",
            )
        )
    memory = ours["memory"]["adapted"].minus(ours["memory"]["base"])
    found.append(
        Figure(
            f"a query, memory of {MEMORY_QUERIES:,} training queries, {DIMS[0]}: time added",
            memory.median * 1e3,
            "ms",
            None if memory.low is None else memory.low * 1e3,
            None if memory.high is None else memory.high * 1e3,
            Goal("at most", 1),
        )
    )
    full, low = (
        ours[f"{kind} {DIMS[1]}"]["adapted"].minus(ours[f"{kind} {DIMS[1]}"]["base"])
        for kind in ("linear", "low-rank")
    )
    full, low = (ours[f"{kind} {DIMS[1]}"] for kind in ("linear", "low-rank"))
    for what, (of_full, of_low) in {
        "time added by a full linear adapter / by a low-rank one (rank 64)": (
            full["adapted"].minus(full["base"]),
            low["adapted"].minus(low["base"]),
        ),
        "the same without reading and writing lists": (full["transform"], low["transform"]),
    }.items():
        ratio = of_full.over(of_low)
        found.append(
            Figure(
                f"a query, {DIMS[1]}: {what}",
                ratio.median,
                "x",
                ratio.low,
                ratio.high,
                Goal("at least", 4),
                f"{_micro(of_full)} and {_micro(of_low)}; reading and writing a list of "
                f"{DIMS[1]:,} Python floats takes {_micro(low['lists'])} of what is added",
            )
        )
    return found


def query_seconds(
    *, path: str, dim: int, repetitions: int, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Time a query of the base model, with plain numpy after it, and through our wrapper."""
    import sys
    from collections.abc import Callable

    import numpy as np
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler

    from benchmarks.speed.models import StoredEmbedding
    from benchmarks.speed.timing import side_by_side
    from llama_index_adapters import AdapterEmbeddingModel
    from llama_index_adapters.adapters.served.base import adapt_vector, as_vector
    from llama_index_adapters.serving.saved import load_saved

    class Handler(BaseEventHandler):
        """Receives events and does nothing."""

        def handle(self, event: Any, **kwargs: Any) -> None:
            """Do nothing."""

    rng = np.random.default_rng(0)
    vector = rng.standard_normal(dim)
    base = StoredEmbedding((vector / np.linalg.norm(vector)).tolist())
    stored = base.get_query_embedding("a query")
    weight = np.eye(dim, dtype=np.float32)
    query, transform = as_vector(stored), load_saved(path).transform
    model = AdapterEmbeddingModel(base, path)

    def plain() -> list[float]:
        given = base.get_query_embedding("a query")
        result: list[float] = (weight @ np.asarray(given, dtype=np.float32)).tolist()
        return result

    works: dict[str, Callable[[], object]] = {
        "base": lambda: base.get_query_embedding("a query"),
        "plain": plain,
        "adapted": lambda: model.get_query_embedding("a query"),
    }
    timing = {"repetitions": repetitions, "rounds": rounds, "calls": calls}
    samples = side_by_side(works, **timing)
    samples |= side_by_side(
        {
            "plain alone": lambda: (weight @ np.asarray(stored, dtype=np.float32)).tolist(),
            "lists": lambda: as_vector(stored).tolist(),
            "transform": lambda: adapt_vector(transform, query, 1.0),
        },
        **timing,
    )
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(Handler())
    watched = side_by_side({name: works[name] for name in ("base", "adapted")}, **timing)
    samples["watched"] = watched["adapted"].minus(watched["base"])
    if "torch" in sys.modules:
        raise RuntimeError("serving imported torch, which it must not")
    return {name: list(sample.values) for name, sample in samples.items()}


def _micro(sample: Sample) -> str:
    return f"{sample.median * 1e6:.1f} µs"


MEASUREMENT = Measurement("serving", "A query, one at a time", measure, __doc__)
