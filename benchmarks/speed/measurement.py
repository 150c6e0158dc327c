"""What a measurement is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import ready
from benchmarks.speed.figures import Measured


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        environments: the folder of the environments that peers run in.
        folder: a place for files that are deleted afterwards.
        questions: the JSON file of the question set that is finetuned on.
        questions_name: what the table calls it.
        model: ``"local"``, or ``"hashing"`` for a stand-in that needs no weights.
        short: sizes small enough to see that everything runs; the figures mean nothing.
        report: called with lines for people.
    """

    environments: Path
    folder: Path
    questions: Path
    questions_name: str
    model: str = "local"
    short: bool = False
    report: Callable[[str], None] = lambda line: None

    def peer(self, name: str) -> Path:
        """Return the interpreter of a peer's environment, making it the first time."""
        self.report(f"environment {name} (made the first time: minutes)")
        return ready(name, self.environments)

    def size(self, full: int, short: int) -> int:
        """Return a size, or the small one of a short run."""
        return short if self.short else full


@dataclass(frozen=True)
class Measurement:
    """One word for ``--only``.

    Attributes:
        name: the word.
        title: the heading of its figures.
        run: takes the figures.
    """

    name: str
    title: str
    run: Callable[[Settings], Measured]
