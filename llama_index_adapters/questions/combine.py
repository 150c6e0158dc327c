"""Put question sets together, and draw from them."""

from __future__ import annotations

from typing import overload

import numpy as np

from llama_index_adapters.checks import require_whole, seeded_generator
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Grades,
    Questions,
    add_grades,
    as_dataset,
)
from llama_index_adapters.questions.views import AnyQuestions, view_of
from llama_index_adapters.retrieval.merging import merge_vectors
from llama_index_adapters.retrieval.vector_dataset import VectorDataset


@overload
def merge_datasets(*datasets: VectorDataset) -> VectorDataset: ...


@overload
def merge_datasets(*datasets: Questions) -> EmbeddingQAFinetuneDataset: ...


def merge_datasets(*datasets: AnyQuestions) -> EmbeddingQAFinetuneDataset | VectorDataset:
    """Return one question set with the queries, passages and relevance of all.

    A query that is in several sets, by id and text, keeps the relevant passages of each; of two
    grades for one passage the better one counts. Vectors are told apart by their ids likewise: an
    id has to stand for the same vector everywhere, up to rounding.

    Args:
        *datasets: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors only.
            ``mode`` is that of the first. Vectors of one index stay where they are; where no set
            has the passages of all, they are copied, and the ``search`` is left out.

    Raises:
        InvalidOptionError: without a dataset, or for texts beside vectors.
        InvalidDatasetError: when an id stands for one text here and for another there.
        InvalidVectorsError: for vectors of different models, dimensions or similarities.
    """
    if not datasets:
        raise InvalidOptionError("merge_datasets was given no dataset; give one or more.")
    vectors = [dataset for dataset in datasets if isinstance(dataset, VectorDataset)]
    if len(vectors) == len(datasets):
        return merge_vectors(vectors)
    if vectors:
        raise InvalidOptionError(
            f"merge_datasets was given {len(vectors)} sets of vectors and "
            f"{len(datasets) - len(vectors)} of texts. Make vectors of the texts first: "
            "IndexCorpus.dataset(texts)."
        )
    parts = [as_dataset(dataset) for dataset in datasets]
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant_docs: dict[str, list[str]] = {}
    grades: Grades = {}
    for part in parts:
        _add(queries, part.queries, "query")
        _add(corpus, part.corpus, "passage")
        for query_id, passages in part.relevant_docs.items():
            relevant_docs.setdefault(query_id, []).extend(passages)
        add_grades(grades, part.grades)
    return EmbeddingQAFinetuneDataset(
        queries=queries,
        corpus=corpus,
        relevant_docs=relevant_docs,
        mode=parts[0].mode,
        grades=grades,
    )


@overload
def sample_queries(dataset: VectorDataset, n: int, *, seed: int = ...) -> VectorDataset: ...


@overload
def sample_queries(
    dataset: Questions, n: int, *, seed: int = ...
) -> EmbeddingQAFinetuneDataset: ...


def sample_queries(
    dataset: AnyQuestions, n: int, *, seed: int = 0
) -> EmbeddingQAFinetuneDataset | VectorDataset:
    """Return a question set with ``n`` of the queries, drawn at random, and the whole corpus.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors.
        n: how many queries, at least 1; all of them when there are no more.
        seed: the same seed and order of queries give the same sample.

    Raises:
        InvalidOptionError: when ``n`` is not a whole number from 1 on, or ``seed`` is none.
    """
    require_whole(n, "n")
    view = view_of(dataset)
    order = seeded_generator(seed).permutation(len(view.relevance))
    return view.part(np.sort(order[:n]))


def _add(texts: dict[str, str], more: dict[str, str], noun: str) -> None:
    for name, text in more.items():
        if texts.setdefault(name, text) != text:
            raise InvalidDatasetError(
                f"The {noun} id {name!r} stands for one text in one set and for another in the "
                f"next. Give each {noun} an id of its own before merging."
            )
