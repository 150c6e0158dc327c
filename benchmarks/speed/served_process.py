"""A process that serves: what it imports, how long until the first answer, how much it holds."""

from __future__ import annotations

from benchmarks.speed.figures import Figure, Goal, Measured
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.process import Ran, in_process
from benchmarks.speed.timing import Sample

DIM = 384


def measure(settings: Settings) -> Measured:
    """Start served processes in turn: ours and one with LlamaIndex's wrapper."""
    python = settings.peer("llamaindex-wrapper")
    folder = str(settings.folder)
    path = in_process(
        "benchmarks.speed.adapters:write_adapters", folder=folder, dims=[DIM], memory_queries=4
    ).value[f"linear {DIM}"]
    layer = in_process(
        "benchmarks.peers.llamaindex_wrapper:write_layer", python=python, folder=folder, dim=DIM
    ).value
    settings.report("served process: start until the first answer")
    ours: list[Ran] = []
    theirs: list[Ran] = []
    # The first start of each reads its files from the disk.
    for _ in range(settings.size(9, 1) + 1):
        ours.append(in_process("benchmarks.speed.served:serve_one", path=path, dim=DIM))
        theirs.append(
            in_process(
                "benchmarks.peers.llamaindex_wrapper:serve_one", python=python, path=layer, dim=DIM
            )
        )
    return Measured(figures(ours[1:], theirs[1:]))


def figures(ours: list[Ran], theirs: list[Ran]) -> list[Figure]:
    """Compare the processes."""
    start, start_of_theirs = (Sample([ran.seconds for ran in runs]) for runs in (ours, theirs))
    found = [
        Figure(
            "a served process: modules of torch that are loaded",
            max(ran.value["torch"] for ran in ours),
            "modules",
            goal=Goal("at most", 0),
            detail="after the first answered query",
        ),
        _ratio(
            "a served process, from start to first answer: LlamaIndex's wrapper / ours",
            start_of_theirs.over(start),
            f"{start_of_theirs.median:.2f} and {start.median:.2f} s, interpreter and LlamaIndex's "
            "core included",
        ),
    ]
    for what, name, unit, scale in (
        ("import of the wrapper beside LlamaIndex's core", "import", "s", 1.0),
        ("resident memory after the first answer", "resident", "MiB", 2.0**-20),
    ):
        mine, other = (Sample([ran.value[name] * scale for ran in runs]) for runs in (ours, theirs))
        digits = 2 if unit == "s" else 0
        found.append(
            _ratio(
                f"a served process, {what}: LlamaIndex's wrapper / ours",
                other.over(mine),
                f"{other.median:.{digits}f} and {mine.median:.{digits}f} {unit}",
            )
        )
    return found


def _ratio(what: str, ratios: Sample, detail: str) -> Figure:
    return Figure(what, ratios.median, "x", ratios.low, ratios.high, detail=detail)


MEASUREMENT = Measurement("start-up", "A served process", measure)
