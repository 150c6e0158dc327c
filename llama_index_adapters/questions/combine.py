"""Put question sets together, and draw from them."""

from __future__ import annotations

import numpy as np

from llama_index_adapters.checks import require_whole, seeded_generator
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Questions,
    as_dataset,
)


def merge_datasets(*datasets: Questions) -> EmbeddingQAFinetuneDataset:
    """Return one question set with the queries, passages and relevance of all.

    A query that is in several sets, by id and text, keeps the relevant passages of each.

    Args:
        *datasets: anything with ``queries``, ``corpus`` and ``relevant_docs``. ``mode`` is that
            of the first.

    Raises:
        InvalidOptionError: without a dataset.
        InvalidDatasetError: when an id stands for one text here and for another there.
    """
    if not datasets:
        raise InvalidOptionError("merge_datasets was given no dataset; give one or more.")
    parts = [as_dataset(dataset) for dataset in datasets]
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant_docs: dict[str, list[str]] = {}
    for part in parts:
        _add(queries, part.queries, "query")
        _add(corpus, part.corpus, "passage")
        for query_id, passages in part.relevant_docs.items():
            relevant_docs.setdefault(query_id, []).extend(passages)
    return EmbeddingQAFinetuneDataset(
        queries=queries, corpus=corpus, relevant_docs=relevant_docs, mode=parts[0].mode
    )


def sample_queries(dataset: Questions, n: int, *, seed: int = 0) -> EmbeddingQAFinetuneDataset:
    """Return a question set with ``n`` of the queries, drawn at random, and the whole corpus.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
        n: how many queries, at least 1; all of them when there are no more.
        seed: the same seed and order of queries give the same sample.

    Raises:
        InvalidOptionError: when ``n`` is not a whole number from 1 on, or ``seed`` is none.
    """
    require_whole(n, "n")
    whole = as_dataset(dataset)
    ids = list(whole.queries)
    order = seeded_generator(seed).permutation(len(ids))
    chosen = [ids[row] for row in np.sort(order[:n])]
    return EmbeddingQAFinetuneDataset(
        queries={query_id: whole.queries[query_id] for query_id in chosen},
        corpus=whole.corpus,
        relevant_docs={query_id: whole.relevant_docs[query_id] for query_id in chosen},
        mode=whole.mode,
    )


def _add(texts: dict[str, str], more: dict[str, str], noun: str) -> None:
    for name, text in more.items():
        if texts.setdefault(name, text) != text:
            raise InvalidDatasetError(
                f"The {noun} id {name!r} stands for one text in one set and for another in the "
                f"next. Give each {noun} an id of its own before merging."
            )
