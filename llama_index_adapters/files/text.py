"""Text files that people hand in, read with an error that says what is wrong with them.

No message repeats what a file holds: it may be private.
"""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidFileError, MissingFileError


def read_text(path: str | PathLike[str], expected: str) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        path: the file.
        expected: what it should be, the end of every message: "expected feedback in ...".

    Raises:
        InvalidOptionError: when ``path`` is none.
        MissingFileError: when there is no such file.
        InvalidFileError: for a directory, and a file that cannot be read or is not UTF-8.
    """
    file = as_path(path, "path")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file {file}; {expected}.") from error
    except UnicodeDecodeError as error:
        raise InvalidFileError(f"{file} is not UTF-8 text ({error}); {expected}.") from error
    except OSError as error:
        found = "is a directory" if file.is_dir() else f"cannot be read ({error})"
        raise InvalidFileError(f"{file} {found}; {expected}.") from error


def parse_json(text: str, where: str, expected: str) -> Any:
    """Return what JSON text holds.

    Args:
        text: the text.
        where: the file, or the line of it, for the message.
        expected: what it should be, the end of the message.

    Raises:
        InvalidFileError: when it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits among them
        raise InvalidFileError(f"{where} is not JSON ({error}); {expected}.") from error
