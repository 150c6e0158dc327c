"""Many queries at once in one event loop: how many a second, and how long the loop stands still.

Clients ask one query after the other; the base model answers after a time drawn from a seed. A
heartbeat that sleeps a millisecond at a time tells how late the loop wakes it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process

DIM, CLIENTS, QUERIES_EACH = 384, 2_000, 2
# asyncio's own bound, ``loop.slow_callback_duration``: what takes longer is logged in debug mode.
LONGEST_STALL = 0.1
# Seconds until the base model answers, drawn evenly between the two.
_LATENCY = (2.0, 4.0)


def measure(settings: Settings) -> Measured:
    """Let clients ask the base model alone, then through adapters."""
    folder = str(settings.folder)
    paths = in_process(
        "benchmarks.speed.adapters:write_adapters",
        folder=folder,
        dims=[DIM],
        memory_queries=settings.size(20_000, 100),
    ).value
    clients = settings.size(CLIENTS, 20)
    settings.report(f"concurrency: {clients:,} clients in one event loop")
    taken = {
        name: in_process(
            f"{__name__}:ask",
            path=path,
            clients=clients,
            queries_each=settings.size(QUERIES_EACH, 2),
            latency=list(_LATENCY) if not settings.short else [0.0, 0.01],
        ).value
        for name, path in (
            ("base", None),
            ("linear", paths[f"linear {DIM}"]),
            ("memory", paths["memory"]),
        )
    }
    return Measured(figures(taken, clients))


def figures(taken: dict[str, dict[str, Any]], clients: int) -> list[Figure]:
    """Say how long the loop stood still, and how many queries it answered when busy."""
    found = []
    for name in ("linear", "memory"):
        spread, burst = taken[name]["spread"], taken[name]["burst"]
        base, at_once = taken["base"]["spread"], taken["base"]["burst"]
        found.append(
            Figure(
                f"{clients:,} concurrent async queries, {name} adapter: longest stall of the loop",
                1e3 * spread["stall"],
                "ms",
                goal=Goal("at most", 1e3 * LONGEST_STALL),
                detail=f"{spread['rate']:,.0f} queries a second, answers of the base model after "
                f"{_LATENCY[0]:g} to {_LATENCY[1]:g} s; the base model alone "
                f"{1e3 * base['stall']:.0f} ms. When all answers arrive in the same moment: "
                f"{1e3 * burst['stall']:.0f} ms and {burst['rate']:,.0f} queries a second, the "
                f"base model alone {1e3 * at_once['stall']:.0f} ms and {at_once['rate']:,.0f}",
            )
        )
    return found


def ask(
    *, path: str | None, clients: int, queries_each: int, latency: list[float]
) -> dict[str, dict[str, float]]:
    """Ask at a steady rate and then all at once; return rates and longest stalls.

    Args:
        path: a saved adapter; None asks the base model alone.
        clients: how many ask at the same time.
        queries_each: how many queries each of them asks, one after the other.
        latency: the shortest and the longest time until the base model answers, in seconds.
    """
    import asyncio
    import random
    import time

    from llama_index.core.base.embeddings.base import BaseEmbedding

    from benchmarks.speed.models import StoredEmbedding
    from llama_index_adapters import AdapterEmbeddingModel

    class Slow(StoredEmbedding):
        """Answers after a while."""

        async def _aget_query_embedding(self, query: str) -> list[float]:
            await asyncio.sleep(float(query))
            return self._get_query_embedding(query)

    base = Slow([1 / DIM**0.5] * DIM)
    model: BaseEmbedding = base if path is None else AdapterEmbeddingModel(base, path)

    async def client(pause: float, waits: list[float]) -> None:
        await asyncio.sleep(pause)
        for wait in waits:
            await model.aget_query_embedding(str(wait))

    async def run(bounds: list[float]) -> dict[str, float]:
        numbers = random.Random(0)
        beats: list[float] = []

        async def heartbeat() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                beats.append(time.perf_counter() - began - 0.001)

        heart = asyncio.create_task(heartbeat())
        await asyncio.sleep(0.01)
        started = time.perf_counter()
        await asyncio.gather(
            *(
                client(
                    numbers.uniform(0, bounds[1]),
                    [numbers.uniform(*bounds) for _ in range(queries_each)],
                )
                for _ in range(clients)
            )
        )
        seconds = time.perf_counter() - started
        await asyncio.sleep(0.002)
        heart.cancel()
        return {"rate": clients * queries_each / seconds, "stall": max(beats)}

    asyncio.run(run([0.0, 0.0]))  # what is done once, such as threads of BLAS
    return {"spread": asyncio.run(run(latency)), "burst": asyncio.run(run([0.0, 0.0]))}


MEASUREMENT = Measurement("concurrency", "Many queries at once", measure)
