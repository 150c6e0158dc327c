"""Files and directories that are either written completely or not at all.

They are written beside their target, as temporary neighbours, and renamed.

A directory cannot always be renamed: not a mount point, not in a folder that is somebody else's,
not without moving the ground from under a process whose current directory it is. Then the files
in it are replaced one by one, from a whole set of them in a directory inside, which is there until
the last is in place. A reader that finds files that do not fit together looks there, see
:func:`pending_directories`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from llama_index_adapters.errors import InvalidFileError, UnwritableFileError
from llama_index_adapters.files.temporary import (
    directories_for,
    is_temporary,
    locked,
    neighbour,
    remove_leftovers,
    temporary_directory,
    temporary_file,
)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# The files of a directory whose own files are being replaced lie in ``.new.….tmp`` inside it.
_PENDING = "new"
# Those that are looked into: there is one, but for what killed processes have left.
_MOST_PENDING = 4


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file so that a reader sees the old content or the new, never a part.

    Missing parent directories are created. The permissions of an existing file are kept, and
    a symbolic link stays one: the file it points to is replaced. What a killed process left of
    an earlier write is removed first. A file that is mounted by itself cannot be replaced; it is
    written over, and only there could a reader see a part.

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
        _write(temporary, content)
        if target.exists():
            shutil.copymode(target, temporary)
        try:
            temporary.replace(target)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV) or not target.is_file():
                raise
            _write(target, content)
    _sync_directory(target.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replace_directory(path: Path | str) -> Iterator[Path]:
    """Give an empty temporary directory that takes the place of ``path`` when the block succeeds.

    When the block raises, the temporary directory is removed and ``path`` is as it was; what a
    killed process left of an earlier one is removed. An existing directory is replaced whole:
    files that the block did not write are gone afterwards, so the caller decides beforehand
    whether the directory may be replaced.

    On Linux the two directories change places in one step (``renameat2``). On other systems the
    old one is renamed away first; a machine that stops between the two renames leaves it beside
    ``path`` under a name that ends in ``.old``. Where ``path`` cannot be renamed, and where it is
    the current directory, it stays, and the files in it are replaced one after the other, in the
    order of their names; directories in it stay too, and the block may write files only.

    Raises:
        InvalidFileError: when ``path`` is a file.
        OSError: when nothing can be written, neither beside ``path`` nor in it.
    """
    target = Path(path).resolve()
    _require_no_file(target, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with _directory_for(target) as temporary:
        yield temporary
        _sync_tree(temporary)
        if temporary.parent == target:
            _replace_inside(temporary, target)
            return
        if not target.exists():
            temporary.rename(target)
        elif not _try_swap(temporary, target):
            with temporary_directory(target / _PENDING) as inside:
                shutil.copytree(temporary, inside, dirs_exist_ok=True)
                _sync_tree(inside)
                _replace_inside(inside, target)
            return
    _sync_directory(target.parent)


def require_writable_directory(path: Path | str) -> None:
    """Refuse what :func:`replace_directory` could not write, before any work is done for it.

    A temporary directory is made where one will be needed, and removed.

    Raises:
        InvalidFileError: when ``path``, or a folder on the way to it, is a file.
        UnwritableFileError: when nothing can be written there.
    """
    with _explained(path):
        target = Path(path).resolve()
        _require_no_file(target, path)
        if not target.is_dir():
            _require_place(target, path)
            return
        try:
            _try_to_write(target / _PENDING)
        except OSError:
            # A read-only directory can still be renamed, unless something is mounted there.
            if _stays(target):
                raise
            _try_to_write(target)


def require_writable_file(path: Path | str) -> None:
    """Refuse what :func:`write_text` could not write, before any work is done for it.

    Raises:
        InvalidFileError: when ``path`` is a directory, or a folder on the way to it a file.
        UnwritableFileError: when nothing can be written there.
    """
    with _explained(path):
        target = Path(path).resolve()
        if target.is_dir():
            raise InvalidFileError(f"{path} is a folder; expected the name of a file to write.")
        _require_place(target, path)


def pending_directories(directory: Path) -> list[Path]:
    """Return the directories inside whose files were to replace those of ``directory``.

    Each holds a whole set of them while :func:`replace_directory` replaces them one by one, and
    after it was killed at that; the newest is first. Links are left out.
    """
    return directories_for(directory / _PENDING)[:_MOST_PENDING]


def _require_no_file(target: Path, path: Path | str) -> None:
    if target.exists() and not target.is_dir():
        raise InvalidFileError(f"{path} is a file; expected a directory, or nothing, to write to.")


def _require_place(target: Path, path: Path | str) -> None:
    """Refuse a target whose folder, or the nearest that exists, is none or takes nothing."""
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InvalidFileError(f"{folder} is a file, so {path} cannot be written.")
    _try_to_write(folder / target.name)


def _try_to_write(place: Path) -> None:
    with temporary_directory(place):
        pass


@contextlib.contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    """Turn the system's refusals into ours."""
    try:
        yield
    except UnwritableFileError:
        raise
    except OSError as error:
        raise UnwritableFileError(
            f"{path} cannot be written ({error}). Name a place that is yours to write to."
        ) from error


def _stays(target: Path) -> bool:
    """Return whether a directory is known to be none that can be renamed, or should not be."""
    with contextlib.suppress(OSError):
        return os.path.ismount(target) or target.samefile(os.curdir)
    return False


@contextlib.contextmanager
def _directory_for(target: Path) -> Iterator[Path]:
    """Give a temporary directory beside the target, or inside it where that has to be."""
    with contextlib.ExitStack() as stack:
        inside = target.is_dir() and _stays(target)
        if not inside:
            try:
                temporary = stack.enter_context(temporary_directory(target))
            except OSError:
                inside = target.is_dir()
                if not inside:
                    raise
        if inside:
            temporary = stack.enter_context(temporary_directory(target / _PENDING))
        yield temporary


def _replace_inside(new: Path, target: Path) -> None:
    """Put the files of ``new``, which stays as it is, into the place of those of ``target``."""
    names = sorted(entry.name for entry in new.iterdir())
    with locked(target), contextlib.ExitStack() as stack:
        written = [stack.enter_context(temporary_file(target / name)) for name in names]
        # All are on the disk before the first is renamed: what can fail has not failed then.
        for name, temporary in zip(names, written, strict=True):
            shutil.copyfile(new / name, temporary)
            _sync_file(temporary)
        for name, temporary in zip(names, written, strict=True):
            temporary.replace(target / name)
        _sync_directory(target)
        for name in (*names, _PENDING):
            remove_leftovers(target / name)
        for entry in list(target.iterdir()):
            ours = entry.name in names or is_temporary(entry.name)
            if not ours and (entry.is_symlink() or not entry.is_dir()):
                # Nobody is told that nothing was written, because of a file that cannot go.
                with contextlib.suppress(OSError):
                    entry.unlink()


def _try_swap(new: Path, target: Path) -> bool:
    """Swap two directories; False where the system refuses, and everything is as it was."""
    # A directory that is mounted from its own disk, one of a container image's layer, one of
    # somebody else in a folder like /tmp: none of them is told apart from others beforehand.
    try:
        shutil.copymode(target, new)
        _swap(new, target)
    except OSError:
        return False
    return True


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
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync_file(Path(folder) / name)
        _sync_directory(Path(folder))


def _sync_file(path: Path) -> None:
    mode = "rb" if os.name == "posix" else "rb+"  # Windows syncs only what is open for writing
    with path.open(mode) as file:
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
