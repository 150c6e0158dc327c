"""Vectors made from a seed, written in blocks to files that are mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BLOCK = 65_536


def write_unit_vectors(path: str | Path, n: int, dim: int, *, seed: int = 0) -> None:
    """Write ``(n, dim)`` float32 of random directions as ``.npy``."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
    rng = np.random.default_rng(seed)
    for start in range(0, n, _BLOCK):
        block = rng.standard_normal((min(_BLOCK, n - start), dim), dtype=np.float32)
        file[start : start + len(block)] = _unit(block)
    file.flush()


def write_topics(
    folder: str | Path,
    *,
    passages: int,
    queries: int,
    dim: int,
    topics: int = 1_000,
    spread: float = 0.7,
    noise: float = 4.0,
    seed: int = 0,
) -> None:
    """Write passages around topics, and queries that are distorted passages.

    The distortion is one linear map, near the identity, for all queries, plus noise of that length.
    A linear adapter can learn to undo the map and nothing can undo the noise, which is long enough
    for the base to miss many answers among a million passages.

    Writes ``passages.npy``, ``queries.npy`` (both float32 of unit length) and ``answers.npy``, the
    passage of each query.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((topics, dim), dtype=np.float32))
    distortion = np.eye(dim, dtype=np.float32)
    distortion += rng.standard_normal((dim, dim), dtype=np.float32) * np.float32(1 / dim**0.5)
    shape = (passages, dim)
    corpus = np.lib.format.open_memmap(folder / "passages.npy", "w+", np.float32, shape)
    for start in range(0, passages, _BLOCK):
        n = min(_BLOCK, passages - start)
        centre = centres[rng.integers(0, topics, n)]
        corpus[start : start + n] = _unit(centre + _noise(rng, n, dim, spread))
    answers = rng.integers(0, passages, queries)
    np.save(folder / "answers.npy", answers)
    asked = np.lib.format.open_memmap(folder / "queries.npy", "w+", np.float32, (queries, dim))
    for start in range(0, queries, _BLOCK):
        known = corpus[answers[start : start + _BLOCK]]
        added = _noise(rng, len(known), dim, noise)
        asked[start : start + len(known)] = _unit(known @ distortion + added)
    corpus.flush()
    asked.flush()


def _noise(rng: np.random.Generator, n: int, dim: int, length: float) -> NDArray[np.float32]:
    noise: NDArray[np.float32] = rng.standard_normal((n, dim), dtype=np.float32)
    noise *= np.float32(length / dim**0.5)
    return noise


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units
