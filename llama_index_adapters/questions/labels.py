"""Which nodes answer which query: from question sets, mappings, and logged feedback."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
)
from llama_index_adapters.files.text import parse_json, read_text
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset, as_dataset

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
VERDICT_COLUMNS = ("feedback", "clicked", "thumbs_up", "relevant", "rating")
_EXPECTED = "expected a log in .jsonl, .ndjson or .csv"
_LONGEST_NAME = 30
_LISTS = (list, tuple, set, frozenset)


@dataclass(frozen=True)
class Judgements:
    """The relevant nodes of each query.

    Attributes:
        relevant: node ids by the text of the query; at least one each.
        query_ids: an id for each query, by its text.
    """

    relevant: Mapping[str, tuple[str, ...]]
    query_ids: Mapping[str, str]

    def without(self, node_ids: Collection[str]) -> Judgements:
        """Return these without some nodes, and without the queries that only they answer."""
        kept = {
            text: tuple(node_id for node_id in ids if node_id not in node_ids)
            for text, ids in self.relevant.items()
        }
        return Judgements({text: ids for text, ids in kept.items() if ids}, self.query_ids)


def as_judgements(labels: object) -> Judgements:
    """Return labels of any accepted form as judgements; queries of the same text become one.

    Raises:
        InvalidDatasetError: for labels that cannot be used.
        InvalidFileError: for a file that is not what it should be.
        MissingFileError: when there is no such file.
    """
    if isinstance(labels, (str, PathLike)):
        path = Path(labels)
        if path.suffix.lower() == ".json":
            return as_judgements(EmbeddingQAFinetuneDataset.from_json(path))
        return as_judgements(read_feedback(path))
    if isinstance(labels, Mapping) and not {"queries", "relevant_docs"} <= set(labels):
        return _from_mapping(labels)
    questions = as_dataset(labels)
    relevant: dict[str, dict[str, None]] = {}
    query_ids: dict[str, str] = {}
    for query_id, text in questions.queries.items():
        query_ids.setdefault(text, query_id)
        relevant.setdefault(text, {}).update(dict.fromkeys(questions.relevant_docs[query_id]))
    return Judgements({text: tuple(ids) for text, ids in relevant.items()}, query_ids)


def _from_mapping(labels: Mapping[Any, Any]) -> Judgements:
    if not labels:
        raise InvalidDatasetError("The labels are empty; give at least one query with a node id.")
    for row, (text, ids) in enumerate(labels.items()):
        fits = isinstance(text, str) and text.strip() and isinstance(ids, _LISTS)
        if not fits or not ids or not all(isinstance(node_id, str) for node_id in ids):
            raise InvalidDatasetError(
                f"Entry {row} of the labels is {_kind_of(text)} with {_kind_of(ids)}; expected "
                "the text of a query and a list of at least one node id."
            )
    relevant = {text: tuple(dict.fromkeys(ids)) for text, ids in labels.items()}
    return Judgements(relevant, {text: text for text in relevant})


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
    passage that nobody clicked may have been shown too low. Case does not matter, and "-" and
    " " count as "_".

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
        InvalidFileError: for a file that is not what it should be, a missing column or a value
            that is not known, with its line.
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
    rows = 0
    for line, row in _rows(path):
        rows += 1
        column = verdict or next((name for name in VERDICT_COLUMNS if name in row), "feedback")
        for name in (query, node_id, column):
            if name not in row:
                raise InvalidFileError(
                    f"{path}, line {line} has no {name!r}{_columns(row)}; expected a query, a "
                    "node id and what the user thought of it."
                )
        text, node, value = row[query], row[node_id], row[column]
        if not isinstance(text, str) or not isinstance(node, str) or not text.strip() or not node:
            raise InvalidFileError(
                f"{path}, line {line}: the query is {_kind_of(text)} and the node id "
                f"{_kind_of(node)}; expected two texts that are not empty."
            )
        if _means_relevant(value, wanted, f"{path}, line {line}: {column}"):
            found.setdefault(text.strip(), {})[node] = None
    if not found:
        raise InvalidDatasetError(
            f"None of the {rows} rows of {path} says that a node was relevant to its query."
        )
    return {text: list(nodes) for text, nodes in found.items()}


def read_queries(path: str | PathLike[str], *, query: str = "query") -> list[str]:
    """Read a log of queries: a line each in a text file, or a column in JSONL or CSV.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a missing column, or a file that is not what it should be.
        InvalidOptionError: for another kind of file.
        InvalidDatasetError: when there is no query.
    """
    path = as_path(path, "path")
    if path.suffix.lower() == ".txt":
        texts: list[Any] = read_text(path, "expected a query a line").splitlines()
    else:
        texts = []
        for line, row in _rows(path):
            if not isinstance(row.get(query), str):
                raise InvalidFileError(f"{path}, line {line} has no text {query!r}.")
            texts.append(row[query])
    queries = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not queries:
        raise InvalidDatasetError(f"{path} has no queries.")
    return queries


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
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    return text if text == "-1" else text.replace("-", "_").replace(" ", "_")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row with the number of its line."""
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(read_text(path, _EXPECTED).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = parse_json(line, where, "expected a JSON object a line")
            if not isinstance(row, dict):
                raise InvalidFileError(f"{where} is not a JSON object.")
            yield number, row
    elif kind == ".csv":
        yield from _csv_rows(path)
    else:
        raise InvalidOptionError(f"{path} ends in {kind or 'nothing'!r}; {_EXPECTED}.")


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Strict: a quote that is never closed would otherwise swallow the rest of the file.
    lines = read_text(path, _EXPECTED).splitlines(keepends=True)
    reader = csv.DictReader(lines, strict=True)
    try:
        names = list(reader.fieldnames or ())
        if len(set(names)) < len(names):
            raise InvalidFileError(
                f"{path} names a column twice{_columns(names)}; give every column a name of its "
                "own."
            )
        for row in reader:
            yield reader.line_num, {name: row[name] for name in row if name is not None}
    except csv.Error as error:
        raise InvalidFileError(
            f"{path}, line {reader.line_num} is not CSV ({error}); expected a header and a row "
            "for each verdict or query."
        ) from error


# Queries, and what people wrote about an answer, are private: messages name kinds, not values.


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty text"
    if isinstance(value, Collection) and not value:
        return f"an empty {type(value).__name__}"
    return f"of type {type(value).__name__}"


def _shown(value: object) -> str:
    """Return a verdict for a message: a number, or a single short word."""
    word = isinstance(value, str) and len(value) <= _LONGEST_NAME and not set(value) & set(" \t\n")
    return repr(value) if word or isinstance(value, int | float) else _kind_of(value)


def _columns(names: Collection[str]) -> str:
    """Return the names of columns for a message; a file without a header has texts there."""
    if all(name.isidentifier() and len(name) <= _LONGEST_NAME for name in map(str, names)):
        return f" (it has {', '.join(map(str, names))})"
    return f" (it has {len(names)} columns; their names have to be in the first line of a CSV file)"
