"""Question sets as vectors that several test files train on."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import ortho_group

from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

DIM = 16


def rotated(
    n_queries: int = 120,
    dim: int = DIM,
    passage_dim: int | None = None,
    similarity: Similarity = "cosine",
    seed: int = 0,
    map_seed: int = 7,
) -> VectorDataset:
    """Queries that are their passages, seen through a map the adapter has to undo.

    ``map_seed`` chooses the map, ``seed`` the vectors.
    """
    rng = np.random.default_rng(seed)
    passage_dim = passage_dim or dim
    passages = rng.normal(size=(n_queries, passage_dim))
    hidden = ortho_group.rvs(max(dim, passage_dim), random_state=map_seed)[:passage_dim, :dim]
    queries = passages @ hidden + 0.05 * rng.normal(size=(n_queries, dim))
    return VectorDataset(
        queries * rng.uniform(0.5, 3, (n_queries, 1)),
        passages,
        Relevance.from_rows([[row] for row in range(n_queries)]),
        similarity=similarity,
    )


def noise(seed: int, n_queries: int = 60, n_passages: int = 80) -> VectorDataset:
    """Queries that are passages, with relevance that says nothing about them."""
    rng = np.random.default_rng(seed)
    passages = rng.normal(size=(n_passages, DIM))
    relevant = rng.integers(0, n_passages, n_queries)
    return VectorDataset(
        rng.normal(size=(n_queries, DIM)), passages, Relevance.from_rows(relevant[:, None].tolist())
    )


def perfect(seed: int = 0, n_queries: int = 40) -> VectorDataset:
    """Validation on which the base model makes no mistake."""
    passages = np.random.default_rng(seed).normal(size=(n_queries, DIM))
    return VectorDataset(
        passages * 3, passages, Relevance.from_rows([[row] for row in range(n_queries)])
    )


def weights(adapter: torch.nn.Module) -> bytes:
    """All arrays of an adapter, to be compared byte by byte."""
    return b"".join(array.tobytes() for array in adapter.arrays().values())
