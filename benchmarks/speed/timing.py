"""Things timed side by side: each in turn, again and again, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """Values of several repetitions.

    Attributes:
        values: one for each repetition, in order.
    """

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def low(self) -> float | None:
        """The smallest value, None when there is only one."""
        return min(self.values) if len(self.values) > 1 else None

    @property
    def high(self) -> float | None:
        """The largest value, None when there is only one."""
        return max(self.values) if len(self.values) > 1 else None

    def over(self, other: Sample) -> Sample:
        """Return the ratios to another sample, repetition by repetition."""
        return Sample([a / b for a, b in zip(self.values, other.values, strict=True)])

    def minus(self, other: Sample) -> Sample:
        """Return the differences to another sample, repetition by repetition."""
        return Sample([a - b for a, b in zip(self.values, other.values, strict=True)])


def side_by_side(
    works: Mapping[str, Callable[[], object]], *, repetitions: int, calls: int = 1, rounds: int = 1
) -> dict[str, Sample]:
    """Time works in turn; in every second turn they come in reverse order.

    Args:
        works: what to time, by name. Each is called once before the clock is read.
        repetitions: how many values each sample gets.
        calls: how often a work is called between two readings of the clock.
        rounds: how many turns a repetition has; its value is the median of them, so that what
            else the machine does now and then does not count.

    Returns:
        Seconds a call.
    """
    values: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        turns: dict[str, list[float]] = {name: [] for name in works}
        for name in _turns(list(works), rounds):
            work = works[name]
            work()  # the caches hold what the work before it needed
            started = time.perf_counter()
            for _ in range(calls):
                work()
            turns[name].append((time.perf_counter() - started) / calls)
        for name, seconds in turns.items():
            values[name].append(median(seconds))
    return {name: Sample(taken) for name, taken in values.items()}


def _turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)
