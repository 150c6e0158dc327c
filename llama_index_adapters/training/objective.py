"""The training objective: the passages of the corpus compete with the relevant ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import row_blocks, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.negatives import Negatives, SampledCorpus, Scoring, WholeCorpus

_NONE = np.zeros(0, np.int64)


class RetrievalObjective:
    """Softplus of how far the negatives of a query outweigh each of its relevant passages.

    For a query with scores ``s`` over the whole corpus, relevant passages ``P`` and negatives
    ``N`` (all passages that do not answer it), the loss is the mean over ``p`` in ``P`` of
    ``softplus(logsumexp(s[N]) - s[p])``: the cross entropy of picking ``p`` from ``{p} + N``, so
    that relevant passages never compete with each other. A passage weighs in the mean as much as
    its grade. Scores are similarities times ``scale``.

    The corpus is known and frozen. What in-batch negatives approximate (Henderson et al.,
    arXiv:1705.00652) is computed exactly, in blocks of passages, or from a weighted sample
    where the corpus is too large for that.

    Args:
        data: queries, passages and relevance to learn from.
        scale: the inverse temperature.
        unit_input: whether the adapter sees queries of unit length.
        device: where the tensors live.
        unseen: rows of passages that are never negatives.
        answers: the passages that are no negatives of each query: the relevant ones and their
            copies; the relevant ones alone when left out.
        negatives: how many passages are drawn for each batch; the whole corpus when left out,
            or when it has no more.
        mined: ``(n_queries, k)`` rows near each query that are not relevant to it, -1 for none,
            as :func:`llama_index_adapters.training.mining.mine` gives them. Only a sample needs
            them.
        dtype: precision of the passages and of the products with them.
        seed: the same seed draws the same passages.
    """

    def __init__(
        self,
        data: VectorDataset,
        *,
        scale: float,
        unit_input: bool,
        device: torch.device,
        unseen: NDArray[np.int64] = _NONE,
        answers: Relevance | None = None,
        negatives: int | None = None,
        mined: NDArray[np.int64] | None = None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        units = unit_rows(data.queries)
        self.queries = torch.from_numpy(units if unit_input else data.queries).to(device)
        self._lengths = torch.ones(len(units), 1, device=device)
        length = offset_factor = 1.0
        if data.similarity != "cosine":
            # Bring scores to the range of a cosine, so that one scale fits every similarity.
            length = _typical_length(data.passages)
            if data.similarity == "euclidean":
                # Only the distance depends on how long a query is.
                lengths = (data.queries * units).sum(axis=1, keepdims=True)
                typical_query = float((lengths**2).mean() ** 0.5) or 1.0
                offset_factor = scale / (length * typical_query)
                self._lengths = torch.from_numpy(lengths / typical_query).to(device)
        scoring = Scoring(data.similarity, length, offset_factor, device, dtype)
        self._negatives: Negatives
        if negatives is None or negatives >= len(data.passages) - len(unseen):
            self._negatives = WholeCorpus(data.passages, scoring, unseen)
        else:
            self._negatives = SampledCorpus(
                data.passages, scoring, unseen, count=negatives, mined=mined, seed=seed
            )
        self._scale = scale
        self._positives = _Passages.of(data.relevance, device)
        self._answers = self._positives if answers is None else _Passages.of(answers, device)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    def loss(self, adapted: Tensor, rows: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            adapted: ``(n, passage_dim)``, what the adapter made of ``queries[rows]``.
            rows: ``(n,)`` the rows of the queries.
        """
        vectors = functional.normalize(adapted, dim=1) * (self._lengths[rows] * self._scale)
        negatives = self._negatives.logsumexp(vectors, rows, *self._answers.of_batch(rows)[:2])
        owner, positive, grades = self._positives.of_batch(rows)
        passages, offset = self._negatives.passages(positive)
        scores = (vectors[owner] * passages).sum(dim=1)
        if offset is not None:
            scores = scores + offset
        per_pair = functional.softplus(negatives[owner] - scores)
        per_query = torch.bincount(owner, grades, minlength=len(rows)).to(per_pair)
        if grades is not None:
            per_pair = per_pair * grades.to(per_pair)
        return (per_pair / per_query[owner]).sum() / len(rows)


class _Passages(NamedTuple):
    """Passages of every query, as tensors.

    Attributes:
        starts: ``(n_queries + 1,)``.
        rows: those of query ``i`` are ``rows[starts[i]:starts[i + 1]]``.
        grades: one for each of ``rows``; None where all answer alike.
    """

    starts: Tensor
    rows: Tensor
    grades: Tensor | None

    @classmethod
    def of(cls, relevance: Relevance, device: torch.device) -> _Passages:
        """Return the passages of a relevance on a device."""
        offsets, passages = (
            torch.from_numpy(part).to(device) for part in (relevance.offsets, relevance.passages)
        )
        grades = relevance.grades
        # In float32, which every device has.
        weights = None if grades is None else torch.from_numpy(grades).float().to(device)
        return cls(offsets, passages, weights)

    def of_batch(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the passages of a batch of queries: place in the batch, passage row, grade."""
        starts, ends = self.starts[queries], self.starts[queries + 1]
        counts = ends - starts
        positions = torch.arange(len(queries), device=queries.device)
        owner = torch.repeat_interleave(positions, counts)
        first_of_owner = torch.cumsum(counts, 0) - counts
        within = torch.arange(len(owner), device=queries.device) - first_of_owner[owner]
        entries = starts[owner] + within
        return owner, self.rows[entries], None if self.grades is None else self.grades[entries]


def _typical_length(passages: FloatArray) -> float:
    squares = sum(float(np.square(block, dtype=np.float64).sum()) for block in row_blocks(passages))
    return float((squares / len(passages)) ** 0.5) or 1.0
