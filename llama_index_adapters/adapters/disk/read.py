"""A directory on disk to what it holds."""

from __future__ import annotations

from dataclasses import dataclass
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
from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidAdapterError, MissingFileError


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
    while True:
        began = _directory_state(path)
        try:
            return _read_once(path)
        except (MissingFileError, _TornReadError):
            if _directory_state(path) == began:
                raise


def _directory_state(path: str | PathLike[str]) -> tuple[int, int] | None:
    """Return what changes when a directory is replaced; None when nothing is there."""
    try:
        status = as_path(path, "The adapter's path").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


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
