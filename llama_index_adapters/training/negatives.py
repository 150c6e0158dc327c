"""What a query is compared with in training: the whole corpus, or a weighted sample of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import Similarity, scoring_form

# Scores of one block of passages against a batch of queries; larger buys no speed.
_BLOCK_ELEMENTS = 16 * 2**20


@dataclass(frozen=True)
class Scoring:
    """How passages become the right side of a score ``q @ p + offset``.

    Attributes:
        similarity: how the vector store compares.
        length: typical length of a passage, by which all are divided, so that one temperature
            fits every similarity; 1 for cosine.
        offset_factor: what offsets are multiplied by.
        device: where the tensors live.
        dtype: of the passages; offsets are float32.
    """

    similarity: Similarity
    length: float
    offset_factor: float
    device: torch.device
    dtype: torch.dtype

    def form(self, passages: FloatArray) -> tuple[Tensor, Tensor | None]:
        """Return ``(n, passage_dim)`` and ``(n,)``, None for offsets of zero."""
        matrix, offset = scoring_form(passages, self.similarity)
        if self.length != 1:
            matrix = matrix / np.float32(self.length)
        tensor = torch.from_numpy(np.ascontiguousarray(matrix)).to(self.device, self.dtype)
        if offset is None:
            return tensor, None
        return tensor, torch.from_numpy(offset * np.float32(self.offset_factor)).to(self.device)


class Negatives(Protocol):
    """The passages that compete with the relevant ones of a batch of queries."""

    def passages(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return passages ``(n, passage_dim)`` and their offsets, by row of the corpus."""
        ...

    def logsumexp(self, queries: Tensor, rows: Tensor, owner: Tensor, positive: Tensor) -> Tensor:
        """Return the log of the summed exponentials of all negative scores, ``(n,)``.

        Args:
            queries: ``(n, passage_dim)`` times the inverse temperature.
            rows: ``(n,)`` the rows of the queries in the training set.
            owner: ``(m,)`` for every relevant passage, the position of its query in the batch.
            positive: ``(m,)`` the row of that passage.
        """
        ...


class WholeCorpus:
    """Every passage is a negative; exact, in blocks.

    Args:
        corpus: ``(n_passages, passage_dim)``.
        scoring: how they are scored.
        unseen: rows that are never negatives.
    """

    def __init__(self, corpus: FloatArray, scoring: Scoring, unseen: NDArray[np.int64]) -> None:
        self._passages, self._offset = scoring.form(corpus)
        self._barred = self._offset
        if unseen.size:
            zeros = torch.zeros(len(corpus), device=scoring.device)
            self._barred = zeros if self._offset is None else self._offset.clone()
            self._barred[torch.from_numpy(unseen).to(scoring.device)] = -torch.inf

    def passages(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return passages and their offsets, by row."""
        return self._passages[rows], None if self._offset is None else self._offset[rows]

    def logsumexp(self, queries: Tensor, rows: Tensor, owner: Tensor, positive: Tensor) -> Tensor:
        """Return the exact value."""
        return log_sum_exp_but(queries, self._passages, self._barred, owner, positive)


class SampledCorpus:
    """An estimate of the whole corpus from passages drawn anew for every batch.

    A query's *mined* passages, its nearest ones, count in full. The rest of the corpus is
    represented by ``count`` passages, one drawn from each of as many equal parts of the corpus,
    shared by the batch, and weighted by how many passages each of them stands for: the estimate
    of the sum of exponentials is unbiased, as in stratified sampling (Cochran, Sampling
    Techniques, chapter 5), and a step costs the same for any corpus. Passages are gathered from
    the array as they are needed, so it may be memory-mapped.

    Args:
        corpus: ``(n_passages, passage_dim)``.
        scoring: how they are scored.
        unseen: rows that are never negatives.
        count: how many passages to draw.
        mined: ``(n_queries, k)`` rows that are near each training query, -1 for none; a query's
            relevant passages must not be among them.
        seed: the same seed draws the same passages.
    """

    def __init__(
        self,
        corpus: FloatArray,
        scoring: Scoring,
        unseen: NDArray[np.int64],
        *,
        count: int,
        mined: NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> None:
        self._corpus, self._scoring = corpus, scoring
        self._mined = None if mined is None else torch.from_numpy(mined)
        allowed = np.ones(len(corpus), bool)
        allowed[unseen] = False
        self._allowed = torch.from_numpy(np.flatnonzero(allowed))
        self._count = min(count, len(self._allowed))
        self._generator = torch.Generator().manual_seed(seed)

    def passages(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return passages and their offsets, by row."""
        return self._scoring.form(self._corpus[rows.cpu().numpy()])

    def logsumexp(self, queries: Tensor, rows: Tensor, owner: Tensor, positive: Tensor) -> Tensor:
        """Return the estimate."""
        device = queries.device
        drawn = self._drawn()
        mined = None if self._mined is None else self._mined[rows.cpu()]
        # What counts in full, or not at all, must not stand for others as well.
        owners, known = owner.cpu(), positive.cpu()
        if mined is not None:
            mine = torch.nonzero(mined >= 0)
            owners = torch.cat([owners, mine[:, 0]])
            known = torch.cat([known, mined[mine[:, 0], mine[:, 1]]])
        place = torch.searchsorted(drawn, known).clamp_max(len(drawn) - 1)
        hit = drawn[place] == known
        stand_ins = len(drawn) - torch.bincount(owners[hit], minlength=len(queries))
        others = len(self._allowed) - torch.bincount(owners, minlength=len(queries))
        weight = (others.clamp_min(0) / stand_ins.clamp_min(1)).log().to(device, queries.dtype)
        sample, offset = self.passages(drawn)
        rest = log_sum_exp_but(
            queries, sample, offset, owners[hit].to(device), place[hit].to(device)
        )
        rest = rest + weight
        if mined is None:
            return rest
        return torch.logaddexp(rest, self._near(queries, mined.to(device)))

    def _drawn(self) -> Tensor:
        """Return the rows of the sample, ascending."""
        within = torch.rand(self._count, dtype=torch.float64, generator=self._generator)
        part = len(self._allowed) / self._count
        places = ((torch.arange(self._count) + within) * part).long()
        return self._allowed[places.clamp_max(len(self._allowed) - 1)]

    def _near(self, queries: Tensor, mined: Tensor) -> Tensor:
        """Return the part of the passages that were mined for each query."""
        near, offset = self.passages(mined.clamp_min(0).flatten())
        near = near.reshape(*mined.shape, -1).to(queries.dtype)
        scores = torch.einsum("nd,nkd->nk", queries, near)
        if offset is not None:
            scores = scores + offset.reshape(mined.shape)
        # Not -inf: a query without any mined passage would have no gradient.
        return torch.logsumexp(scores.masked_fill(mined < 0, -1e30), dim=1)


def log_sum_exp_but(
    queries: Tensor, passages: Tensor, offset: Tensor | None, owner: Tensor, left_out: Tensor
) -> Tensor:
    """Return ``logsumexp(queries @ passages.T + offset)`` over all passages but some, ``(n,)``.

    Args:
        queries: ``(n, passage_dim)``.
        passages: ``(n_passages, passage_dim)``, perhaps in lower precision; sums are in that of
            the queries.
        offset: ``(n_passages,)``; None for zeros.
        owner: ``(m,)`` positions of queries.
        left_out: ``(m,)`` the passage that each of them leaves out.
    """
    result: Tensor = _LogSumExp.apply(  # type: ignore[no-untyped-call]
        queries, passages, offset, owner, left_out
    )
    return result


class _LogSumExp(torch.autograd.Function):
    """The gradient with respect to a query is the softmax-weighted mean of the passages.

    Both are accumulated in the same pass over blocks with a running maximum, as in Rabe and
    Staats, arXiv:2112.05682, so no matrix of all scores exists and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        passages: Tensor,
        offset: Tensor | None,
        owner: Tensor,
        left_out: Tensor,
    ) -> Tensor:
        block = max(1, _BLOCK_ELEMENTS // max(1, len(queries)))
        rounded = queries.to(passages.dtype)
        largest = torch.full((len(queries), 1), -torch.inf, dtype=queries.dtype).to(queries.device)
        total = torch.zeros_like(largest)
        mean = torch.zeros_like(queries)
        for start in range(0, len(passages), block):
            part = passages[start : start + block]
            scores = (rounded @ part.T).to(queries.dtype)
            if offset is not None:
                scores += offset[start : start + block]
            inside = (left_out >= start) & (left_out < start + len(part))
            scores[owner[inside], left_out[inside] - start] = -torch.inf
            peak = torch.maximum(largest, scores.amax(dim=1, keepdim=True))
            # A block of nothing that counts leaves the peak at -inf; shift by 0 then.
            shift = torch.where(peak.isinf(), torch.zeros_like(peak), peak)
            keep = torch.exp(largest - shift)
            weights = scores.sub_(shift).exp_()
            total = total * keep + weights.sum(dim=1, keepdim=True)
            mean = mean.mul_(keep)
            if part.dtype == mean.dtype:
                mean = torch.addmm(mean, weights, part)
            else:
                mean += (weights.to(part.dtype) @ part).to(mean.dtype)
            largest = peak
        ctx.save_for_backward(mean / total.clamp_min(torch.finfo(total.dtype).tiny))
        return (largest + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (mean,) = ctx.saved_tensors
        return grad_outputs[0][:, None] * mean, None, None, None, None
