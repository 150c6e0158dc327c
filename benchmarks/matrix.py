"""Which cells are due, and the run through them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from pathlib import Path

from llama_index.core.base.embeddings.base import BaseEmbedding

from benchmarks.cells import Cell, Results, measure
from benchmarks.data import embedded, load_texts
from benchmarks.fetch import data_folder
from benchmarks.method import Method, Settings
from benchmarks.methods import METHODS
from llama_index_adapters.errors import AdaptersError, MissingFileError

Report = Callable[[str], None]


def due(
    name: str,
    methods: Sequence[str],
    results: Results,
    settings: Settings,
    *,
    again: bool,
    by_name: bool,
) -> list[Method]:
    """Return the methods to measure on a set.

    Args:
        name: the set.
        methods: the methods wanted.
        results: what was measured before.
        settings: a cell of another seed is due again.
        again: measure also what was measured before.
        by_name: whether somebody asked for these methods; else those that take hours are left
            out.
    """
    chosen = []
    for method in (METHODS[wanted] for wanted in methods):
        done = results.cells.get((name, method.name))
        if not by_name and name in method.only_by_name:
            continue
        if again or done is None or done.seed != settings.seed:
            chosen.append(method)
    return chosen


def run(
    sets: Sequence[str],
    methods: Sequence[str],
    results: Results,
    settings: Settings,
    embed_model: Callable[[], BaseEmbedding],
    *,
    folder: Path | None = None,
    store: Path | None = None,
    again: bool = False,
    by_name: bool = False,
    report: Report = lambda line: None,
) -> list[str]:
    """Measure what is due, set by set, writing each cell as soon as it is known.

    A set whose files are absent and a method that fails are reported; the rest runs on.

    Args:
        sets: names of :data:`benchmarks.data.SETS`.
        methods: names of :data:`benchmarks.methods.METHODS`.
        results: what was measured before; cells are added to it.
        settings: the seed, and where environments are.
        embed_model: opens the base model, once something is due.
        folder: where the files of sets are; when left out, as
            :func:`benchmarks.fetch.data_folder` says.
        store: of vectors; the user's cache directory when left out.
        again: measure also what was measured before.
        by_name: whether somebody asked for these methods.
        report: called with lines for people.

    Returns:
        What failed: a sentence for each.
    """
    failures = []
    for name in sets:
        chosen = due(name, methods, results, settings, again=again, by_name=by_name)
        if not chosen:
            report(f"{name}: nothing to measure, everything asked for is there")
            continue
        try:
            place = data_folder(name) if folder is None else folder
            texts = load_texts(name, place, seed=settings.seed)
        except MissingFileError as absent:
            report(str(absent))
            continue
        data = embedded(name, texts, embed_model(), store)
        results.sizes[name] = data.sizes()
        results.about = {**results.about, **about()}
        for method in chosen:
            report(f"{name}: {method.title} ...")
            try:
                cell = measure(data, method, settings)
            except AdaptersError as error:
                failures.append(f"{name}, {method.name}: {error}")
                report(failures[-1])
                continue
            results.add(cell)
            report(f"{name}: {method.title}: {_short(cell)}")
    return failures


def about() -> dict[str, str]:
    """Return what the figures depend on, beside the data."""
    import torch

    # Of what else runs at the same time, because it lengthens the seconds.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    packages: Collection[str] = ("llama-index-adapters", "llama-index-core", "numpy", "torch")
    return {
        "Python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load average when the last set began": "unknown" if load is None else f"{load:.1f}",
        **{package: version(package) for package in packages},
    }


def _short(cell: Cell) -> str:
    if cell.metrics is None or cell.gain is None:
        return f"not applicable: {cell.detail}"
    return (
        f"nDCG@10 {cell.metrics['ndcg@10']:.4f} ({cell.gain['mean']:+.4f}), "
        f"{cell.seconds:.1f} s {cell.detail}".rstrip()
    )
