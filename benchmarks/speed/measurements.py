"""Every measurement, in the order of the page."""

from __future__ import annotations

from benchmarks.speed import (
    beyond_memory,
    busy,
    concurrency,
    exact_search,
    finetuning,
    growth,
    requests,
    served_process,
    serving,
    training_step,
)
from benchmarks.speed.measurement import Measurement

MEASUREMENTS: dict[str, Measurement] = {
    module.MEASUREMENT.name: module.MEASUREMENT
    for module in (
        finetuning,
        requests,
        training_step,
        busy,
        serving,
        concurrency,
        served_process,
        exact_search,
        beyond_memory,
        growth,
    )
}
