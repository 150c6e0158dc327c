"""Progress bars, and lines in their place where nobody looks at a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TextIO, TypeVar

from tqdm.auto import tqdm

EVERY = 30.0
"""Seconds between two lines."""

_Item = TypeVar("_Item")


def progress_bar(
    iterable: Iterable[_Item] | None = None,
    desc: str = "",
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str,
    disable: bool,
) -> Any:
    """Return a progress bar of tqdm, or what :func:`progress_lines` reports in its place."""
    lines = _lines.get()
    if disable or lines is None:
        return tqdm(iterable, desc, total=total, initial=initial, unit=unit, disable=disable)
    return _Counted(lines, iterable, desc, total, initial, unit)


@contextmanager
def progress_lines(every: float = EVERY, file: TextIO | None = None) -> Iterator[None]:
    """Write a line about every progress bar of the block from time to time, and draw none.

    Args:
        every: seconds between two lines; work that takes less says nothing.
        file: where to; standard error when left out.
    """
    lines = _Lines(every, file)
    token = _lines.set(lines)
    try:
        yield
    finally:
        _lines.reset(token)
        lines.stop()


class _Lines(threading.Thread):
    """Tells how far the bars are."""

    def __init__(self, every: float, file: TextIO | None) -> None:
        super().__init__(name="progress lines", daemon=True)
        self._every, self._file = every, file
        self._ended = threading.Event()
        self.shown: list[_Counted[Any]] = []

    def run(self) -> None:
        while not self._ended.wait(self._every):
            # The innermost of several, such as epochs within trials, and what it belongs to.
            said = "; ".join(str(bar) for bar in list(self.shown))
            if said:
                (self._file or sys.stderr).write(f"{said}\n")
                (self._file or sys.stderr).flush()

    def watch(self, bar: _Counted[Any]) -> None:
        self.shown.append(bar)
        if self.ident is None:
            self.start()

    def stop(self) -> None:
        self._ended.set()
        if self.ident is not None:
            self.join()


class _Counted(Generic[_Item]):
    """What is used of a bar of tqdm, for lines."""

    def __init__(
        self,
        lines: _Lines,
        iterable: Iterable[_Item] | None,
        desc: str,
        total: int | None,
        initial: int,
        unit: str,
    ) -> None:
        self._lines, self._iterable = lines, iterable
        self._desc, self._unit, self._initial = desc, unit, initial
        self._total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self._started = time.monotonic()
        self._postfix = ""
        self.n = initial
        lines.watch(self)

    def __str__(self) -> str:
        """Say how far it is and how long it took: ``Embedding queries: 20 of 50 texts, 31 s``."""
        of_total = "" if self._total is None else f" of {self._total:,}"
        doing = f" ({self._postfix})" if self._postfix else ""
        took = round(time.monotonic() - self._started)
        return f"{self._desc}: {self.n:,}{of_total} {self._plural}{doing}, {took} s"

    @property
    def _plural(self) -> str:
        return "queries" if self._unit == "query" else f"{self._unit}s"

    def update(self, n: float = 1) -> None:
        self.n += int(n)

    def set_postfix_str(self, text: str = "") -> None:
        self._postfix = text

    def set_postfix(self, values: dict[str, object]) -> None:
        self._postfix = ", ".join(f"{name} {value}" for name, value in values.items())

    def close(self) -> None:
        if self in self._lines.shown:
            self._lines.shown.remove(self)

    def __enter__(self) -> _Counted[_Item]:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[_Item]:
        try:
            for item in self._iterable or ():
                yield item
                self.n += 1
        finally:
            self.close()


_lines: ContextVar[_Lines | None] = ContextVar("progress lines", default=None)
