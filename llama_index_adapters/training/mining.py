"""Find hard negatives: the passages nearest to each training query that are not relevant."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import PassageSearch, VectorDataset


def mine(
    queries: FloatArray,
    data: VectorDataset,
    count: int,
    unseen: NDArray[np.int64],
    answers: Relevance | None = None,
) -> NDArray[np.int64]:
    """Return the passages nearest to each query that do not answer it.

    The vector store is asked when ``data.search`` is set; otherwise every passage is ranked.

    Args:
        queries: ``(n_queries, passage_dim)`` vectors of the queries of ``data``, adapted.
        data: the training set.
        count: how many passages to find for each.
        unseen: rows of passages that must not be found.
        answers: the passages that answer each query: the relevant ones and their copies; the
            relevant ones alone when left out.

    Returns:
        ``(n_queries, count)`` rows, nearest first; -1 where there are fewer, at the end.
    """
    answers = data.relevance if answers is None else answers
    barred = np.zeros(len(data.passages), bool)
    barred[unseen] = True
    # Room for what will be taken out again; a query with more answers gets fewer.
    wanted = min(len(data.passages), count + int(np.ceil(answers.counts.mean())) + 1)
    search = data.search or exact_search(data)
    nearest = np.asarray(search(queries, wanted), np.int64)
    n_rows = len(data.passages)
    relevant = np.unique(answers.queries * n_rows + answers.passages)
    keys = np.arange(len(nearest))[:, None] * n_rows + nearest
    negative = (nearest >= 0) & ~barred[nearest] & ~np.isin(keys, relevant)
    # Stable, so what is negative stays in its order and moves to the front.
    order = np.argsort(~negative, axis=1, kind="stable")[:, :count]
    rows = np.where(negative, nearest, -1)
    return np.take_along_axis(rows, order, axis=1)


def exact_search(data: VectorDataset) -> PassageSearch:
    """Return a search that ranks every passage."""

    def search(queries: FloatArray, k: int) -> NDArray[np.int64]:
        return data.top_k(queries, k).passages

    return search


def searched_once(data: VectorDataset) -> VectorDataset:
    """Return the same data with a search that remembers its answers to the same queries.

    Trials of one search start from the same adapter, so they mine for the same queries.
    """
    search = data.search or exact_search(data)
    answers: dict[tuple[bytes, int], NDArray[np.int64]] = {}

    def remembered(queries: FloatArray, k: int) -> NDArray[np.int64]:
        key = hashlib.sha256(np.ascontiguousarray(queries).data).digest(), k
        if key not in answers:
            answers[key] = search(queries, k)
        return answers[key]

    return data.with_search(remembered)
