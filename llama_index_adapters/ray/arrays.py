"""Arrays that every worker reads and none receives a copy of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.query_blocks import QueryBlock
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

# Rows by which a node's file is known to be the driver's.
_SAMPLED_ROWS = 64


@dataclass(frozen=True)
class MappedArray:
    """A matrix in a file that every node sees under the same path.

    Attributes:
        path: the file.
        offset: bytes before the first number.
        shape: ``(n, dim)`` float32, row by row.
        sample: sha256 of some of its rows.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    sample: str

    def open(self) -> FloatArray:
        """Map the file.

        Raises:
            InvalidVectorsError: when this node has no such file, or another one.
        """
        found = "is not there"
        if self.path.is_file():
            found = "holds other vectors"
            try:
                array = np.memmap(self.path, np.float32, "r", self.offset, self.shape)
            except (OSError, ValueError) as error:
                found = f"cannot be mapped ({error})"
            else:
                if _sample(array) == self.sample:
                    return np.asarray(array)
        raise InvalidVectorsError(
            f"The vectors are mapped from {self.path}, which {found} on the node "
            f"{ray.util.get_node_ip_address()}. Keep the file on a file system that all nodes "
            "share, or give an array in memory: np.array(vectors)."
        )


def mapped(array: NDArray[Any]) -> MappedArray | None:
    """Return what a memory-mapped matrix is a window of; None when it is in memory."""
    root: Any = array
    while isinstance(getattr(root, "base", None), np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not array.flags.c_contiguous or array.ndim != 2:
        return None
    # What was written to a private map ("c") is in no file.
    if root.filename is None or root.mode == "c" or array.dtype != np.float32:
        return None
    if root.mode != "r":
        root.flush()
    start = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    rows, dim = array.shape
    path = Path(root.filename).absolute()
    return MappedArray(path, root.offset + start, (rows, dim), _sample(array))


@dataclass(frozen=True)
class SharedDataset:
    """A dataset as workers are told of it.

    Attributes:
        queries: where the query vectors are: a file or Ray's object store.
        passages: the same for the passages.
        relevance: likewise in the object store.
        similarity: how vectors are compared.
        blocks: which model each column of the queries comes from.
    """

    queries: Any
    passages: Any
    relevance: Any
    similarity: Similarity
    blocks: tuple[QueryBlock, ...] = ()

    def open(self) -> VectorDataset:
        """Return the dataset, its arrays read where they are.

        Raises:
            InvalidVectorsError: when a file is not the driver's.
        """
        relevance = Relevance(*ray.get(self.relevance))
        return VectorDataset(
            opened(self.queries),
            opened(self.passages),
            relevance,
            similarity=self.similarity,
            blocks=self.blocks,
        )


class Sharing:
    """Puts arrays where workers can read them, each array once."""

    def __init__(self) -> None:
        self._shared: dict[int, tuple[NDArray[Any], Any]] = {}

    def array(self, array: FloatArray) -> Any:
        """Return what :func:`opened` turns into the array again."""
        if id(array) not in self._shared:
            handle = mapped(array)
            # The array is kept, so that its id stays its own.
            self._shared[id(array)] = array, ray.put(array) if handle is None else handle
        return self._shared[id(array)][1]

    def dataset(self, data: VectorDataset) -> SharedDataset:
        """Share the arrays of a dataset; the names of its rows stay here."""
        judged = data.relevance
        relevance = ray.put((judged.offsets, judged.passages, judged.grades))
        queries, passages = self.array(data.queries), self.array(data.passages)
        return SharedDataset(queries, passages, relevance, data.similarity, data.blocks)


def opened(handle: Any) -> FloatArray:
    """Return a shared array, without a copy."""
    if isinstance(handle, MappedArray):
        return handle.open()
    array: FloatArray = ray.get(handle)
    return array


def _sample(array: NDArray[Any]) -> str:
    rows: Sequence[int] = np.linspace(0, len(array) - 1, _SAMPLED_ROWS).astype(int).tolist()
    return hashlib.sha256(np.ascontiguousarray(array[rows]).tobytes()).hexdigest()
