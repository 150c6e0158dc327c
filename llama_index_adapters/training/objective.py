"""The training objective: every passage of the corpus competes with the relevant ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llama_index_adapters.ranking import scoring_form, unit_rows
from llama_index_adapters.vectors.vector_dataset import VectorDataset

# Scores of one block of passages against a batch of queries; larger buys no speed.
_BLOCK_ELEMENTS = 16 * 2**20


class RetrievalObjective:
    """Softplus of how far the negatives of a query outweigh each of its relevant passages.

    For a query with scores ``s`` over the whole corpus, relevant passages ``P`` and all others
    ``N``, the loss is the mean over ``p`` in ``P`` of ``softplus(logsumexp(s[N]) - s[p])``:
    the cross entropy of picking ``p`` from ``{p} + N``, so that relevant passages never
    compete with each other. Scores are similarities times ``scale``.

    The corpus is known and frozen, so nothing is sampled: what in-batch negatives
    approximate (Henderson et al., arXiv:1705.00652) is computed exactly, in blocks of passages.

    Args:
        data: queries, passages and relevance to learn from.
        scale: the inverse temperature.
        unit_input: whether the adapter sees queries of unit length.
        device: where the tensors live.
    """

    def __init__(
        self, data: VectorDataset, *, scale: float, unit_input: bool, device: torch.device
    ) -> None:
        matrix, offset = scoring_form(data.passages, data.similarity)
        units = unit_rows(data.queries)
        self.queries = torch.from_numpy(units if unit_input else data.queries).to(device)
        self._lengths = torch.ones(len(units), 1, device=device)
        if data.similarity != "cosine":
            # Bring scores to the range of a cosine, so that one scale fits every similarity.
            typical = float((matrix.astype("float64") ** 2).sum(axis=1).mean() ** 0.5) or 1.0
            matrix = matrix / typical
            if offset is not None:
                # Only the distance depends on how long a query is.
                lengths = (data.queries * units).sum(axis=1, keepdims=True)
                typical_query = float((lengths**2).mean() ** 0.5) or 1.0
                offset = offset / (typical * typical_query)
                self._lengths = torch.from_numpy(lengths / typical_query).to(device)
        self._passages = torch.from_numpy(matrix).to(device)
        self._offset = None if offset is None else torch.from_numpy(offset).to(device)
        self._scale = scale
        self._starts = torch.from_numpy(data.relevance.offsets).to(device)
        self._positives = torch.from_numpy(data.relevance.passages).to(device)

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
        owner, positive = self._positives_of(rows)
        negatives = _LogSumExpOfNegatives.apply(  # type: ignore[no-untyped-call]
            vectors,
            self._passages,
            None if self._offset is None else self._offset * self._scale,
            owner,
            positive,
        )
        scores = (vectors[owner] * self._passages[positive]).sum(dim=1)
        if self._offset is not None:
            scores = scores + self._offset[positive] * self._scale
        per_pair = functional.softplus(negatives[owner] - scores)
        per_query = torch.bincount(owner, minlength=len(rows)).to(per_pair)
        return (per_pair / per_query[owner]).sum() / len(rows)

    def _positives_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the relevant passages of a batch as (position in the batch, passage row)."""
        starts, ends = self._starts[rows], self._starts[rows + 1]
        counts = ends - starts
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        first_of_owner = torch.cumsum(counts, 0) - counts
        within = torch.arange(len(owner), device=rows.device) - first_of_owner[owner]
        return owner, self._positives[starts[owner] + within]


class _LogSumExpOfNegatives(torch.autograd.Function):
    """``logsumexp`` over all passages but the positives, in bounded memory.

    The gradient with respect to a query is the softmax-weighted mean of the passages. Both are
    accumulated in the same pass over blocks with a running maximum, as in Rabe and Staats,
    arXiv:2112.05682, so no matrix of all scores exists and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        passages: Tensor,
        offset: Tensor | None,
        owner: Tensor,
        positive: Tensor,
    ) -> Tensor:
        block = max(1, _BLOCK_ELEMENTS // max(1, len(queries)))
        largest = torch.full((len(queries), 1), -torch.inf, device=queries.device)
        total = torch.zeros_like(largest)
        mean = torch.zeros_like(queries)
        for start in range(0, len(passages), block):
            part = passages[start : start + block]
            scores = queries @ part.T
            if offset is not None:
                scores += offset[start : start + block]
            inside = (positive >= start) & (positive < start + len(part))
            scores[owner[inside], positive[inside] - start] = -torch.inf
            peak = torch.maximum(largest, scores.amax(dim=1, keepdim=True))
            # A block that holds nothing but positives leaves the peak at -inf; shift by 0 then.
            shift = torch.where(peak.isinf(), torch.zeros_like(peak), peak)
            keep = torch.exp(largest - shift)
            weights = scores.sub_(shift).exp_()
            total = total * keep + weights.sum(dim=1, keepdim=True)
            mean = torch.addmm(mean.mul_(keep), weights, part)
            largest = peak
        ctx.save_for_backward(mean / total.clamp_min(torch.finfo(total.dtype).tiny))
        return (largest + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (mean,) = ctx.saved_tensors
        return grad_outputs[0][:, None] * mean, None, None, None, None
