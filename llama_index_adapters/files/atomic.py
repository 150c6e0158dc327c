"""Files and directories that are either written completely or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from llama_index_adapters.errors import InvalidFileError, UnwritableFileError
from llama_index_adapters.files.temporary import (
    neighbour,
    remove_leftovers,
    temporary_directory,
    temporary_file,
)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file so that a reader sees the old content or the new, never a part.

    Missing parent directories are created. The permissions of an existing file are kept, and
    a symbolic link stays one: the file it points to is replaced. What a killed process left of
    an earlier write is removed first.

    Raises:
        InvalidFileError: when ``path`` is a directory.
        UnwritableFileError: when the file cannot be written: no space, no permission.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise InvalidFileError(f"{path} is a directory; expected the name of a file to write.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace_file(target, text.encode("utf-8"))
    except OSError as error:
        raise UnwritableFileError(
            f"{path} cannot be written ({error}); what was there is as it was. Check that its "
            "folder is writable and the disk is not full, or name another file."
        ) from error


def _replace_file(target: Path, content: bytes) -> None:
    remove_leftovers(target)
    with temporary_file(target) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    _sync_directory(target.parent)


@contextlib.contextmanager
def replace_directory(path: Path | str) -> Iterator[Path]:
    """Give an empty temporary directory that takes the place of ``path`` when the block succeeds.

    When the block raises, the temporary directory is removed and ``path`` is as it was; what a
    killed process left of an earlier one is removed at the beginning. An
    existing directory is replaced whole: files that the block did not write are gone afterwards,
    so the caller decides beforehand whether the directory may be replaced. On Linux the two
    directories change places in one step (``renameat2``). Elsewhere the old one is renamed away
    first; a machine that stops between the two renames leaves it beside ``path`` under a name
    that ends in ``.old``.

    Raises:
        InvalidFileError: when ``path`` is a file.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_dir():
        raise InvalidFileError(f"{path} is a file; expected a directory, or nothing, to write to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with temporary_directory(target) as temporary:
        yield temporary
        _sync_tree(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
            _swap(temporary, target)
        else:
            temporary.rename(target)
    _sync_directory(target.parent)


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; what was there is afterwards at ``new``."""
    if _exchange(new, target):
        return
    old = neighbour(target, "old")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    old.rename(new)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two directory entries in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    status: int = rename(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    return status == 0


def _sync_tree(directory: Path) -> None:
    mode = "rb" if os.name == "posix" else "rb+"  # Windows syncs only what is open for writing
    for folder, _, names in os.walk(directory):
        for name in names:
            with (Path(folder) / name).open(mode) as file:
                os.fsync(file.fileno())
        _sync_directory(Path(folder))


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
