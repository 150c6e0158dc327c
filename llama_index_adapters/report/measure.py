"""What a report shows of one adapter, as numbers: ranks, metrics, and a map of the questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.asked_section import read_asked_section
from llama_index_adapters.evaluation.asked import base_of, embedded_for, passages_for, seen_by
from llama_index_adapters.evaluation.comparison import (
    Comparison,
    compare,
    compare_queries,
    over_passages,
)
from llama_index_adapters.evaluation.paired import differences_of
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import Similarity, TopK, metrics_at_k, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.store import EmbeddingStore

K = 10
KS = (1, 3, 5, 10, 20, 50)
DEPTH = 100
_RESAMPLES = 2_000  # for the intervals at other k; that at 10 is the one of evaluate


@dataclass(frozen=True)
class Measured:
    """Base and adapted on the same questions.

    Attributes:
        data: the questions as vectors.
        base_queries: ``(n_queries, passage_dim)`` what is compared with.
        comparison: at 10, with seen and unseen passages.
        by_k: the same at each of :data:`KS` that the corpus is large enough for.
        before: the best passages of the base vectors, at most :data:`DEPTH`.
        after: the same, adapted.
        rank_before: ``(n_queries,)`` the rank of the first relevant passage, from 1; 0 when it is
            not among ``before``.
        rank_after: the same, adapted.
        texts_embedded: how many texts the base model was asked for.
        seconds: wall-clock seconds of embedding them.
    """

    data: VectorDataset
    base_queries: FloatArray
    comparison: Comparison
    by_k: Mapping[int, Comparison]
    before: TopK
    after: TopK
    rank_before: NDArray[np.int64]
    rank_after: NDArray[np.int64]
    texts_embedded: int
    seconds: float

    @property
    def changes(self) -> NDArray[np.float64]:
        """``(n_queries,)`` adapted minus base in nDCG@10."""
        per_query = self.comparison.per_query
        return differences_of(per_query.base, per_query.adapted, self.comparison.metric)


def measure(
    model: AdapterEmbeddingModel,
    dataset: Questions | VectorDataset,
    *,
    store: EmbeddingStore | Path | str | None,
    similarity: Similarity,
    seed: int,
    show_progress: bool,
) -> Measured:
    """Rank the whole corpus for every question, before and after.

    Raises:
        InvalidDatasetError: when the parts of the dataset do not fit together.
        InvalidVectorsError: for vectors that there is nothing to compare with.
        EmbeddingError: when the base model fails.
        ModelMismatchError: for vectors of other models.
    """
    embedded = embedded_for(
        model, dataset, store, similarity=similarity, show_progress=show_progress
    )
    data = embedded.data
    base = base_of(model, data)[0]
    adapted = model.transform_queries(data.queries)
    seen = seen_by([read_asked_section(model.metadata.sections)], data, dataset)
    mapped = passages_for(model, data)
    over = data if mapped is None else over_passages(data, mapped, adapted)
    before, after = data.top_k(base, DEPTH), over.top_k(adapted, DEPTH)
    by_k = {
        k: compare(
            *(metrics_at_k(top, data.relevance, k) for top in (before, after)),
            seed=seed,
            n_resamples=_RESAMPLES,
        )
        for k in KS
        if k <= max(1, len(data.passages))
    }
    comparison = compare_queries(
        data, adapted, base_queries=base, adapted_passages=mapped, k=K, seed=seed, seen=seen
    )
    if K in by_k:
        by_k[K] = comparison
    return Measured(
        data,
        base,
        comparison,
        by_k,
        before,
        after,
        first_relevant_ranks(before, data.relevance),
        first_relevant_ranks(after, data.relevance),
        embedded.cost.texts,
        embedded.cost.seconds,
    )


def first_relevant_ranks(top: TopK, relevance: Relevance) -> NDArray[np.int64]:
    """Return the rank of each question's first relevant passage, from 1; 0 for none in ``top``."""
    rows = int(max(top.passages.max(initial=-1), relevance.passages.max(initial=-1))) + 1
    judged = relevance.queries * rows + relevance.passages
    keys = np.arange(len(top.passages))[:, None] * rows + top.passages
    hits = np.isin(keys, judged)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)


@dataclass(frozen=True)
class Hub:
    """A passage that comes up for many questions.

    Attributes:
        row: its row in the corpus.
        relevant: how many questions it answers.
        before: for how many it is among the first 10 of the base vectors.
        after: the same, adapted.
    """

    row: int
    relevant: int
    before: int
    after: int


def most_frequent_passages(measured: Measured, count: int = 10) -> list[Hub]:
    """Return the passages that most often come up for questions that they do not answer."""
    data = measured.data
    n_passages = len(data.passages)
    pairs = np.unique(data.relevance.queries * n_passages + data.relevance.passages)
    relevant = np.bincount(pairs % n_passages, minlength=n_passages)
    before, after = (
        np.bincount(top.passages[:, :K].ravel(), minlength=n_passages)
        for top in (measured.before, measured.after)
    )
    excess = np.maximum(before, after) - relevant
    order = np.argsort(-excess, kind="stable")[:count]
    return [
        Hub(int(row), int(relevant[row]), int(before[row]), int(after[row]))
        for row in order
        if excess[row] > 0
    ]


def question_map(queries: FloatArray) -> tuple[FloatArray, float]:
    """Return the two principal components of query vectors, and what they show.

    Principal component analysis of the vectors at unit length, by the eigenvectors of their
    covariance (Jolliffe, Principal Component Analysis, chapter 1). The sign of each component is
    the one that makes its largest coefficient positive.

    Args:
        queries: ``(n_queries, dim)``.

    Returns:
        ``(n_queries, 2)``, and the share of the variance that lies in them.
    """
    centred = unit_rows(queries).astype(np.float64)
    centred -= centred.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = np.zeros((len(centred), 2), np.float32)
    places[:, : axes.shape[1]] = centred @ axes
    total = float(values.sum())
    return places, float(values[::-1][:2].sum()) / total if total > 0 else 0.0


def most_changed(measured: Measured, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return at most ``count`` rows each of the questions that got better and worse most."""
    comparison = measured.comparison
    return comparison.best(count).tolist(), comparison.worst(count).tolist()
