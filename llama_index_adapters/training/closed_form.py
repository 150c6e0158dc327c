"""Adapters that need no gradient step: whitening, from vectors without any label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.ranking import Similarity, scoring_form
from llama_index_adapters.transforms import FloatArray

# How much of the second moment is replaced by a multiple of the identity; without it,
# directions that few vectors use would be blown up.
SHRINKAGE = 0.1


def whitening(
    passages: FloatArray,
    queries: FloatArray | None = None,
    *,
    passage_power: float,
    query_power: float = 0.0,
    similarity: Similarity = "cosine",
) -> NDArray[np.float32]:
    """Return the weight of a linear adapter that weighs rare directions of the corpus up.

    With ``C`` the second moment of the passages, a score ``q · C^-b p`` counts a direction
    the less, the more of the corpus shares it. The matrix is applied to the query, so passages
    stay as they are. At power 1/2 for either side it is whitening as in Su et al.,
    arXiv:2103.15316; smaller powers are milder.

    Args:
        passages: ``(n_passages, dim)`` of the corpus that is searched.
        queries: ``(n_queries, dim)`` any queries, labelled or not; needed for ``query_power``.
        passage_power: the power ``b`` of the passages' inverse second moment.
        query_power: the power of the queries' inverse second moment, applied first.
        similarity: how passages are compared.

    Returns:
        ``(dim, dim)`` with a mean diagonal of 1; ``q' = weight @ q``.
    """
    matrix, _ = scoring_form(passages, similarity)
    weight = inverse_power(matrix, passage_power)
    if query_power and queries is not None:
        weight = weight @ inverse_power(queries, query_power)
    return np.asarray(weight / np.mean(np.diag(weight)), dtype=np.float32)


def inverse_power(vectors: FloatArray, power: float) -> NDArray[np.float64]:
    """Return ``C^-power`` for the shrunk second moment ``C`` of the vectors ``(n, dim)``."""
    moment = (vectors.T @ vectors).astype(np.float64) / len(vectors)
    dim = len(moment)
    spread = np.trace(moment) / dim or 1.0
    shrunk = (1 - SHRINKAGE) * moment / spread + SHRINKAGE * np.eye(dim)
    values, directions = np.linalg.eigh(shrunk)
    result: NDArray[np.float64] = (directions * values**-power) @ directions.T
    return result
