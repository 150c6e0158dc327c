"""What texts and vectors have in common as question sets, so that each task is written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Questions,
    as_dataset,
)
from llama_index_adapters.retrieval.copies import first_copies
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

Rows = NDArray[np.int64]
# Whatever trains: texts under LlamaIndex's names, or their vectors.
AnyQuestions = Questions | VectorDataset

_Set = TypeVar("_Set", covariant=True)


class QuestionView(Protocol[_Set]):
    """Questions of any form: who asks the same, who is answered by what, and parts of them."""

    @property
    def same_queries(self) -> Rows:
        """``(n_queries,)`` a number for each query, which equal ones share."""

    @property
    def same_passages(self) -> Rows:
        """``(n_passages,)`` a number for each passage, which equal ones share."""

    @property
    def relevance(self) -> Relevance:
        """The rows of the passages that answer each query."""

    def part(self, queries: Rows, passages: Rows | None = None) -> _Set:
        """Return some queries, with some passages or all of them, in the form they came in."""


@dataclass(frozen=True)
class TextView:
    """Questions and passages that are texts."""

    whole: EmbeddingQAFinetuneDataset

    @cached_property
    def same_queries(self) -> Rows:
        """Numbers that queries of the same text share."""
        return numbered(self.whole.queries.values())

    @cached_property
    def same_passages(self) -> Rows:
        """Numbers that passages of the same text share."""
        return numbered(self.whole.corpus.values())

    @cached_property
    def relevance(self) -> Relevance:
        """The rows of the passages that answer each query."""
        return relevance_of(self.whole)

    def part(self, queries: Rows, passages: Rows | None = None) -> EmbeddingQAFinetuneDataset:
        """Return some queries, with some passages or all of them."""
        whole, ids, nodes = self.whole, list(self.whole.queries), list(self.whole.corpus)
        chosen = [ids[row] for row in queries]
        kept = nodes if passages is None else [nodes[row] for row in passages]
        return EmbeddingQAFinetuneDataset(
            queries={query_id: whole.queries[query_id] for query_id in chosen},
            corpus={node_id: whole.corpus[node_id] for node_id in kept},
            relevant_docs={query_id: whole.relevant_docs[query_id] for query_id in chosen},
            mode=whole.mode,
            grades=_of_queries(whole.grades, chosen),
        )


@dataclass(frozen=True, eq=False)
class VectorView:
    """Questions and passages that are vectors."""

    whole: VectorDataset

    @cached_property
    def same_queries(self) -> Rows:
        """The first row with an equal vector."""
        return first_copies(self.whole.queries)

    @property
    def same_passages(self) -> Rows:
        """The first row with an equal vector."""
        return self.whole.copies

    @property
    def relevance(self) -> Relevance:
        """The rows of the passages that answer each query."""
        return self.whole.relevance

    def part(self, queries: Rows, passages: Rows | None = None) -> VectorDataset:
        """Return some queries, with copies of some passages or with all of them as they are."""
        part = self.whole.select_queries(queries)
        return part if passages is None else part.select_passages(passages)


@overload
def view_of(dataset: VectorDataset) -> VectorView: ...


@overload
def view_of(dataset: Questions) -> TextView: ...


def view_of(dataset: AnyQuestions) -> TextView | VectorView:
    """Return questions of any form in the one way that splits and samples look at them.

    Raises:
        InvalidDatasetError: for what is no question set.
    """
    if isinstance(dataset, VectorDataset):
        return VectorView(dataset)
    return TextView(as_dataset(dataset))


def numbered(texts: Iterable[str]) -> Rows:
    """Give every text a number that it shares with the others of the same text."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def relevance_of(questions: EmbeddingQAFinetuneDataset) -> Relevance:
    """Return which rows of the corpus are relevant to each query, both in their order."""
    rows = {node_id: row for row, node_id in enumerate(questions.corpus)}
    relevant = [
        [rows[node_id] for node_id in questions.relevant_docs[query]] for query in questions.queries
    ]
    return Relevance.from_rows(relevant, _grade_rows(questions) if questions.grades else None)


def _grade_rows(questions: EmbeddingQAFinetuneDataset) -> list[list[int]]:
    none: Mapping[str, int] = {}
    return [
        [questions.grades.get(query, none).get(node_id, 1) for node_id in relevant]
        for query in questions.queries
        for relevant in (questions.relevant_docs[query],)
    ]


def _of_queries(grades: Mapping[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
    return {query_id: grades[query_id] for query_id in chosen if query_id in grades}
