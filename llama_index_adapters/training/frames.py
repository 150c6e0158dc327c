"""Where training starts when several models embed queries: maps without labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.alignment.align import FEWEST, Alignment, align
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.query_blocks import base_number
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

# The matrix of a family that queries go through as they are: of linear and two-layer adapters.
_MATRICES = ("linear.weight", "skip.weight")

# How much the other models' maps weigh beside the base model's own vector.
SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Frame:
    """A map of queries into the space of the passages that no label has shaped.

    Attributes:
        name: what it is, in words.
        weight: ``(passage_dim, query_dim)``, for rows of unit length; None when queries are
            there already.
        rank: among frames, how far it is from the simplest; 0 for that.
        has_base: whether the passages' own model is asked.
    """

    name: str
    weight: FloatArray | None
    rank: int = 0
    has_base: bool = True

    def then(self, weight: FloatArray) -> NDArray[np.float32]:
        """Return the map that goes through this one first, then through ``weight``."""
        if self.weight is None:
            return weight
        product: NDArray[np.float32] = weight @ self.weight
        return product

    @property
    def stands_for_base(self) -> FloatArray | None:
        """The map, where it stands for a base model that is not asked."""
        return None if self.has_base else self.weight

    def adapter(self, query_dim: int) -> BaseAdapter:
        """Return the frame as an adapter."""
        return IdentityAdapter(query_dim) if self.weight is None else linear(self.weight)


def linear(weight: FloatArray) -> LinearAdapter:
    """Return the linear adapter with this weight ``(passage_dim, query_dim)``."""
    adapter = LinearAdapter(weight.shape[1], weight.shape[0])
    adapter.load_arrays({"linear.weight": np.ascontiguousarray(weight, dtype=np.float32)})
    return adapter


def first_frame(data: VectorDataset) -> Frame | None:
    """Return what queries are before anything is learned.

    It is the base model's own vector where that model is asked, else the map without labels;
    None when neither is there.
    """
    base = base_number(data.blocks)
    if base is not None:
        if len(data.blocks) == 1:
            return Frame("identity", None)
        return Frame("the index's own model", _placed(data, {base: 1.0}))
    others = {number: found.weight for number, found in _aligned(data).items()}
    if len(others) < len(data.blocks):
        return None
    return Frame("without labels", _weight(data, others), has_base=False)


def started(adapter: BaseAdapter, data: VectorDataset) -> BaseAdapter:
    """Let an adapter of other models' vectors start where nothing is learned yet.

    A linear adapter starts as the map without labels, and so does a two-layer one, whose network
    then learns what is added to it.

    Raises:
        InvalidOptionError: for a family that adds to the query's own vector, which lies in another
            space than the passages.
    """
    frame = first_frame(data)
    if frame is None or frame.weight is None:
        return adapter
    arrays = adapter.arrays()
    name = next((name for name in _MATRICES if name in arrays), None)
    if name is None or arrays[name].shape != frame.weight.shape:
        raise InvalidOptionError(
            "The queries are another model's, and this adapter adds to the query's own vector, "
            "which is not in the passages' space. Use adapter='auto' or adapter='linear'."
        )
    adapter.load_arrays({**arrays, name: frame.weight})
    return adapter


def further_frames(data: VectorDataset) -> Iterator[Frame]:
    """Yield the base model's vector with the others' beside it, by each kind of map."""
    base = base_number(data.blocks)
    others = _aligned(data) if base is not None else {}
    if base is None or not others:
        return
    identity = np.eye(data.passages.shape[1], dtype=np.float32)
    kinds = sorted(set.intersection(*(set(found.by_kind) for found in others.values())))
    for rank, (share, kind) in enumerate(product(SHARES, kinds), start=1):
        parts = {number: share * found.by_kind[kind] for number, found in others.items()}
        name = f"the index's own model and {share:g} of the others by {kind}"
        yield Frame(name, _weight(data, {base: identity, **parts}), rank)


def _aligned(data: VectorDataset) -> dict[int, Alignment]:
    """Return the maps without labels of each other model that embedded a sample of passages."""
    return {
        number: align(block.sample.embedded, block.sample.stored)
        for number, block in enumerate(data.blocks)
        if block.sample is not None and len(block.sample.stored) >= FEWEST
    }


def _placed(data: VectorDataset, scales: dict[int, float]) -> FloatArray:
    identity = np.eye(data.passages.shape[1], dtype=np.float32)
    return _weight(data, {number: scale * identity for number, scale in scales.items()})


def _weight(data: VectorDataset, maps: dict[int, FloatArray]) -> NDArray[np.float32]:
    """Put maps of blocks at length one side by side, as a map of rows at length one."""
    scale = np.float32(np.sqrt(len(data.blocks)))
    parts = [
        scale * maps[number]
        if number in maps
        else np.zeros((data.passages.shape[1], block.dim), np.float32)
        for number, block in enumerate(data.blocks)
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)
