"""Where this package keeps what must not be paid for twice."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from llama_index_adapters.errors import UnwritableFileError


def cache_directory() -> Path:
    """Return the user's cache directory of this package (it may not exist yet).

    Raises:
        UnwritableFileError: when the user has no home directory.
    """
    try:
        folder = platformdirs.user_cache_dir("llama-index-adapters", appauthor=False)
    except RuntimeError:
        folder = "~"
    if folder.startswith("~"):  # it would become a directory of that name in the current one
        raise UnwritableFileError(
            "There is no home directory to hold the cache directory. Set HOME or XDG_CACHE_HOME, "
            "or name a file: store= for vectors, output_path= for generated questions."
        )
    return Path(folder)
