"""Text files that people hand in, read with an error that says what is wrong with them.

No message repeats what a file holds: it may be private.
"""

from __future__ import annotations

import json
from collections import Counter
from os import PathLike
from typing import Any

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidFileError, MissingFileError

_LONGEST_NAME = 30


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


def lines_of(text: str) -> list[str]:
    r"""Return the lines of text, without their ends.

    A line ends with ``\n`` or ``\r\n``. ``str.splitlines`` would also break at U+2028, NEL, form
    feed and others, which are part of a text.
    """
    return [line.removesuffix("\r") for line in text.split("\n")]


def parse_json(
    text: str | bytes | bytearray,
    where: str,
    expected: str,
    *,
    keys_are_ids: bool = False,
) -> Any:
    """Return what JSON text holds.

    Args:
        text: the text.
        where: the file, or the line of it, for the message.
        expected: what it should be, the end of the message.
        keys_are_ids: whether the message may repeat a key whatever it looks like; by default only
            one that looks like a name, since in a broken file a text may stand there.

    Raises:
        InvalidFileError: when it is not JSON, or an object of it has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except _RepeatedKeyError as error:
        key = repr(error.key) if keys_are_ids else shown_name(error.key)
        raise InvalidFileError(
            f"{where} has the key {key} twice in one object, and one of the values would be lost. "
            "Leave one out, or give them different names."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits among them
        raise InvalidFileError(f"{where} is not JSON ({error}); {expected}.") from error


def is_encodable(text: str) -> bool:
    """Return whether text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def looks_like_a_name(text: str) -> bool:
    """Return whether text looks like the name of a column or of a key, and not like a text."""
    return text.isidentifier() and len(text) <= _LONGEST_NAME


def shown_name(name: str) -> str:
    """Return a name for a message; in a broken file a text may stand where it should."""
    return repr(name) if looks_like_a_name(name) else f"of {len(name):,} characters"


class _RepeatedKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; the built-in reader would keep the last of two equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _RepeatedKeyError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return content
