"""Logs that applications keep: which nodes people liked for which query, and what they asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
)
from llama_index_adapters.files.csv_rows import CsvError, csv_rows
from llama_index_adapters.files.text import (
    is_encodable,
    lines_of,
    looks_like_a_name,
    parse_json,
    read_text,
)

logger = logging.getLogger(__name__)

RELEVANT = frozenset(
    [
        "1",
        "true",
        "yes",
        "y",
        "click",
        "clicked",
        "up",
        "thumbs_up",
        "thumbsup",
        "👍",
        "like",
        "liked",
        "helpful",
        "relevant",
        "positive",
    ]
)
NOT_RELEVANT = frozenset(
    [
        "0",
        "-1",
        "false",
        "no",
        "n",
        "skip",
        "skipped",
        "shown",
        "down",
        "thumbs_down",
        "thumbsdown",
        "👎",
        "dislike",
        "disliked",
        "unhelpful",
        "irrelevant",
        "not_relevant",
        "negative",
        "none",
        "null",
    ]
) | {""}
GRADE_COLUMN = "grade"
VERDICT_COLUMNS = ("feedback", "clicked", "thumbs_up", "relevant", "rating")
_EXPECTED = "expected a log in .jsonl, .ndjson or .csv"
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")
_SHOWN = 5
_JSON_SPACE = " \t\r\n"
_LONGEST_WORD = 30
_LISTS = (list, tuple, set, frozenset)


def read_feedback(
    path: str | PathLike[str],
    *,
    query: str = "query",
    node_id: str = "node_id",
    verdict: str | None = None,
    relevant: Collection[str] | None = None,
) -> dict[str, list[str]]:
    """Read logged feedback: which nodes were clicked or given a thumbs-up for which query.

    A node counts as relevant for a query when any row says so. Other rows say nothing: a
    passage that nobody clicked may have been shown too low. Case does not matter, "-" and " "
    count as "_", and a number is the same in any form: ``1``, ``1.0``, ``"1.0"``.

    White space around a query or a node id is taken off, in both kinds of files, and around the
    names of a CSV file's columns. A row whose query cannot be encoded, because it holds half of a
    surrogate pair (an emoji that was cut in two), is left out, with a warning in the log.

    Args:
        path: a file of JSON objects, one a line (``.jsonl``, ``.ndjson``), or a CSV file with
            a header (``.csv``).
        query: the column with the text of the query.
        node_id: the column with the id of the node.
        verdict: the column that says what the user thought of it; when left out, the first of
            feedback, clicked, thumbs_up, relevant and rating.
        relevant: the values that mean relevant; every other value then does not. When left out,
            the values are 1, true, yes, click, up, thumbs_up, like, helpful, relevant, positive
            and the like, and their opposites; any other value is refused.

    Returns:
        The node ids by the text of the query, in the order of the file.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a file that is not what it should be, a missing column, a JSON key
            that occurs twice or a value that is not known, with its line.
        InvalidOptionError: for another kind of file, or values in ``relevant`` that are none.
        InvalidDatasetError: when no row means relevant.
    """
    path = as_path(path, "path")
    if relevant is not None and not isinstance(relevant, _LISTS):
        raise InvalidOptionError(
            f"relevant is {relevant!r}; give a list of the values that mean relevant."
        )
    wanted = None if relevant is None else {_normalised(value) for value in relevant}
    found: dict[str, dict[str, None]] = {}
    rows, broken = 0, []
    for line, row in _rows(path):
        rows += 1
        column = verdict or next((name for name in VERDICT_COLUMNS if name in row), "feedback")
        text, node, value = _judged(path, line, row, (query, node_id, column))
        if not is_encodable(text):
            broken.append(line)
        elif _means_relevant(value, wanted, f"{path}, line {line}: {column}"):
            found.setdefault(text.strip(), {})[node.strip()] = None
    _warn_of_broken(path, broken)
    if not found:
        raise InvalidDatasetError(
            f"None of the {rows} rows of {path} says that a node was relevant to its query."
        )
    return {text: list(nodes) for text, nodes in found.items()}


def read_grades(
    path: str | PathLike[str],
    *,
    query: str = "query",
    node_id: str = "node_id",
    grade: str = GRADE_COLUMN,
) -> dict[str, dict[str, int]]:
    """Read graded labels: how well which nodes answer which query.

    A node that was graded more than once for a query keeps the best grade. A row with a grade
    below 1, or none, says that the node does not answer, and is passed over. White space and
    queries that cannot be encoded are treated as :func:`read_feedback` does.

    Args:
        path: a file of JSON objects, one a line (``.jsonl``, ``.ndjson``), or a CSV file with
            a header (``.csv``).
        query: the column with the text of the query.
        node_id: the column with the id of the node.
        grade: the column with the grade, a whole number.

    Returns:
        The grades by node id, by the text of the query, in the order of the file.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a file that is not what it should be, a missing column or a grade
            that is no whole number, with its line.
        InvalidOptionError: for another kind of file.
        InvalidDatasetError: when no node answers any query.
    """
    path = as_path(path, "path")
    found: dict[str, dict[str, int]] = {}
    rows, broken = 0, []
    for line, row in _rows(path):
        rows += 1
        text, node, value = _judged(path, line, row, (query, node_id, grade))
        number = _normalised(value)
        if number not in NOT_RELEVANT and not _WHOLE.fullmatch(number):
            raise InvalidFileError(
                f"{path}, line {line}: {grade} is {_shown(value)}; expected a whole number, 0 for "
                "a node that does not answer."
            )
        if not is_encodable(text):
            broken.append(line)
        elif _WHOLE.fullmatch(number) and int(number) > 0:
            graded = found.setdefault(text.strip(), {})
            graded[node.strip()] = max(int(number), graded.get(node.strip(), 0))
    _warn_of_broken(path, broken)
    if not found:
        raise InvalidDatasetError(
            f"None of the {rows} rows of {path} gives a node a grade from 1 on."
        )
    return found


def has_grades(path: Path) -> bool:
    """Return whether the first row of a log has a grade and no verdict."""
    _, row = next(_rows(path), (0, {}))
    return GRADE_COLUMN in row and not any(name in row for name in VERDICT_COLUMNS)


def read_queries(path: str | PathLike[str], *, query: str = "query") -> list[str]:
    r"""Read a log of queries: a line each in a text file, or a column in JSONL or CSV.

    A line of a text file ends with ``\n`` or ``\r\n``. White space around a query is taken off. A
    query that cannot be encoded, because it holds half of a surrogate pair (an emoji that was cut
    in two), is left out, with a warning in the log.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a missing column, or a file that is not what it should be.
        InvalidOptionError: for another kind of file.
        InvalidDatasetError: when there is no query.
    """
    path = as_path(path, "path")
    queries: dict[str, None] = {}
    broken = []
    for line, text in _query_lines(path, query):
        if not is_encodable(text):
            broken.append(line)
        elif text.strip():
            queries[text.strip()] = None
    _warn_of_broken(path, broken)
    if not queries:
        raise InvalidDatasetError(f"{path} has no queries.")
    return list(queries)


def _judged(
    path: Path, line: int, row: dict[str, Any], names: tuple[str, str, str]
) -> tuple[str, str, object]:
    """Return the query, the node id and what was thought of it, of one row."""
    for name in names:
        if name not in row:
            raise InvalidFileError(
                f"{path}, line {line} has no {name!r}{_columns(row)}; expected a query, a "
                "node id and what the user thought of it."
            )
    text, node, value = (row[name] for name in names)
    texts = isinstance(text, str) and isinstance(node, str)
    if not texts or not text.strip() or not node.strip():
        raise InvalidFileError(
            f"{path}, line {line}: the query is {kind_of(text)} and the node id "
            f"{kind_of(node)}; expected two texts that are not empty."
        )
    return text, node, value


def _query_lines(path: Path, query: str) -> Iterator[tuple[int, str]]:
    """Yield each query with the number of its line."""
    if path.suffix.lower() == ".txt":
        yield from enumerate(lines_of(read_text(path, "expected a query a line")), start=1)
        return
    for line, row in _rows(path):
        if not isinstance(row.get(query), str):
            raise InvalidFileError(f"{path}, line {line} has no text {query!r}.")
        yield line, row[query]


def _warn_of_broken(path: Path, lines: Sequence[int]) -> None:
    if lines:
        logger.warning(
            "%d queries of %s hold half of a surrogate pair and cannot be encoded; they are left "
            "out. They are in line %s%s.",
            len(lines),
            path,
            ", ".join(map(str, lines[:_SHOWN])),
            " and others" if len(lines) > _SHOWN else "",
        )


def _means_relevant(value: object, wanted: Collection[str] | None, where: str) -> bool:
    normalised = _normalised(value)
    if wanted is not None:
        return normalised in wanted
    if normalised not in RELEVANT | NOT_RELEVANT:
        raise InvalidFileError(
            f"{where} is {_shown(value)}, which is not known to mean relevant or not. Say which "
            "values mean relevant: read_feedback(path, relevant=[...])."
        )
    return normalised in RELEVANT


def _normalised(value: object) -> str:
    text = str(value).strip().lower()
    if _NUMBER.fullmatch(text):  # a table writes the whole numbers of a column with gaps as 1.0
        number = float(text)
        return str(int(number)) if number.is_integer() else repr(number)
    return text.replace("-", "_").replace(" ", "_")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row with the number of its line."""
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        yield from _jsonl_rows(path)
    elif kind == ".csv":
        yield from _csv_rows(path)
    else:
        raise InvalidOptionError(f"{path} ends in {kind or 'nothing'!r}; {_EXPECTED}.")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    expected = "expected a JSON object a line"
    for number, line in enumerate(lines_of(read_text(path, _EXPECTED)), start=1):
        if not line.strip(_JSON_SPACE):
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where, expected)
        if not isinstance(row, dict):
            raise InvalidFileError(f"{where} is not a JSON object.")
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    names: list[str] | None = None
    try:
        for line, fields in csv_rows(read_text(path, _EXPECTED)):
            if names is None:
                names = _column_names(path, fields)
                continue
            if any(field.strip() for field in fields[len(names) :]):
                raise InvalidFileError(
                    f"{path}, line {line} has {len(fields)} fields, and the first line names "
                    f"{len(names)}{_columns(names)}. Put a text with commas in it in quotes."
                )
            yield line, {**dict.fromkeys(names), **dict(zip(names, fields, strict=False))}
    except CsvError as error:
        raise InvalidFileError(
            f"{path}, line {error.line} is not CSV ({error}); expected a header and a row for each "
            "verdict or query."
        ) from error


def _column_names(path: Path, fields: Sequence[str]) -> list[str]:
    names = [field.strip() for field in fields]
    if len(set(names)) < len(names):
        raise InvalidFileError(
            f"{path} names a column twice{_columns(names)}; give every column a name of its own."
        )
    return names


# Queries, and what people wrote about an answer, are private: messages name kinds, not values.


def kind_of(value: object) -> str:
    """Return what a value is, for a message."""
    if isinstance(value, str):
        if not is_encodable(value):
            return "a text with half of a surrogate pair, which cannot be encoded,"
        return "a text" if value.strip() else "an empty text"
    if isinstance(value, Collection) and not value:
        return f"an empty {type(value).__name__}"
    return f"of type {type(value).__name__}"


def _shown(value: object) -> str:
    """Return a verdict for a message: a number, or a single short word."""
    word = isinstance(value, str) and len(value) <= _LONGEST_WORD and not set(value) & set(" \t\n")
    return repr(value) if word or isinstance(value, int | float) else kind_of(value)


def _columns(names: Collection[str]) -> str:
    """Return the names of columns for a message; a file without a header has texts there."""
    if all(map(looks_like_a_name, map(str, names))):
        return f" (it has {', '.join(map(str, names))})"
    return f" (it has {len(names)} columns; their names have to be in the first line of a CSV file)"
