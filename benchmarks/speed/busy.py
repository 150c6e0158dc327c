"""The default search on a machine that is busy with other work, beside the same on a quiet one.

Other work is as many processes that do nothing but count as this process may use processors. Where
a training shares its small products among threads, these then wait for each other at every step.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process
from benchmarks.speed.timing import Sample

_ROUNDS = 3


def measure(settings: Settings) -> Measured:
    """Search in turn alone and beside busy processes, each time in a process of its own."""
    from llama_index_adapters.training.threads import usable_processors

    processors = usable_processors()
    options: dict[str, Any] = {
        "questions": str(settings.questions),
        "model": settings.model,
        "store": str(settings.folder / "busy.sqlite3"),
        "output": str(settings.folder / "busy"),
    }
    function = f"{__name__}:training_seconds"
    quiet: list[float] = []
    busy: list[float] = []
    for number in range(settings.size(_ROUNDS, 1)):
        settings.report(f"a busy machine, round {number + 1}: alone, then beside {processors}")
        for seconds, others in ((quiet, 0), (busy, processors)):
            with busy_processes(others) if others else nullcontext():
                seconds.append(in_process(function, **options).value)
    return Measured(figures(quiet, busy, processors, settings.questions_name))


def figures(quiet: list[float], busy: list[float], processors: int, name: str) -> list[Figure]:
    """Compare the runs of each round."""
    alone, beside = Sample(quiet), Sample(busy)
    ratio = beside.over(alone)
    return [
        Figure(
            f"training on {name} beside as many busy processes as processors: time / alone",
            ratio.median,
            "x",
            ratio.low,
            ratio.high,
            Goal("at most", 3),
            f"{alone.median:.1f} s alone and {beside.median:.1f} s beside {processors}",
        )
    ]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep as many processes busy meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def training_seconds(*, questions: str, model: str, store: str, output: str) -> float:
    """Return the seconds of a default search, without those of embedding."""
    from benchmarks.speed.models import open_model
    from llama_index_adapters import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset

    engine = EmbeddingAdapterFinetuneEngine(
        EmbeddingQAFinetuneDataset.from_json(questions),
        open_model(model),
        store=store,
        model_output_path=output,
        show_progress=False,
    )
    return engine.finetune().seconds["train"]


MEASUREMENT = Measurement("busy", "Training on a busy machine", measure, __doc__)
