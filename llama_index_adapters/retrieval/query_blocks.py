"""The vectors of several models for one query, side by side in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import unit_rows

QueryRole = Literal["base", "other"]


@dataclass(frozen=True, eq=False)
class PassageSample:
    """Some passages, embedded by two models.

    Attributes:
        stored: ``(n, passage_dim)`` as the index has them.
        embedded: ``(n, dim)`` the same texts, embedded by the other model.
    """

    stored: FloatArray
    embedded: FloatArray


@dataclass(frozen=True)
class QueryBlock:
    """The columns of a row of queries that come from one model.

    Attributes:
        dim: how many columns.
        role: ``"base"`` for the model that embedded the passages too, ``"other"`` for any other.
        name: the model's name, for people.
        identity: what the model is known by; None when nobody said.
        sample: some passages of the corpus embedded by this model, from which training learns
            how its space lies to that of the passages; None where there are none.
    """

    dim: int
    role: QueryRole = "base"
    name: str | None = None
    identity: str | None = None
    sample: PassageSample | None = field(default=None, repr=False, compare=False)


def side_by_side(vectors: Sequence[FloatArray], lengths: FloatArray | float) -> FloatArray:
    """Return the vectors of several models for the same queries as one row for each query.

    Every model has the same weight: its vector enters at unit length, and the row is scaled to
    the length it is to have. So the row is at unit length what each block is at ``1 / sqrt(n)``.

    Args:
        vectors: ``(n_queries, dim)`` of each model.
        lengths: the length of every row: ``(n_queries,)`` those of the base model's vectors, or
            one number where the base is not asked.

    Returns:
        ``(n_queries, sum of dims)`` float32.
    """
    rows = np.concatenate([unit_rows(block) for block in vectors], axis=1)
    scale = np.asarray(lengths, np.float32) / np.sqrt(np.float32(len(vectors)))
    result: NDArray[np.float32] = rows * scale.reshape(-1, 1)
    return result


def block_of(queries: FloatArray, blocks: Sequence[QueryBlock], number: int) -> FloatArray:
    """Return the vectors of one model, at the length of the rows they stand in.

    Args:
        queries: ``(n_queries, sum of dims)`` as :func:`side_by_side` made them.
        blocks: what the columns are.
        number: which of them.
    """
    start = sum(block.dim for block in blocks[:number])
    columns = queries[:, start : start + blocks[number].dim]
    if len(blocks) == 1:
        return columns
    scaled: NDArray[np.float32] = columns * np.sqrt(np.float32(len(blocks)))
    return scaled


def base_number(blocks: Sequence[QueryBlock]) -> int | None:
    """Return which block is the base model's; None when it is not asked."""
    return next((number for number, block in enumerate(blocks) if block.role == "base"), None)
