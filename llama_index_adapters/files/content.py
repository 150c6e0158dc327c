"""What files hold, as a hash: the same wherever they lie."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` expanded, as it is where nobody has that home directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(path: Path) -> str:
    """Return a sha256 over a file, or over the names and contents of a folder's files.

    Hidden files and Markdown do not count.
    """
    if path.is_file():
        return file_sha256(path)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() != ".md"
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    stats = [(path / name).stat() for name in names]
    return _folder_sha256(
        path.resolve(),
        tuple((name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)),
    )


# Weights may be gigabytes, and the identity is asked for several times in a run.
@lru_cache(maxsize=32)
def _folder_sha256(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in files:
        digest.update(json.dumps([name, file_sha256(folder / name)]).encode())
    return digest.hexdigest()
