"""A corpus on disk: vectors in a memory-mapped .npy file, a line of JSON for each node."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import UnwritableFileError


class CorpusFiles:
    """Takes pages of vectors and lines, and gives them back from disk.

    Pages are appended with plain writes. A mapping that is written to would keep every page
    of it resident until the system takes it back; so the file is mapped, to read, at the end.
    The files are in a temporary directory and go when this object does.

    Args:
        directory: where to make the temporary directory; the system's place when left out.

    Raises:
        UnwritableFileError: when nothing can be written there.
    """

    def __init__(self, directory: str | PathLike[str] | None = None) -> None:
        if directory is not None:
            directory = as_path(directory, "directory")
        try:
            self._directory = tempfile.TemporaryDirectory(
                prefix="llama-index-adapters-", dir=directory, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise UnwritableFileError(
                f"No files can be made in {directory or tempfile.gettempdir()} ({error}). Name "
                "another directory."
            ) from error
        self._path = Path(self._directory.name)
        self._vectors: BinaryIO = (self._path / "vectors.npy").open("wb")
        self._lines: BinaryIO = (self._path / "nodes.jsonl").open("wb")
        self._ends = array("q")
        self._dim = 0

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._ends)

    @property
    def dimension(self) -> int:
        """The dimension of the vectors; 0 before the first."""
        return self._dim

    def append(self, vectors: NDArray[np.float32], lines: Sequence[str]) -> None:
        """Append vectors ``(n, dim)`` and a line for each; all pages have one ``dim``.

        Raises:
            UnwritableFileError: when the disk is full, say.
        """
        try:
            if not len(self):
                self._dim = vectors.shape[1]
                self._write_header(0)
            self._vectors.write(np.ascontiguousarray(vectors, dtype="<f4").data)
            position = self._ends[-1] if self._ends else 0
            for line in lines:
                position += self._lines.write(line.encode("utf-8", "surrogatepass") + b"\n")
                self._ends.append(position)
            self._lines.flush()
        except OSError as error:
            raise UnwritableFileError(
                f"Vectors could not be written to {self._path} ({error}). Name a directory with "
                "room for all of them."
            ) from error

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors ``(n, dim)``, mapped from the file; there must be one."""
        self._vectors.seek(0)
        self._write_header(len(self))
        self._vectors.close()
        mapped: NDArray[np.float32] = np.load(self._path / "vectors.npy", mmap_mode="r")
        return mapped

    def remove(self) -> None:
        """Remove the files at once; an error on its way up may keep this object for long."""
        self._vectors.close()
        self._lines.close()
        self._directory.cleanup()

    def line(self, row: int) -> str:
        """Return the line of one vector; any thread may ask, and a forked process too."""
        start = self._ends[row - 1] if row else 0
        # Opened for each line: a position that is shared is moved by others before the read.
        with (self._path / "nodes.jsonl").open("rb") as lines:
            lines.seek(start)
            return lines.read(self._ends[row] - start).decode("utf-8", "surrogatepass")

    def _write_header(self, rows: int) -> None:
        # numpy leaves room in the header for the first axis to grow.
        np.lib.format.write_array_header_1_0(
            self._vectors,
            {"descr": "<f4", "fortran_order": False, "shape": (rows, self._dim)},
        )
