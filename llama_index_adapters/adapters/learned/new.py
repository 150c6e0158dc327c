"""Untrained adapters, by the name a user asks for."""

from __future__ import annotations

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter

DEFAULT_RANK = 64


def new_adapter(
    name: str,
    query_dim: int,
    passage_dim: int,
    *,
    bias: bool | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> BaseAdapter:
    """Return an untrained adapter by the name a user asks for, as near the identity as it starts.

    Args:
        name: one of :data:`ADAPTERS` but ``"auto"``.
        query_dim: dimension of the query vectors.
        passage_dim: dimension of the passage vectors.
        bias: learn a bias too; as the family does when left out.
        rank: of ``"low-rank"``; :data:`DEFAULT_RANK` when left out.
        seed: of what starts at random.
    """
    if name == "two-layer":
        bias = True if bias is None else bias
        return TwoLayerAdapter(query_dim, None, passage_dim, bias, seed=seed)
    if name == "low-rank" and rank is None:
        rank = min(DEFAULT_RANK, query_dim)
    return LinearAdapter(query_dim, passage_dim, bool(bias), rank=rank, seed=seed)
