"""Untrained adapters, by the name a user asks for."""

from __future__ import annotations

from llama_index_adapters.adapters.families import forms
from llama_index_adapters.adapters.learned.base import BaseAdapter


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
        name: one of :data:`~llama_index_adapters.adapters.families.ADAPTERS` but ``"auto"``.
        query_dim: dimension of the query vectors.
        passage_dim: dimension of the passage vectors.
        bias: learn a bias too; as the family does when left out.
        rank: of a form that has one; the form's own when left out.
        seed: of what starts at random.
    """
    family, form = forms()[name]
    rank = form.rank_for(query_dim) if rank is None else rank
    options = {"bias": bias, "rank": rank}
    adapter: BaseAdapter = family.learned_class()(
        in_features=query_dim,
        out_features=passage_dim,
        seed=seed,
        **{option: value for option, value in options.items() if value is not None},
    )
    return adapter
