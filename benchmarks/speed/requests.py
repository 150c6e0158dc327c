"""Requests to a model behind HTTP: what a service bills and limits, counted where they arrive.

The service is on loopback and counts; the client is LlamaIndex's OpenAIEmbedding on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.speed import finetuning
from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import in_process
from tests.faulty_openai import DIMENSION, FaultyOpenAI, serving


def measure(settings: Settings) -> Measured:
    """Finetune and build an index, in processes of their own, and count what arrives."""
    engine_python = settings.peer("llamaindex")
    wrapper_python = settings.peer("llamaindex-wrapper")
    questions = str(settings.questions)
    with serving() as service:
        settings.report("requests: finetuning with this package")
        ours = _counted(service)
        seconds = in_process(
            f"{__name__}:finetune",
            questions=questions,
            url=service.url,
            folder=str(settings.folder),
        ).value
        ours_engine = ours()
        settings.report("requests: finetuning with LlamaIndex's engine, 4 epochs")
        theirs = _counted(service)
        ran = in_process(
            "benchmarks.peers.llamaindex_speed:finetune",
            python=engine_python,
            questions=questions,
            model="openai",
            url=service.url,
            output=str(settings.folder / "requests-llamaindex"),
            epochs=finetuning.EPOCHS,
        )
        theirs_engine = theirs()
        settings.report("requests: building an index")
        base, wrapped, llamaindex = (
            _index(service, way, settings, None if way != "llamaindex" else wrapper_python)
            for way in ("base", "ours", "llamaindex")
        )
    return Measured(
        figures(
            (ours_engine, theirs_engine),
            (seconds, ran.value["seconds"]),
            (base, wrapped, llamaindex),
            settings.questions_name,
        )
    )


def figures(
    engines: tuple[int, int],
    seconds: tuple[float, float],
    indexes: tuple[int, int, int],
    name: str,
) -> list[Figure]:
    """Compare requests.

    Args:
        engines: of finetuning with our engine and LlamaIndex's.
        seconds: that these took.
        indexes: of building an index with the base model, in our wrapper, in LlamaIndex's.
        name: of the question set.
    """
    ours, theirs = engines
    base, wrapped, llamaindex = indexes
    counts = f"{base:,} requests with the base model, {wrapped:,} with ours, {llamaindex:,} with it"
    return [
        Figure(
            f"requests of finetuning {name}, 4 epochs: LlamaIndex's / ours",
            theirs / ours,
            "x",
            goal=Goal("at least", 200),
            detail=f"{theirs:,} and {ours:,} requests, in {seconds[1]:.1f} and {seconds[0]:.1f} s "
            "with a service on loopback that answers at once",
        ),
        Figure(
            "requests of building an index: our wrapper / the base model alone",
            wrapped / base,
            "x",
            goal=Goal("at most", 1),
            detail=counts,
        ),
        Figure(
            "requests of building an index: LlamaIndex's wrapper / ours",
            llamaindex / wrapped,
            "x",
            detail=counts,
        ),
    ]


def finetune(*, questions: str, url: str, folder: str) -> float:
    """Finetune with this package through OpenAIEmbedding; return the seconds."""
    run = finetuning.ours(
        questions=questions,
        model="openai",
        url=url,
        store=f"{folder}/requests.sqlite3",
        output=f"{folder}/requests-ours",
        runs=1,
    )
    seconds: float = run["seconds"][0]
    return seconds


def _counted(service: FaultyOpenAI) -> Callable[[], int]:
    """Forget what was asked; return how to count what was asked since."""
    service.plan()
    return lambda: len(service.requests)


def _index(service: FaultyOpenAI, way: str, settings: Settings, python: Path | None) -> int:
    count = _counted(service)
    in_process(
        "benchmarks.speed.indexing:build_index",
        python=python,
        way=way,
        questions=str(settings.questions),
        url=service.url,
        folder=str(settings.folder),
        dim=DIMENSION,
    )
    return count()


MEASUREMENT = Measurement("requests", "Requests to a model behind HTTP", measure)
