"""Judge an adapter by exact ranking, also while it is trained and by several workers."""

from __future__ import annotations

import torch
from torch import Tensor

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import metrics_at_k
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.result import PerQueryMetrics
from llama_index_adapters.training.workers import ALONE, Workers


def judge(queries: FloatArray, data: VectorDataset) -> PerQueryMetrics:
    """Return every metric at 10 of every query, for query vectors in passage space."""
    return metrics_at_k(data.top_k(queries, 10), data.relevance, 10)


def adapted_queries(
    adapter: BaseAdapter, queries: FloatArray, device: torch.device | None = None
) -> FloatArray:
    """Return what an adapter under training makes of queries ``(n, dim)``, as serving will."""

    @torch.inference_mode()
    def forward(units: FloatArray) -> FloatArray:
        result: Tensor = adapter(torch.from_numpy(units).to(device or "cpu"))
        return result.float().cpu().numpy()

    was_training = adapter.training
    adapter.eval()
    try:
        return adapt(forward, queries, unit_input=adapter.unit_input)
    finally:
        adapter.train(was_training)


class ValidationShare:
    """The queries that this worker judges of a validation set.

    Args:
        data: the whole set.
        workers: those that judge it together.

    Attributes:
        queries: ``(n, query_dim)`` this worker's.
    """

    def __init__(self, data: VectorDataset, workers: Workers = ALONE) -> None:
        self._workers = workers
        self._n_queries = len(data.queries)
        self._share = workers.share(torch.arange(self._n_queries))
        self._data = data
        if workers.size > 1:
            self._data = data.select_queries(self._share.rows.numpy())
        self.queries = self._data.queries

    def judge(self, adapted: FloatArray) -> PerQueryMetrics:
        """Return every metric at 10 of every query of the whole set.

        Args:
            adapted: ``(n, passage_dim)`` what became of ``queries``.
        """
        own = judge(adapted, self._data)
        return self._workers.gathered(own, self._share, self._n_queries)


def require_same_space(train: VectorDataset, validation: VectorDataset) -> None:
    """Refuse a validation set that cannot be judged as the training set is trained.

    Raises:
        InvalidVectorsError: saying both.
    """
    trained, judged = (
        (data.queries.shape[1], data.passages.shape[1]) for data in (train, validation)
    )
    if trained != judged:
        raise InvalidVectorsError(
            f"Training queries and passages have {trained[0]} and {trained[1]} dimensions, those "
            f"of validation {judged[0]} and {judged[1]}. Embed both with the same model."
        )
    if train.similarity != validation.similarity:
        raise InvalidVectorsError(
            f"Training compares vectors by {train.similarity!r}, validation by "
            f"{validation.similarity!r}. Give both the similarity of your vector store."
        )
