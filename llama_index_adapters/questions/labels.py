"""Which nodes answer which query: from question sets, mappings, and logged feedback."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from os import PathLike
from typing import Any

import numpy as np

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidDatasetError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.questions.logs import has_grades, kind_of, read_feedback, read_grades
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset, as_dataset
from llama_index_adapters.questions.split import (
    checked_fractions,
    passages_divided,
    queries_divided,
)
from llama_index_adapters.questions.views import Rows
from llama_index_adapters.retrieval.relevance import Relevance


@dataclass(frozen=True)
class Judgements:
    """The relevant nodes of each query.

    Attributes:
        relevant: node ids by the text of the query, at least one each, with how well they answer.
        query_ids: an id for each query, by its text.
    """

    relevant: Mapping[str, Mapping[str, int]]
    query_ids: Mapping[str, str]

    def without(self, node_ids: Collection[str]) -> Judgements:
        """Return these without some nodes, and without the queries that only they answer."""
        kept = {
            text: {node_id: grade for node_id, grade in graded.items() if node_id not in node_ids}
            for text, graded in self.relevant.items()
        }
        return Judgements({text: graded for text, graded in kept.items() if graded}, self.query_ids)


def as_judgements(labels: object) -> Judgements:
    """Return labels of any accepted form as judgements; queries of the same text become one.

    Raises:
        InvalidDatasetError: for labels that cannot be used.
        InvalidFileError: for a file that is not what it should be.
        MissingFileError: when there is no such file.
    """
    if isinstance(labels, (str, PathLike)):
        path = as_path(labels, "labels")
        if path.suffix.lower() == ".json":
            return as_judgements(EmbeddingQAFinetuneDataset.from_json(path))
        return as_judgements(read_grades(path) if has_grades(path) else read_feedback(path))
    if isinstance(labels, Mapping) and not {"queries", "relevant_docs"} <= set(labels):
        return _from_mapping(labels)
    questions = as_dataset(labels)
    relevant: dict[str, dict[str, int]] = {}
    query_ids: dict[str, str] = {}
    for query_id, text in questions.queries.items():
        query_ids.setdefault(text, query_id)
        graded, grades = relevant.setdefault(text, {}), questions.grades.get(query_id, {})
        for node_id in questions.relevant_docs[query_id]:
            graded[node_id] = max(graded.get(node_id, 1), grades.get(node_id, 1))
    return Judgements(relevant, query_ids)


def _from_mapping(labels: Mapping[Any, Any]) -> Judgements:
    if not labels:
        raise InvalidDatasetError("The labels are empty; give at least one query with a node id.")
    for row, (text, ids) in enumerate(labels.items()):
        fits = isinstance(text, str) and text.strip() and is_encodable(text)
        fits = fits and isinstance(ids, (list, tuple, set, frozenset, Mapping))
        if not fits or not ids or not all(isinstance(node_id, str) for node_id in ids):
            raise InvalidDatasetError(
                f"Entry {row} of the labels is {kind_of(text)} with {kind_of(ids)}; expected "
                "the text of a query and a list of at least one node id, or {node id: grade}."
            )
        grades = ids.values() if isinstance(ids, Mapping) else ()
        if not all(type(grade) is int and grade > 0 for grade in grades):
            raise InvalidDatasetError(
                f"Entry {row} of the labels has a grade that is no whole number from 1 on; leave "
                "nodes that do not answer out."
            )
    relevant = {
        text: dict(ids) if isinstance(ids, Mapping) else dict.fromkeys(ids, 1)
        for text, ids in labels.items()
    }
    return Judgements(relevant, {text: text for text in relevant})


def split_judgements(
    judgements: Judgements, fractions: Sequence[float], *, by_passage: bool, seed: int = 0
) -> tuple[Judgements, ...]:
    """Divide labels as :func:`split_by_query` or :func:`split_by_passage` divide a question set.

    Nodes are told apart by their ids, since there are no texts.

    Raises:
        InvalidOptionError: for fractions that are none, or a seed that is none.
        InvalidDatasetError: when there is too little to divide.
    """
    divided = passages_divided if by_passage else queries_divided
    return divided(_View(judgements), checked_fractions(fractions), seed=seed)


def write_labels(judgements: Judgements, path: str | PathLike[str]) -> None:
    """Write labels as a CSV file with the columns query, node_id and grade.

    Raises:
        InvalidFileError: when ``path`` is a directory.
    """
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("query", "node_id", "grade"))
    for query, graded in judgements.relevant.items():
        table.writerows((query, node_id, grade) for node_id, grade in graded.items())
    write_text(as_path(path, "path"), text.getvalue())


@dataclass(frozen=True)
class _View:
    """Labels as splits look at questions: every query and every node is there once."""

    whole: Judgements

    @cached_property
    def _nodes(self) -> Mapping[str, int]:
        names = dict.fromkeys(name for graded in self.whole.relevant.values() for name in graded)
        return {name: row for row, name in enumerate(names)}

    @property
    def same_queries(self) -> Rows:
        return np.arange(len(self.whole.relevant))

    @property
    def same_passages(self) -> Rows:
        return np.arange(len(self._nodes))

    @cached_property
    def relevance(self) -> Relevance:
        return Relevance.from_rows(
            [[self._nodes[name] for name in graded] for graded in self.whole.relevant.values()]
        )

    def part(self, queries: Rows, passages: Rows | None = None) -> Judgements:
        texts = list(self.whole.relevant)
        chosen = [texts[row] for row in queries]
        return Judgements(
            {text: self.whole.relevant[text] for text in chosen}, self.whole.query_ids
        )
