"""An append-only record of generated questions that survives whatever ends the process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from llama_index_adapters.errors import InvalidFileError, UnwritableFileError

if sys.platform != "win32":
    import fcntl

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

    One journal is open at a time, so that nothing is asked twice: the file is locked, and the
    system gives the lock back when its owner ends, however that happens (not on Windows, where
    nothing is locked).

    Args:
        path: the file; it and its directory are created when missing.

    Raises:
        InvalidFileError: when ``path`` is a directory.
        UnwritableFileError: when the file cannot be opened or written, or is open already.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise InvalidFileError(f"{path} is a directory; expected a file to keep questions in.")
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            _lock(self._file)
        except BlockingIOError as error:
            self._file.close()
            raise UnwritableFileError(
                f"{path} is in use: questions are being generated into it. Wait until that has "
                "finished, or give another output_path."
            ) from error
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
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UnwritableFileError:
        return UnwritableFileError(
            f"{self.path}, where questions are kept, cannot be written ({error}). Check that its "
            "folder is writable and the disk is not full, or give another output_path; what it "
            "holds is not asked again."
        )

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
        # What a full disk did not take cannot be flushed now either.
        with contextlib.suppress(OSError, ValueError):
            _unlock(self._file)
        with contextlib.suppress(OSError):
            self._file.close()


def _lock(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(file: IO[bytes]) -> None:
    """Give the lock back even where a forked process has inherited the file."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_UN)


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
