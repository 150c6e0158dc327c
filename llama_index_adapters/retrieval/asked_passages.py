"""Which passages were asked about in training, as hashes that a later question is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.copies import with_copies
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

Hashes = NDArray[np.uint64]

_HASH_BYTES = 8


def _none() -> Hashes:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, eq=False)
class AskedPassages:
    """The passages that questions asked about, as the first 8 bytes of sha256.

    A passage with a text is known by its text, one that was only ever a vector by the vector.
    Passages with equal vectors are the same passage.

    Attributes:
        texts: ``(n,)`` hashes of texts, sorted.
        vectors: ``(n,)`` hashes of vectors, sorted.
    """

    texts: Hashes = field(default_factory=_none)
    vectors: Hashes = field(default_factory=_none)

    @classmethod
    def of(cls, data: VectorDataset, texts: Mapping[str, str] | None = None) -> AskedPassages:
        """Return the passages that the questions of a set ask about.

        Args:
            data: the question set.
            texts: the texts of its passages by id; None where there are only vectors.
        """
        rows = np.unique(_with_copies(data).passages)
        if texts is None:
            return cls(vectors=np.unique(_hashes_of_vectors(data, rows)))
        return cls(texts=np.unique(_hashes_of_texts(data, rows, texts)))

    def __or__(self, other: AskedPassages) -> AskedPassages:
        """Return the passages of either."""
        return AskedPassages(
            np.union1d(self.texts, other.texts), np.union1d(self.vectors, other.vectors)
        )

    def seen_by(
        self, data: VectorDataset, texts: Mapping[str, str] | None = None
    ) -> NDArray[np.bool_]:
        """Return for each question ``(n_queries,)`` whether it is about one of these passages.

        It is when any of its relevant passages, or a passage with an equal vector, is among them.

        Args:
            data: the question set.
            texts: the texts of its passages by id; None where there are only vectors.
        """
        relevance = _with_copies(data)
        rows, place = np.unique(relevance.passages, return_inverse=True)
        known = np.zeros(len(rows), bool)
        if texts is not None and self.texts.size:
            known |= np.isin(_hashes_of_texts(data, rows, texts), self.texts)
        if self.vectors.size:
            known |= np.isin(_hashes_of_vectors(data, rows), self.vectors)
        seen: NDArray[np.bool_] = np.logical_or.reduceat(
            known[place.reshape(-1)], relevance.offsets[:-1]
        )
        return seen


def _with_copies(data: VectorDataset) -> Relevance:
    return with_copies(data.relevance, data.copies)


def _hashes_of_texts(
    data: VectorDataset, rows: NDArray[np.int64], texts: Mapping[str, str]
) -> Hashes:
    return _hashes(texts[data.passage_ids[row]].encode() for row in rows.tolist())


def _hashes_of_vectors(data: VectorDataset, rows: NDArray[np.int64]) -> Hashes:
    # One at a time, since the passages may be larger than memory; -0.0 equals 0.0.
    return _hashes((data.passages[row] + np.float32(0)).tobytes() for row in rows.tolist())


def _hashes(contents: Iterable[bytes]) -> Hashes:
    digests = b"".join(hashlib.sha256(content).digest()[:_HASH_BYTES] for content in contents)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
