"""Chroma's recipe for query adapters, written in torch from its description.

Source: S. Sanjeev and A. Troynikov, Embedding Adapters, Chroma technical report,
https://research.trychroma.com/embedding-adapters, and the options of its experiments in the public
repository suvansh/ChromaAdaptEmbed (``run_linear_launcher.py``): a linear layer with a bias on
queries only, its usual random start, AdamW at 0.003, ten epochs, batches of 256, five random
negatives for each query, and no validation. The loss is summed over a batch. Two losses are
published: a triplet margin (0.3) on euclidean distances, and the squared error of the cosine
against 1 for a relevant and 0 for a random passage.

``in-batch`` takes the triplet margin over every other passage of the batch instead of random ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.method import FloatArray
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

Loss = Literal["triplet", "pairwise", "in-batch"]

EPOCHS = 10
BATCH_SIZE = 256
LEARNING_RATE = 3e-3
MARGIN = 0.3
NEGATIVES = 5

_Rows = NDArray[np.int64]


def train(data: VectorDataset, loss: Loss, *, seed: int) -> tuple[torch.nn.Linear, float]:
    """Train a linear query adapter.

    Returns:
        The layer, and the seconds that training took.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    dim, passage_dim = data.queries.shape[1], data.passages.shape[1]
    layer = torch.nn.Linear(dim, passage_dim)
    bound = dim**-0.5  # torch's own start of a linear layer, from a generator of ours
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
    queries, passages = torch.from_numpy(data.queries), torch.from_numpy(data.passages)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE)
    examples = _examples(data.relevance, len(passages), loss, rng)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in _batches(examples, rng):
            optimizer.zero_grad()
            _summed_loss(layer, queries, passages, batch, loss, data.relevance).backward()
            optimizer.step()
    return layer, time.perf_counter() - started


def adapted(layer: torch.nn.Linear, queries: FloatArray) -> FloatArray:
    """Return queries ``(n, dim)`` as the layer maps them."""
    with torch.no_grad():
        mapped: FloatArray = layer(torch.from_numpy(queries)).numpy()
    return mapped


def _examples(relevance: Relevance, n_passages: int, loss: Loss, rng: np.random.Generator) -> _Rows:
    """``(n, 3)``: query, relevant passage, random passage; for in-batch the first two count.

    For pairwise the second passage is labelled by the third column, 1 or 0.
    """
    pairs = np.stack([relevance.queries, relevance.passages], axis=1)
    if loss == "in-batch":
        return np.concatenate([pairs, np.zeros((len(pairs), 1), np.int64)], axis=1)
    relevant = set(map(tuple, pairs.tolist()))
    rows: list[tuple[int, int, int]] = []
    for query, passage in pairs.tolist():
        drawn = rng.choice(n_passages, size=min(NEGATIVES, n_passages), replace=False).tolist()
        negatives = [row for row in drawn if (query, row) not in relevant]
        if loss == "triplet":
            rows += [(query, passage, negative) for negative in negatives]
        else:
            rows += [(query, passage, 1), *((query, negative, 0) for negative in negatives)]
    return np.array(rows, np.int64)


def _batches(examples: _Rows, rng: np.random.Generator) -> Iterator[_Rows]:
    order = rng.permutation(len(examples))
    for start in range(0, len(order), BATCH_SIZE):
        yield examples[order[start : start + BATCH_SIZE]]


def _summed_loss(
    layer: torch.nn.Linear,
    queries: torch.Tensor,
    passages: torch.Tensor,
    batch: _Rows,
    loss: Loss,
    relevance: Relevance,
) -> torch.Tensor:
    mapped = layer(queries[torch.from_numpy(batch[:, 0])])
    positives = passages[torch.from_numpy(batch[:, 1])]
    if loss == "pairwise":
        wanted = torch.from_numpy(batch[:, 2]).float()
        cosine = functional.cosine_similarity(mapped, positives, dim=1)
        return functional.mse_loss(cosine, wanted, reduction="sum")
    if loss == "triplet":
        negatives = passages[torch.from_numpy(batch[:, 2])]
        return functional.triplet_margin_loss(
            mapped, positives, negatives, margin=MARGIN, reduction="sum"
        )
    distances = torch.cdist(mapped, positives)
    wrong = torch.from_numpy(
        np.stack([~np.isin(batch[:, 1], relevance[int(query)]) for query in batch[:, 0]])
    )
    violations = (distances.diagonal()[:, None] - distances + MARGIN).clamp_min(0)
    # The mean over negatives, so that a query weighs as much as with one sampled negative.
    counts = wrong.sum(dim=1).clamp_min(1)
    return ((violations * wrong).sum(dim=1) / counts).sum()
