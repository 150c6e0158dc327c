"""Where the files of a question set are: in a folder the user names, or fetched over HTTP."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from benchmarks.data import DATA_VARIABLE
from llama_index_adapters.errors import InvalidFileError, MissingFileError
from llama_index_adapters.files.cache import cache_directory


@dataclass(frozen=True)
class Source:
    """A file on the web.

    Attributes:
        url: where it is.
        sha256: of its bytes.
    """

    url: str
    sha256: str


# One commit of the public repository, so that the bytes behind a URL never change.
_TENK = (
    "https://raw.githubusercontent.com/run-llama/finetune-embedding/"
    "4a82601a1dbbde8df100098c67309315427aea59/data/"
)
SOURCES: Mapping[str, Mapping[str, Source]] = {
    "tenk": {
        "tenk.train.json": Source(
            _TENK + "train_dataset.json",
            "a2627276ff9c70c9910be40ce0f6c0321e275d3a0b80097c486e0b848f5fcb66",
        ),
        "tenk.test.json": Source(
            _TENK + "val_dataset.json",
            "670cd8a9fbca54b7f236b8bb1cae2a4362535b16cdd63ff8e878b76527f5b1f9",
        ),
    },
}
"""What can be fetched: for each set, its files by name."""


def data_folder(name: str, *, cache: Path | None = None) -> Path | None:
    """Return the folder with the files of a set, for :func:`benchmarks.data.load_texts`.

    The folder named by the variable ``LLAMA_INDEX_ADAPTERS_DATA`` comes first. Without one, the
    files are fetched once and kept in the user's cache directory.

    Args:
        name: the set.
        cache: where fetched files are kept instead.

    Returns:
        The folder; None when none is named and the set cannot be fetched.

    Raises:
        MissingFileError: when a file cannot be fetched.
        InvalidFileError: when a fetched file is not the expected one.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named)
    if name not in SOURCES:
        return None
    folder = cache_directory() / "benchmarks" if cache is None else cache
    for file, source in SOURCES[name].items():
        fetch(source, folder / file)
    return folder


def fetch(source: Source, path: Path) -> Path:
    """Fetch a file over HTTP, unless it is there, and check its sha256 either way.

    Args:
        source: where it is and what it holds.
        path: where to keep it; nothing is kept when the bytes are others.

    Raises:
        MissingFileError: when the server does not give it, with what to do instead.
        InvalidFileError: when what it gives has another sha256.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(source.url, f"sha256:{source.sha256}", path.name, path.parent)
    except requests.RequestException as error:
        raise MissingFileError(
            f"{path.name} cannot be fetched from {source.url} ({error}). Download it on another "
            f"machine and name its folder in the variable {DATA_VARIABLE}."
        ) from error
    except ValueError as error:
        raise InvalidFileError(
            f"What {source.url} gives is not {path.name}: its sha256 is not {source.sha256}. "
            f"Get the right file and name its folder in the variable {DATA_VARIABLE}."
        ) from error
    return path
