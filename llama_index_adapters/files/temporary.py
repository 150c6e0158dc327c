"""Temporary neighbours: where something is written before it takes the place of its target.

A neighbour is locked (``flock``) from its first moment until its process is done with it, and the
system gives the lock back however the process ends. A process number would say nothing in another
container; a lock does. It reaches as far as one machine: a neighbour that another machine made, on
a shared disk, counts as left behind only after a day.
"""

from __future__ import annotations

import contextlib
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

if sys.platform != "win32":
    import fcntl

FOREIGN_SECONDS = 24 * 60 * 60
"""Seconds without a change after which a neighbour of another machine counts as left behind."""

# The name of a target's neighbour is ``.name.machine.random.tmp``.
_ENDING = r"\.([0-9a-f]{8})\.[0-9a-f]{8}\.tmp"


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
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            machine = _made_by(entry.name, target.name)
            if machine is not None:
                _remove(Path(entry.path), here=machine == _machine())


def directories_for(target: Path) -> list[Path]:
    """Return the temporary directories beside a target, the newest first; links are left out."""
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        found = [
            (entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path))
            for entry in entries
            if _made_by(entry.name, target.name) and entry.is_dir(follow_symlinks=False)
        ]
        return [path for _, path in sorted(found, reverse=True)]
    return []


def is_temporary(name: str) -> bool:
    """Return whether a file or directory of this name is a temporary neighbour of another."""
    return re.fullmatch(rf"\..+{_ENDING}", name, re.DOTALL) is not None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time into the block, where a directory can be locked."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _made_by(name: str, target: str) -> str | None:
    """Return the machine that made a neighbour of a target; None for any other name."""
    match = re.fullmatch(rf"\.{re.escape(target)}{_ENDING}", name)
    return match[1] if match else None


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
