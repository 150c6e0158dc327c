"""A directory on disk to what it holds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from llama_index_adapters.adapters.disk.config import (
    AdapterConfig,
    adapter_fingerprint,
    checked_config,
    old_config,
)
from llama_index_adapters.adapters.disk.files import (
    CONFIG,
    OLD_WEIGHTS,
    WEIGHTS,
    adapter_directory,
    has_file,
    missing,
    read_config,
    read_safetensors,
    require_finite,
)
from llama_index_adapters.adapters.disk.llamaindex import is_old_config, read_old_weights
from llama_index_adapters.adapters.families import Arrays
from llama_index_adapters.errors import InvalidAdapterError, MissingFileError
from llama_index_adapters.files.atomic import pending_directories
from llama_index_adapters.files.text import as_path


@dataclass(frozen=True)
class StoredAdapter:
    """A directory that was read and checked, before anything is built from it."""

    path: Path
    config: AdapterConfig
    arrays: Arrays
    written_by_llamaindex: bool


def read_adapter(path: str | PathLike[str]) -> StoredAdapter:
    """Read a saved adapter, or one that LlamaIndex's engine wrote.

    Raises:
        MissingFileError: when something is not there.
        InvalidAdapterError: when it cannot be used, saying why.
    """
    # Somebody may replace the directory between its two files. Then it is read again: what went
    # wrong is an error only when the directory is still the one that the read began with.
    directory = as_path(path, "The adapter's path")
    while True:
        began = _directory_state(directory)
        try:
            return _read_once(path)
        except (MissingFileError, _TornReadError):
            # Where files are replaced one by one, a whole set of them lies inside.
            for pending in pending_directories(directory):
                with contextlib.suppress(MissingFileError, InvalidAdapterError):
                    return replace(_read_once(pending), path=directory)
            if _directory_state(directory) == began:
                raise


def _directory_state(directory: Path) -> list[tuple[int, int] | None]:
    """Return what changes when a directory, or a file in it, is replaced."""
    state: list[tuple[int, int] | None] = []
    for path in (directory, directory / CONFIG, directory / WEIGHTS):
        try:
            status = path.stat()
        except OSError:
            state.append(None)
        else:
            state.append((status.st_ino, status.st_mtime_ns))
    return state


class _TornReadError(InvalidAdapterError):
    """``config.json`` and ``model.safetensors`` are not of the same adapter."""


def _read_once(path: str | PathLike[str]) -> StoredAdapter:
    directory = adapter_directory(path)
    written = read_config(directory)
    old = is_old_config(written)
    config = old_config(written) if old else checked_config(written, directory)
    if has_file(directory, WEIGHTS):
        arrays = read_safetensors(directory)
    elif old and has_file(directory, OLD_WEIGHTS):
        arrays = read_old_weights(directory)
    else:
        raise missing(directory, WEIGHTS)
    require_finite(arrays, directory)
    fingerprint = adapter_fingerprint(config.kind, config.arguments, arrays)
    if old:
        config = config.model_copy(update={"fingerprint": fingerprint})
    elif fingerprint != config.fingerprint:
        raise _TornReadError(
            f"{directory / CONFIG} and {WEIGHTS} do not belong together: the fingerprint in the "
            "config is of other weights. Save the adapter again, or copy both files."
        )
    return StoredAdapter(directory, config, arrays, old)
