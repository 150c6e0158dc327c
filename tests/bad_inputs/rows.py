"""What a row of the table is, and what several parts of it hand in."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llama_index_adapters import Relevance
from llama_index_adapters.errors import AdaptersError

Call = Callable[[Path], object]

GOOD: dict[str, Any] = {
    "queries": {"q": "why?", "r": "how?"},
    "corpus": {"p": "one", "s": "two"},
    "relevant_docs": {"q": ["p"], "r": ["s"]},
}
EYE = np.eye(4, dtype=np.float32)
NAN = np.full((4, 4), np.nan, np.float32)
ROWS = Relevance.from_rows([[0], [1], [2], [3]])


def nothing(directory: Path) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class BadInput:
    """One row: a call that must fail as documented and change nothing.

    Attributes:
        entry: the public entry point.
        wrong: what is wrong.
        call: makes the call; it is given a directory of its own.
        error: the class of the error.
        text: a pattern in its text.
        given: puts into the directory what is there before the call.
    """

    entry: str
    wrong: str
    call: Call
    error: type[AdaptersError]
    text: str
    given: Call = nothing

    def check(self) -> None:
        """Raise AssertionError when the row does not hold."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            self.given(directory)
            before = content(directory)
            found: AdaptersError | None = None
            try:
                self.call(directory)
            except AdaptersError as error:
                found = error
            after = content(directory)
        assert found is not None, f"{self.entry} takes {self.wrong}"
        assert isinstance(found, self.error), repr(found)
        assert re.search(self.text, str(found)), str(found)
        changed = {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        }
        assert not changed, changed


def content(directory: Path) -> dict[str, bytes | str]:
    """Return everything in a directory but the store of vectors, which keeps what was paid for."""
    found: dict[str, bytes | str] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if name.startswith("store.sqlite3"):
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115  as text
        else:
            found[name] = path.read_bytes() if path.is_file() else "a folder"
    return found


def rows(
    entry: str, error: type[AdaptersError], *cases: tuple[str, Call, str], given: Call = nothing
) -> Iterator[BadInput]:
    """Yield rows of one entry point that end in the same class of error."""
    for wrong, call, text in cases:
        yield BadInput(entry, wrong, call, error, text, given)


def holds(name: str, data: bytes | str) -> Call:
    """Return what puts a file into the directory."""

    def write(directory: Path) -> None:
        (directory / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return write
