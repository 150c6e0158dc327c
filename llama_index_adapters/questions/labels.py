"""Which nodes answer which query: from question sets, mappings, and logged feedback."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from llama_index_adapters.errors import InvalidDatasetError
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.questions.logs import kind_of, read_feedback
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset, as_dataset


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
        fits = isinstance(text, str) and text.strip() and is_encodable(text)
        fits = fits and isinstance(ids, (list, tuple, set, frozenset))
        if not fits or not ids or not all(isinstance(node_id, str) for node_id in ids):
            raise InvalidDatasetError(
                f"Entry {row} of the labels is {kind_of(text)} with {kind_of(ids)}; expected "
                "the text of a query and a list of at least one node id."
            )
    relevant = {text: tuple(dict.fromkeys(ids)) for text, ids in labels.items()}
    return Judgements(relevant, {text: text for text in relevant})
