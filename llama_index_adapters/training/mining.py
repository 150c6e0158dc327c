"""Find hard negatives: the passages nearest to each training query that are not relevant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.ranking import top_k
from llama_index_adapters.transforms import FloatArray
from llama_index_adapters.vectors.vector_dataset import VectorDataset


def mine(
    queries: FloatArray, data: VectorDataset, count: int, unseen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the passages nearest to each query, without its relevant ones.

    The vector store is asked when ``data.search`` is set; otherwise every passage is ranked.

    Args:
        queries: ``(n_queries, passage_dim)`` vectors of the queries of ``data``, adapted.
        data: the training set.
        count: how many passages to find for each.
        unseen: rows of passages that must not be found.

    Returns:
        ``(n_queries, count)`` rows, nearest first; -1 where there are fewer, at the end.
    """
    barred = np.zeros(len(data.passages), bool)
    barred[unseen] = True
    # Room for what will be taken out again; a query with more relevant passages gets fewer.
    wanted = min(len(data.passages), count + int(np.ceil(data.relevance.counts.mean())) + 1)
    if data.search is None:
        found = top_k(queries, data.passages, wanted, similarity=data.similarity).passages
    else:
        found = np.asarray(data.search(queries, wanted), np.int64)
    n_rows = len(data.passages)
    relevant = np.unique(data.relevance.queries * n_rows + data.relevance.passages)
    keys = np.arange(len(found))[:, None] * n_rows + found
    kept = (found >= 0) & ~barred[found] & ~np.isin(keys, relevant)
    # Stable, so what is kept stays in its order and moves to the front.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    rows = np.where(kept, found, -1)
    return np.take_along_axis(rows, order, axis=1)
