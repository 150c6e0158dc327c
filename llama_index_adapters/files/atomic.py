"""Files and directories that are either written completely or not at all.

They are written beside their target, as temporary neighbours, and renamed.

A neighbour is locked (``flock``) from its first moment until its process is done with it, and the
system gives the lock back however the process ends. A process number would say nothing in another
container; a lock does. It reaches as far as one machine: a neighbour that another machine made, on
a shared disk, counts as left behind only after a day.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from llama_index_adapters.errors import InvalidFileError, UnwritableFileError

if sys.platform != "win32":
    import fcntl

FOREIGN_SECONDS = 24 * 60 * 60
"""Seconds without a change after which a neighbour of another machine counts as left behind."""

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


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Give a new empty file beside ``target``, locked; it is gone afterwards unless renamed."""
    with _claimed(target, directory=False) as path:
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_directory(target: Path) -> Iterator[Path]:
    """Give a new empty directory beside ``target``, locked; what has its name then is removed."""
    with _claimed(target, directory=True) as path:
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def neighbour(target: Path, ending: str) -> Path:
    """Return a new name beside ``target``: ``.name.machine.random.ending``."""
    return target.with_name(f".{target.name}.{_machine()}.{secrets.token_hex(4)}.{ending}")


def remove_leftovers(target: Path) -> None:
    """Remove the temporary neighbours of ``target`` whose processes are gone.

    Those of other users and those that cannot be locked stay, and so does everything on Windows,
    where nothing is locked.
    """
    if sys.platform == "win32":
        return
    name = _temporary_name(target)
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            match = name.fullmatch(entry.name)
            if match:
                _remove(Path(entry.path), here=match[1] == _machine())


def is_abandoned(target: Path, name: str) -> bool:
    """Return whether the process that made a neighbour of ``target`` is known to have ended.

    That is known on the machine where it was made, unless the disk knows no locks.
    """
    match = _temporary_name(target).fullmatch(name)
    if sys.platform == "win32" or match is None or match[1] != _machine():
        return False
    try:
        descriptor = os.open(target.with_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _temporary_name(target: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(target.name)}\.([0-9a-f]{{8}})\.[0-9a-f]{{8}}\.tmp")


@contextlib.contextmanager
def _claimed(target: Path, *, directory: bool) -> Iterator[Path]:
    while True:
        path = neighbour(target, "tmp")
        if directory:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        try:
            descriptor = None if sys.platform == "win32" else os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # taken for left behind before it was locked
        try:
            if descriptor is None or _is_ours(path, descriptor):
                yield path
                return
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _is_ours(path: Path, descriptor: int) -> bool:
    """Lock a neighbour; return whether it is still there."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # somebody takes it for left behind and is removing it
    except OSError:
        return True  # nothing can be locked here, so nobody will remove it
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _remove(path: Path, *, here: bool) -> None:
    if sys.platform == "win32":
        return
    try:
        # Never through a link, and without waiting for whoever writes into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        recent = time.time() - status.st_mtime < FOREIGN_SECONDS
        if status.st_uid != os.geteuid() or (recent and not here):
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(status.st_mode):
            path.unlink()
    except OSError:  # in use, or on a disk that knows no locks: it stays
        return
    finally:
        os.close(descriptor)


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
