"""Finetuning from a question set to a saved adapter: time, cold and warm, and peak memory.

LlamaIndex's engine embeds each query and each passage in every epoch, one text a call. Four epochs
of it take long and repeat themselves, so it gets a share of the queries for one epoch; its seconds
are scaled by the number of calls. That leaves nothing out: its training itself is a small part, and
is in the seconds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import Ran, in_process
from benchmarks.speed.timing import Sample

EPOCHS = 4
_ROUNDS = 3
_WARM_RUNS = 3
# Of the queries, for each of the rounds: every eighth, another one each time.
_SHARE = 8


def measure(settings: Settings) -> Measured:
    """Finetune with both engines in turn, each in a process of its own."""
    python = settings.peer("llamaindex")
    n_queries = len(json.loads(settings.questions.read_text())["queries"])
    cold: list[Ran] = []
    warm: list[Ran] = []
    theirs: list[Ran] = []
    for number in range(settings.size(_ROUNDS, 1)):
        settings.report(f"finetuning, round {number + 1}: this package, then LlamaIndex's engine")
        options: dict[str, Any] = {
            "questions": str(settings.questions),
            "model": settings.model,
            "store": str(settings.folder / f"finetuning-{number}.sqlite3"),
        }
        output = str(settings.folder / f"finetuned-{number}")
        cold.append(in_process(f"{__name__}:ours", output=output, runs=1, **options))
        warm.append(in_process(f"{__name__}:ours", output=output, runs=_WARM_RUNS, **options))
        theirs.append(
            in_process(
                "benchmarks.peers.llamaindex_speed:finetune",
                python=python,
                questions=str(settings.questions),
                model=settings.model,
                output=str(settings.folder / f"llamaindex-{number}"),
                share=_SHARE,
                first=number,
            )
        )
    return Measured(figures(cold, warm, theirs, n_queries, settings.questions_name))


def figures(
    cold: list[Ran], warm: list[Ran], theirs: list[Ran], n_queries: int, name: str
) -> list[Figure]:
    """Compare the runs of each round."""
    calls = EPOCHS * 2 * n_queries + 1  # the query and its passage, and once for the dimension
    scaled = Sample([ran.value["seconds"] * calls / ran.value["calls"] for ran in theirs])
    ours_cold = Sample([ran.value["seconds"][0] for ran in cold])
    ours_warm = Sample([median(ran.value["seconds"]) for ran in warm])
    measured = sum(ran.value["calls"] for ran in theirs)
    note = (
        f"LlamaIndex's engine {scaled.median:.0f} s for {calls:,} calls, scaled from {measured:,} "
        f"calls that were made in {sum(ran.value['seconds'] for ran in theirs):.0f} s"
    )
    memory = Sample([float(ran.peak_bytes) for ran in cold])
    memory_of_theirs = Sample([float(ran.peak_bytes) for ran in theirs])
    return [
        _ratio(
            f"finetuning {name} cold: LlamaIndex's time / ours",
            scaled.over(ours_cold),
            Goal("at least", 20),
            f"ours {ours_cold.median:.1f} s, of which {_parts(cold[0])}, "
            f"{cold[0].value['texts']:,} texts embedded; {note}",
        ),
        _ratio(
            f"finetuning {name} warm: LlamaIndex's time / ours",
            scaled.over(ours_warm),
            Goal("at least", 100),
            f"ours {ours_warm.median:.2f} s, of which {_parts(warm[0])}; {note}",
        ),
        _ratio(
            f"peak memory of finetuning {name} cold: ours / LlamaIndex's",
            memory.over(memory_of_theirs),
            None,
            f"{memory.median / 2**20:.0f} MiB and {memory_of_theirs.median / 2**20:.0f} MiB, with "
            "torch and the embedding model",
        ),
    ]


def _parts(one: Ran) -> str:
    parts = one.value["parts"]
    return ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts.items())


def _ratio(what: str, ratios: Sample, goal: Goal | None, detail: str) -> Figure:
    return Figure(what, ratios.median, "x", ratios.low, ratios.high, goal, detail)


def ours(
    *, questions: str, model: str, store: str, output: str, runs: int, url: str = ""
) -> dict[str, Any]:
    """Finetune with this package.

    Returns:
        ``seconds`` of each run, its ``parts`` of the last one, and how many ``texts`` were embedded
        in all.
    """
    from benchmarks.speed.models import open_model
    from llama_index_adapters import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset

    dataset = EmbeddingQAFinetuneDataset.from_json(questions)
    embed_model = open_model(model, url)
    if not url:
        embed_model.get_text_embedding("the first call is slower than the others")
    _import_everything(Path(output).with_name("first"))
    seconds, texts = [], 0
    parts: dict[str, float] = {}
    for _ in range(runs):
        started = time.perf_counter()
        engine = EmbeddingAdapterFinetuneEngine(
            dataset,
            embed_model,
            epochs=EPOCHS,
            adapter="linear",
            store=store,
            model_output_path=output,
            show_progress=False,
        )
        result = engine.finetune()
        texts, parts = texts + result.texts_embedded, dict(result.seconds)
        engine.get_finetuned_model()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "texts": texts, "parts": parts}


def _import_everything(output: Path) -> None:
    """Finetune on four vectors: what is imported on first use is imported then."""
    import numpy as np

    from llama_index_adapters import EmbeddingAdapterFinetuneEngine, Relevance, VectorDataset

    data = VectorDataset(np.eye(4), np.eye(4), Relevance.from_rows([[0], [1], [2], [3]]))
    EmbeddingAdapterFinetuneEngine(
        data,
        None,
        epochs=1,
        adapter="linear",
        val_dataset=data,
        model_output_path=output,
        show_progress=False,
    ).finetune()


MEASUREMENT = Measurement("finetuning", "Finetuning", measure)
