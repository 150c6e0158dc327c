"""Reading the files of an adapter directory without believing them.

Adapters are passed around, so a directory may be broken or hostile. Nothing is read that is
larger than a cap, a link out of the directory, or not a plain file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidAdapterError, MissingFileError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
# LlamaIndex's name; a pickle.
PICKLED_WEIGHTS = "pytorch_model.bin"

MAX_CONFIG_BYTES = 4 * 2**20
MAX_WEIGHT_BYTES = 4 * 2**30


def adapter_directory(path: str | PathLike[str]) -> Path:
    """Return the directory of a saved adapter as a path.

    Raises:
        MissingFileError: when there is no such directory, or it holds no ``config.json``.
    """
    directory = as_path(path, "The adapter's path")
    if not directory.is_dir():
        state = "is a file" if directory.exists() else "is not there"
        raise MissingFileError(f"{path} {state}; expected the directory of a saved adapter.")
    if not has_file(directory, CONFIG):
        raise missing(directory, CONFIG)
    return directory


def has_file(directory: Path, name: str) -> bool:
    """Return whether the directory has an entry of that name, be it a broken link."""
    return os.path.lexists(directory / name)


def missing(directory: Path, name: str) -> MissingFileError:
    """Return the error for a file that is not there, naming what is."""
    names = sorted(entry.name for entry in directory.iterdir())
    held = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return MissingFileError(
        f"{directory} has no {name}; it holds {held or 'nothing'}. "
        "Expected the directory of a saved adapter."
    )


@contextlib.contextmanager
def opened(directory: Path, name: str, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file of the directory; gives the file and its size in bytes.

    Raises:
        MissingFileError: when it is not there.
        InvalidAdapterError: when it is a link out of the directory, no plain file, or larger
            than ``limit`` bytes.
    """
    path = directory / name
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidAdapterError(f"{path} is a link that leads nowhere: {error}.") from error
    if not real.is_relative_to(directory.resolve()):
        raise InvalidAdapterError(
            f"{path} is a link out of the directory; put the file itself there."
        )
    if not real.exists():
        raise missing(directory, name)
    if not real.is_file():
        raise InvalidAdapterError(f"{path} is not a plain file.")
    try:
        with real.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise InvalidAdapterError(
                    f"{path} has {size:,} bytes; no adapter needs more than {limit:,}."
                )
            yield file, size
    except OSError as error:
        raise InvalidAdapterError(f"{path} cannot be read: {error}.") from error


def read_config(directory: Path) -> dict[str, Any]:
    """Return the object that ``config.json`` holds.

    Raises:
        InvalidAdapterError: when it holds something else.
    """
    with opened(directory, CONFIG, MAX_CONFIG_BYTES) as (file, size):
        data = file.read(size)
    try:
        config = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapterError(f"{directory / CONFIG} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise InvalidAdapterError(
            f"{directory / CONFIG} holds a JSON {type(config).__name__}, expected an object."
        )
    return config


def require_finite(arrays: dict[str, NDArray[Any]], source: object) -> None:
    """Refuse arrays with NaN or infinity, and those that have it as float32.

    Raises:
        InvalidAdapterError: naming the first such array.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "fc":
            continue
        with np.errstate(over="ignore"):
            cast = array.astype(np.complex64 if array.dtype.kind == "c" else np.float32, copy=False)
        if not np.isfinite(cast).all():
            raise InvalidAdapterError(
                f"The array {name!r} of {source} holds NaN or infinity, or numbers too large for "
                "float32."
            )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
