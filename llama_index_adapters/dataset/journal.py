"""An append-only record of generated questions that survives whatever ends the process."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from llama_index_adapters.errors import InvalidFileError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The questions about one text of one node.

    Attributes:
        node_id: the node's id.
        text_sha256: the text that the questions are about, as :func:`text_digest` gives it.
        questions: the text of each question, by query id.
        made_with: a digest of the prompt and the model, or "" where it is not known.
    """

    node_id: str
    text_sha256: str
    questions: dict[str, str]
    made_with: str


class Journal:
    """Entries in a file of JSON lines, each on the disk before :meth:`append` returns.

    A node has at most one entry for each of its texts: a later one replaces an earlier one. Lines
    that cannot be read, such as the last one of a process that was killed while it wrote, are
    passed over. Use it as a context manager.

    Args:
        path: the file; it and its directory are created when missing.

    Raises:
        InvalidFileError: when ``path`` is a directory.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise InvalidFileError(f"{path} is a directory; expected a file to keep questions in.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab+")
        self._file.seek(0)
        self._entries: dict[tuple[str, str], Entry] = {}
        *lines, last = self._file.read().split(b"\n")
        unreadable = 0
        for line in (*lines, last):
            entry = _entry(line)
            if entry is not None:
                self._entries[entry.node_id, entry.text_sha256] = entry
            elif line.strip():
                unreadable += 1
        if unreadable:
            logger.warning("%d unreadable lines of %s were passed over.", unreadable, path)
        if last:
            self._write(b"\n")

    def find(self, node_id: str, digests: Iterable[str]) -> Entry | None:
        """Return the node's entry for the first of these texts that has one."""
        for digest in digests:
            if (node_id, digest) in self._entries:
                return self._entries[node_id, digest]
        return None

    def append(self, entry: Entry) -> None:
        """Keep an entry; it is on the disk when this returns."""
        self._write(json.dumps(asdict(entry)).encode("ascii") + b"\n")
        self._entries[entry.node_id, entry.text_sha256] = entry

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        """Return the journal itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


def text_digest(text: str) -> str:
    """Return the sha256 of a text, whatever characters are in it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entry(line: bytes) -> Entry | None:
    try:
        content: Any = json.loads(line)
        entry = Entry(**content)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(entry.questions, dict) or not entry.questions:
        return None
    texts = (entry.node_id, entry.text_sha256, entry.made_with, *entry.questions.values())
    return entry if all(isinstance(text, str) for text in texts) else None
