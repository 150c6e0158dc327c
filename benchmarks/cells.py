"""What was measured: one cell for each set and method, kept in a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data import BenchmarkData
from benchmarks.method import Learned, Method, Settings
from llama_index_adapters.errors import InvalidFileError
from llama_index_adapters.evaluation.comparison import compare
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.retrieval.ranking import metrics_at_k, top_k

FORMAT_VERSION = 1
K = 10


@dataclass(frozen=True)
class Cell:
    """One method on one set.

    Attributes:
        set: the name of the set.
        method: the name of the method.
        seed: what it was run with.
        metrics: the mean over the test queries of every metric at 10; None when not measured.
        gain: nDCG@10 minus that of the base vectors, with ``low`` and ``high`` of its 95% interval.
        wins: test queries whose nDCG@10 rose.
        losses: test queries whose nDCG@10 fell.
        seconds: wall-clock seconds of training.
        detail: what else is worth knowing; the reason, when it was not measured.
    """

    set: str
    method: str
    seed: int
    metrics: dict[str, float] | None = None
    gain: dict[str, float] | None = None
    wins: int = 0
    losses: int = 0
    seconds: float = 0.0
    detail: str = ""


def measure(data: BenchmarkData, method: Method, settings: Settings) -> Cell:
    """Train a method and measure it on the test queries.

    Raises:
        AdaptersError: when the method fails, with its reason.
    """
    why_not = method.why_not(data)
    if why_not is not None:
        return Cell(data.name, method.name, settings.seed, detail=why_not)
    return judged(data, method, method.learn(data, settings), settings.seed)


def judged(data: BenchmarkData, method: Method, learned: Learned, seed: int) -> Cell:
    """Rank all test passages for what a method learned and compare it with the base vectors."""
    test = data.test
    base, changed = (
        metrics_at_k(top_k(queries, passages, K, similarity=similarity), test.relevance, K)
        for queries, passages, similarity in (
            (test.queries, test.passages, test.similarity),
            (learned.queries, learned.passages, learned.similarity),
        )
    )
    comparison = compare(base, changed, seed=seed)
    gain = comparison.gains[f"ndcg@{K}"]
    return Cell(
        data.name,
        method.name,
        seed,
        metrics=comparison.adapted,
        gain=gain._asdict(),
        wins=comparison.wins,
        losses=comparison.losses,
        seconds=round(learned.seconds, 3),
        detail=learned.detail,
    )


@dataclass
class Results:
    """All cells of a file, by set and method; a cell that is added is on disk at once."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Results:
        """Return what a file holds, nothing when there is none.

        Raises:
            InvalidFileError: when it is not a file of results.
        """
        if not path.exists():
            return cls(path)
        try:
            record = json.loads(path.read_text())
            if record["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version is {record['format_version']}")
            cells = [Cell(**cell) for cell in record["cells"]]
            return cls(
                path,
                about=record["about"],
                sizes=record["sizes"],
                cells={(cell.set, cell.method): cell for cell in cells},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidFileError(
                f"{path} does not hold results of this benchmark ({error}). Name another file "
                "with --output, or delete it."
            ) from error

    def add(self, cell: Cell) -> None:
        """Keep a cell in place of an earlier one, and write the file at once.

        Cells that another run has written since are kept.
        """
        on_disk = Results.open(self.path)
        self.cells = {**self.cells, **on_disk.cells, (cell.set, cell.method): cell}
        self.sizes = {**on_disk.sizes, **self.sizes}
        self._write()

    def _write(self) -> None:
        record = {
            "format_version": FORMAT_VERSION,
            "about": self.about,
            "sizes": self.sizes,
            "cells": [asdict(self.cells[key]) for key in sorted(self.cells)],
        }
        write_text(self.path, json.dumps(record, indent=2) + "\n")
