"""Adapters that need no gradient step: whitening, regression and differences from labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import Similarity, row_blocks, scoring_form, unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

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
    weight = inverse_power(passages, passage_power, similarity)
    if query_power and queries is not None:
        weight = weight @ inverse_power(queries, query_power)
    return np.asarray(weight / np.mean(np.diag(weight)), dtype=np.float32)


def inverse_power(
    vectors: FloatArray,
    power: float,
    similarity: Similarity = "dot_product",
    *,
    shrinkage: float = SHRINKAGE,
) -> NDArray[np.float64]:
    """Return ``C^-power`` for the shrunk second moment ``C`` of the vectors ``(n, dim)``.

    For cosine it is the moment of the unit vectors. Memory does not grow with their number.
    """
    values, directions = shrunk_moment(vectors, similarity, shrinkage)
    result: NDArray[np.float64] = (directions * values**-power) @ directions.T
    return result


def shrunk_moment(
    vectors: FloatArray, similarity: Similarity = "dot_product", shrinkage: float = SHRINKAGE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shrunk second moment of the vectors ``(n, dim)``, taken apart.

    Returns:
        Its eigenvalues ``(dim,)``, rising, with a mean of 1, and its eigenvectors in the columns
        of ``(dim, dim)``.
    """
    blocks = (scoring_form(block, similarity)[0] for block in row_blocks(vectors))
    sums = [(block.T @ block).astype(np.float64) for block in blocks]
    moment = np.sum(sums, axis=0) / len(vectors)
    dim = len(moment)
    mean_square = np.trace(moment) / dim or 1.0
    shrunk = (1 - shrinkage) * moment / mean_square + shrinkage * np.eye(dim)
    values, directions = np.linalg.eigh(shrunk)
    return values, directions


def truncated_pca(
    passages: FloatArray, dim: int, *, power: float = 0.0, similarity: Similarity = "cosine"
) -> NDArray[np.float32]:
    """Return a map of queries and passages to the directions that passages use most.

    Of all maps to so many dimensions it keeps the most of the passages' second moment: principal
    components without centring, since a search compares vectors and not their deviations from a
    mean. Its rows are orthogonal, so that at power 0 inner products within these directions stay.

    Args:
        passages: ``(n_passages, passage_dim)`` of the corpus that is searched.
        dim: how many dimensions to keep.
        power: the power of the inverse second moment by which directions are weighed, half of it
            on either side; see :func:`whitening`.
        similarity: how passages are compared.

    Returns:
        ``(dim, passage_dim)`` with rows of a mean square length of 1.
    """
    values, directions = shrunk_moment(passages, similarity)
    kept = directions[:, ::-1][:, :dim].T * values[::-1][:dim, None] ** (-power / 2)
    # An eigenvector may point either way; its largest entry is made positive.
    largest = np.abs(kept).argmax(axis=1)
    kept = kept * np.sign(kept[np.arange(dim), largest])[:, None]
    return np.asarray(kept / np.sqrt((kept**2).sum(axis=1).mean()), dtype=np.float32)


def regression(
    data: VectorDataset, *, pull: float, around: FloatArray | None = None
) -> NDArray[np.float32]:
    """Return the linear map from queries to their passages, pulled toward another map.

    It minimises ``sum |W q - p|^2 + pull · n · s · |W - W_0|^2`` over the training queries ``q``
    of unit length and the mean ``p`` of their relevant passages: ridge regression (Hoerl and
    Kennard, 1970) around ``W_0``, with ``s`` the mean variance of the queries per direction.

    Args:
        data: the training set.
        pull: how strongly ``W_0`` holds; at 0 it is plain least squares.
        around: ``(passage_dim, query_dim)`` ``W_0``; the identity when left out, for queries and
            passages of one dimension.

    Returns:
        ``(passage_dim, query_dim)``; ``q' = weight @ q``.
    """
    queries, targets = unit_rows(data.queries), unit_rows(mean_passages(data))
    dim, count = queries.shape[1], len(queries)
    moment = (queries.T @ queries).astype(np.float64)
    pulled = pull * count * (np.trace(moment) / count / dim) * np.eye(dim)
    crossed = (targets.T @ queries).astype(np.float64)
    held = pulled if around is None else around.astype(np.float64) @ pulled
    weight = np.linalg.solve(moment + pulled, (crossed + held).T).T
    return np.asarray(weight, dtype=np.float32)


def difference_whitening(data: VectorDataset, *, power: float) -> NDArray[np.float32]:
    """Return a map that weighs down the directions in which queries differ from their passages.

    With ``D`` the second moment of ``q - p`` over the training queries, ``D^-power``: within-class
    covariance normalisation (Hatch, Kajarekar and Stolcke, Interspeech 2006). What wording adds to
    a query is much the same whatever passage it is about, so this helps for passages that nobody
    asked about too. ``D`` is shrunk by ``dim / (n + dim)``, as if it had been seen to be the
    same in all directions by as many queries as there are dimensions.

    Args:
        data: the training set, with queries and passages of one dimension.
        power: 1 would make all directions differ alike; smaller powers are milder.

    Returns:
        ``(dim, dim)`` with a mean diagonal of 1; ``q' = weight @ q``.
    """
    differences = unit_rows(data.queries) - unit_rows(mean_passages(data))
    count, dim = differences.shape
    weight = inverse_power(differences, power, shrinkage=dim / (count + dim))
    return np.asarray(weight / np.mean(np.diag(weight)), dtype=np.float32)


def mean_passages(data: VectorDataset) -> FloatArray:
    """Return the mean of the passages relevant to each query, ``(n_queries, passage_dim)``.

    For cosine it is the mean of the unit vectors. A passage weighs as much as its grade.
    """
    relevant, _ = scoring_form(data.passages[data.relevance.passages], data.similarity)
    starts, weights = data.relevance.offsets[:-1], data.relevance.counts
    if data.relevance.grades is not None:
        relevant = relevant * data.relevance.grades[:, None].astype(np.float32)
        weights = np.add.reduceat(data.relevance.grades, starts)
    sums = np.add.reduceat(relevant, starts)
    return np.asarray(sums / weights[:, None], dtype=np.float32)
