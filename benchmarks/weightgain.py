"""weightgain's training, reimplemented from its description.

The package itself needs Python 3.12 and calls embedding services by name, so it is not run here.
Source: the public repository shobrook/weightgain, version 1.0.0, after OpenAI's notebook on
customizing embeddings: one square matrix for queries and passages alike, a random normal start,
the mean squared error of the cosine against 1 (a pair) and -1 (two random texts), as many random
pairs as real ones, plain gradient descent at rate 100, batches of 100, 100 epochs, no dropout. The
epoch is kept whose cosines tell held-out pairs from random ones best.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.method import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

EPOCHS = 100
BATCH_SIZE = 100
LEARNING_RATE = 100.0
HELD_OUT = 0.2
"""The share of the pairs to choose the epoch by, when there is no validation set."""

_Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def train(data: VectorDataset, val: VectorDataset | None, *, seed: int) -> tuple[FloatArray, float]:
    """Train the matrix.

    Returns:
        It, ``(dim, dim)``, to multiply row vectors of queries and of passages by, and the seconds
        that training took.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    if val is None:
        held_out = rng.permutation(len(data.queries)) < HELD_OUT * len(data.queries)
        val = data.select_queries(np.flatnonzero(held_out))
        data = data.select_queries(np.flatnonzero(~held_out))
    left, right, label = _pairs(data, rng)
    judged = _pairs(val, rng)
    dim = data.queries.shape[1]
    matrix = torch.randn(dim, dim, generator=generator, requires_grad=True)
    best, best_accuracy = matrix.detach().clone(), -1.0
    started = time.perf_counter()
    for _ in range(EPOCHS):
        order = torch.randperm(len(left), generator=generator)
        for batch in torch.split(order, BATCH_SIZE):
            cosine = functional.cosine_similarity(left[batch] @ matrix, right[batch] @ matrix)
            (gradient,) = torch.autograd.grad(functional.mse_loss(cosine, label[batch]), matrix)
            with torch.no_grad():
                matrix -= LEARNING_RATE * gradient
        reached = _accuracy(judged, matrix)
        if reached > best_accuracy:
            best, best_accuracy = matrix.detach().clone(), reached
    return best.numpy(), time.perf_counter() - started


def _pairs(data: VectorDataset, rng: np.random.Generator) -> _Pairs:
    """Return two sides and labels: every relevant pair, and as many pairs of any two texts."""
    texts = np.concatenate([data.queries, data.passages])
    count = len(data.relevance.passages)
    sides = (data.relevance.queries, data.relevance.passages + len(data.queries))
    real = set(zip(*(side.tolist() for side in sides), strict=True))
    drawn: list[tuple[int, int]] = []
    while len(drawn) < count:
        one, other = sorted(rng.choice(len(texts), size=2, replace=False).tolist())
        if (one, other) not in real:
            drawn.append((one, other))
    random: NDArray[np.int64] = np.array(drawn, np.int64)
    left = np.concatenate([data.queries[data.relevance.queries], texts[random[:, 0]]])
    right = np.concatenate([data.passages[data.relevance.passages], texts[random[:, 1]]])
    label = np.repeat(np.array([1, -1], np.float32), count)
    return torch.from_numpy(left), torch.from_numpy(right), torch.from_numpy(label)


def _accuracy(pairs: _Pairs, matrix: torch.Tensor) -> float:
    """Return the share of pairs that the best threshold on the cosine puts on the right side."""
    left, right, label = pairs
    with torch.no_grad():
        cosine = functional.cosine_similarity(left @ matrix, right @ matrix)
    real = (label > 0)[torch.argsort(cosine, descending=True)].float()
    # Above a threshold are the first k: right are the real pairs there and the others below.
    right_above = torch.cat([torch.zeros(1), real.cumsum(0)])
    right_below = (1 - real).sum() - torch.cat([torch.zeros(1), (1 - real).cumsum(0)])
    return float((right_above + right_below).max() / len(label))
