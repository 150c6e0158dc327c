"""Choose what a memory adapter remembers of a training set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from llama_index_adapters.adapters.learned.memory import MemoryAdapter
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.closed_form import inverse_power, mean_passages

# Bounds what a query costs: one product with this many keys.
MOST_ENTRIES = 8192
# The keys' map starts as half a whitening of the queries: directions that all queries share
# say little about which of them are alike.
_KEY_POWER = 0.5


def memory_of(
    data: VectorDataset,
    weight: NDArray[np.float32],
    *,
    most_entries: int = MOST_ENTRIES,
    seed: int = 0,
) -> MemoryAdapter:
    """Build a memory adapter that remembers the queries of a training set.

    Queries about the same passages are merged by k-means until the entries fit; passages with
    many queries keep more of them.

    Args:
        data: the training set.
        weight: ``(passage_dim, query_dim)`` the linear part to start from.
        most_entries: how many entries there may be.
        seed: seed of the merging.
    """
    units = unit_rows(data.queries)
    entry_of_query = _entries(data, units, most_entries, seed)
    remembered = np.flatnonzero(entry_of_query >= 0)
    entries = int(entry_of_query.max()) + 1
    counts = np.bincount(entry_of_query[remembered], minlength=entries)[:, None]
    targets = mean_passages(data)
    keys = np.zeros((entries, units.shape[1]), np.float32)
    values = np.zeros((entries, targets.shape[1]), np.float32)
    np.add.at(keys, entry_of_query[remembered], units[remembered])
    np.add.at(values, entry_of_query[remembered], unit_rows(targets)[remembered])
    adapter = MemoryAdapter(units.shape[1], targets.shape[1], entries)
    adapter.remember((keys / counts).astype(np.float32), unit_rows(values), entry_of_query)
    key_map = inverse_power(units, _KEY_POWER)
    adapter.load_arrays(
        {
            **adapter.arrays(),
            "linear.weight": weight,
            "key_map.weight": (key_map / np.mean(np.diag(key_map))).astype(np.float32),
        }
    )
    return adapter


def _entries(
    data: VectorDataset, units: NDArray[np.float32], most: int, seed: int
) -> NDArray[np.int64]:
    """Return the entry of every query ``(n_queries,)``, -1 for one that is not remembered."""
    n_queries = len(units)
    if n_queries <= most:
        return np.arange(n_queries, dtype=np.int64)
    groups: dict[bytes, list[int]] = {}
    for query, passages in enumerate(data.relevance):
        groups.setdefault(np.sort(passages).tobytes(), []).append(query)
    largest_first = sorted(groups.values(), key=len, reverse=True)[:most]
    share = most / n_queries
    entry_of_query = np.full(n_queries, -1, np.int64)
    n_entries = 0
    for position, queries in enumerate(largest_first):
        # Leave room for one entry of every group that is still to come.
        room = most - n_entries - (len(largest_first) - position - 1)
        wanted = max(1, min(room, round(len(queries) * share)))
        labels = np.zeros(len(queries), np.int64)
        if wanted > 1:
            _, labels = kmeans2(
                units[queries], wanted, minit="++", seed=np.random.default_rng(seed)
            )
        names, labels = np.unique(labels, return_inverse=True)
        entry_of_query[queries] = n_entries + labels
        n_entries += len(names)
    return entry_of_query
