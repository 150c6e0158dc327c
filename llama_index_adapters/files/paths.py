"""What callers name files and directories by."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from llama_index_adapters.errors import InvalidOptionError


def as_path(path: str | PathLike[str], name: str) -> Path:
    """Return a path that a caller gave.

    Args:
        path: what was given.
        name: the argument it was given as.

    Raises:
        InvalidOptionError: when it is neither text nor a path.
    """
    if not isinstance(path, (str, PathLike)):
        raise InvalidOptionError(f"{name} is {path!r}; give a path, as str or pathlib.Path.")
    return Path(path)
