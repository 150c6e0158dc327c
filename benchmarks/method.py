"""What a method is: something that learns from a benchmark and changes vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import BenchmarkData
from llama_index_adapters.retrieval.ranking import Similarity

FloatArray = NDArray[np.float32]
Moves = Literal[
    "nothing", "queries", "document vectors", "queries and document vectors", "the model"
]


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        seed: the same seed gives the same figures.
        environments: the folder of the environments that peers run in.
    """

    seed: int
    environments: Path


@dataclass(frozen=True)
class Learned:
    """What a method made of the test vectors.

    Attributes:
        queries: ``(n_test_queries, dim)``, in the order of the test set.
        passages: ``(n_test_passages, dim)``, in the order of the test set.
        seconds: wall-clock seconds of training; embedding is not counted.
        similarity: how the two are to be compared.
        detail: what else is worth knowing, such as what a search chose.
    """

    queries: FloatArray
    passages: FloatArray
    seconds: float
    similarity: Similarity = "cosine"
    detail: str = ""


def _applies_always(data: BenchmarkData) -> str | None:
    return None


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: the word for ``--methods``.
        title: what the table calls it.
        moves: what it changes; anything but queries means writing an index again.
        learn: trains on a benchmark and returns the changed test vectors.
        why_not: why it cannot be measured on a benchmark, None when it can.
        only_by_name: sets it takes hours on, measured only when the method is asked for.
    """

    name: str
    title: str
    moves: Moves
    learn: Callable[[BenchmarkData, Settings], Learned]
    why_not: Callable[[BenchmarkData], str | None] = _applies_always
    only_by_name: frozenset[str] = field(default_factory=frozenset)
