"""Saved adapters to serve: random weights near the identity, of the sizes people use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 0
# Of the training queries of the memory adapter, about a quarter as many passages.
_QUERIES_PER_PASSAGE = 4


def write_adapters(*, folder: str, dims: list[int], memory_queries: int) -> dict[str, str]:
    """Save a linear, a closed-form and a low-rank adapter of each dimension, and a memory.

    Runs in a process of its own, because it needs torch and serving must not have it.

    Args:
        folder: where they are saved.
        dims: the dimensions; the memory has the first.
        memory_queries: how many training queries the memory is made of.

    Returns:
        The path of each by name, such as ``"low-rank 1536"``.
    """
    from llama_index_adapters.adapters.disk.save import save_adapter
    from llama_index_adapters.adapters.learned.linear import LinearAdapter
    from llama_index_adapters.training.closed_form import whitening

    rng = np.random.default_rng(SEED)
    paths = {}
    for dim in dims:
        linear = LinearAdapter(dim)
        linear.load_arrays({"linear.weight": _near_identity(rng, dim)})
        closed = LinearAdapter(dim)
        sample = rng.standard_normal((2 * dim, dim)).astype(np.float32)
        closed.load_arrays({"linear.weight": whitening(sample, passage_power=0.25)})
        low_rank = LinearAdapter(dim, rank=min(64, dim))
        made = {"linear": linear, "closed form": closed, "low-rank": low_rank}
        for name, adapter in made.items():
            paths[f"{name} {dim}"] = str(Path(folder) / f"{name}-{dim}")
            save_adapter(paths[f"{name} {dim}"], adapter)
    paths["memory"] = str(Path(folder) / "memory")
    save_memory(paths["memory"], dims[0], memory_queries)
    return paths


def save_memory(path: str, dim: int, n_queries: int) -> None:
    """Save a memory adapter made of random training queries, several a passage."""
    from llama_index_adapters import Relevance, VectorDataset
    from llama_index_adapters.adapters.disk.save import save_adapter
    from llama_index_adapters.training.search.remember import memory_of

    rng = np.random.default_rng(SEED)
    n_passages = max(1, n_queries // _QUERIES_PER_PASSAGE)
    passages = rng.standard_normal((n_passages, dim)).astype(np.float32)
    answers = rng.integers(0, n_passages, n_queries)
    queries = passages[answers] + rng.standard_normal((n_queries, dim)).astype(np.float32)
    data = VectorDataset(queries, passages, Relevance.from_rows(answers[:, None]))
    save_adapter(path, memory_of(data, _near_identity(rng, dim), seed=SEED))


def _near_identity(rng: np.random.Generator, dim: int) -> NDArray[np.float32]:
    noise = rng.standard_normal((dim, dim)) / dim
    return (np.eye(dim) + noise).astype(np.float32)
