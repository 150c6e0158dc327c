"""What a measurement gives: figures with their goals, curves, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llama_index_adapters.errors import InvalidFileError
from llama_index_adapters.files.atomic import write_text

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Goal:
    """A bound that a figure is to keep.

    Attributes:
        kind: on which side of the bound the figure is to be.
        bound: the bound, which itself is good enough.
    """

    kind: Literal["at least", "at most"]
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Return whether a value is on the right side."""
        return value >= self.bound if self.kind == "at least" else value <= self.bound


@dataclass(frozen=True)
class Figure:
    """One number that was measured.

    Attributes:
        what: what was measured, and against what.
        value: the median where it was repeated.
        unit: ``"x"`` for a ratio.
        low: the smallest of the repetitions; None when there was one.
        high: the largest of them.
        goal: what it is to reach; None where nothing was promised.
        detail: the seconds, bytes or counts behind a ratio, and how they were taken.
    """

    what: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    goal: Goal | None = None
    detail: str = ""

    @property
    def verdict(self) -> str:
        """``"met"``, ``"missed"``, or nothing when there is no goal."""
        if self.goal is None:
            return ""
        return "met" if self.goal.is_met_by(self.value) else "missed"


@dataclass(frozen=True)
class Curve:
    """How a cost grows with the number of passages.

    Attributes:
        what: what is done.
        passages: the sizes.
        seconds: what each took.
        bytes: the peak memory of the process that did it; None where it says nothing.
    """

    what: str
    passages: Sequence[int]
    seconds: Sequence[float]
    bytes: Sequence[int] | None = None


@dataclass(frozen=True)
class Measured:
    """What one measurement gave.

    Attributes:
        figures: its figures, in the order of the table.
        curves: how its costs grow.
        about: the machine and the versions it was taken with.
    """

    figures: Sequence[Figure]
    curves: Sequence[Curve] = ()
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Results:
    """All measurements of a file by name; one that is added is on disk at once."""

    path: Path
    measured: dict[str, Measured] = field(default_factory=dict)

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
            return cls(path, {name: _read(one) for name, one in record["measured"].items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidFileError(
                f"{path} does not hold results of this benchmark ({error}). Name another file "
                "with --output, or delete it."
            ) from error

    def add(self, name: str, measured: Measured) -> None:
        """Keep a measurement in place of an earlier one of the name, and write the file."""
        self.measured[name] = measured
        record = {
            "format_version": FORMAT_VERSION,
            "measured": {key: asdict(one) for key, one in sorted(self.measured.items())},
        }
        write_text(self.path, json.dumps(record, indent=1) + "\n")


def _read(record: Mapping[str, Any]) -> Measured:
    figures = [
        Figure(**{**one, "goal": None if one["goal"] is None else Goal(**one["goal"])})
        for one in record["figures"]
    ]
    return Measured(figures, [Curve(**one) for one in record["curves"]], record["about"])
