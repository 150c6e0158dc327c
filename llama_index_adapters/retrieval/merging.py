"""Several question sets of vectors become one, by the ids of their queries and passages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidDatasetError, InvalidVectorsError
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

# A service answers the same text with vectors that differ about as much.
_ROUNDING = 1e-3
_ROWS_PER_STEP = 2**14


def merge_vectors(parts: Sequence[VectorDataset]) -> VectorDataset:
    """Return one question set with the queries, passages and relevance of all.

    Args:
        parts: at least one.

    Raises:
        InvalidDatasetError: when an id stands for one vector here and for another there, or for
            two rows of one set.
        InvalidVectorsError: for vectors of different models, dimensions or similarities.
    """
    first = parts[0]
    for part in parts[1:]:
        _require_alike(first, part)
    rows = [_rows_of(part.passage_ids, "passage") for part in parts]
    largest = max(range(len(parts)), key=lambda number: len(parts[number].passages))
    whole = parts[largest]
    passages, passage_ids, search = whole.passages, whole.passage_ids, whole.search
    if not all(rows[largest].keys() >= of_part.keys() for of_part in rows):
        passages, passage_ids = _joined(
            [part.passages for part in parts], [part.passage_ids for part in parts], "passage"
        )
        search = None
    else:
        for part in parts:
            if part.passages is passages and part.passage_ids == passage_ids:
                continue  # sides of one split, or the whole itself
            places = np.array([rows[largest][name] for name in part.passage_ids])
            _require_same(part.passages, passages, places, part.passage_ids, "passage")
    queries, query_ids = _joined(
        [part.queries for part in parts], [part.query_ids for part in parts], "query"
    )
    return VectorDataset(
        queries,
        passages,
        _relevance(parts, _rows_of(query_ids, "query"), _rows_of(passage_ids, "passage")),
        similarity=first.similarity,
        query_ids=query_ids,
        passage_ids=passage_ids,
        search=search,
        blocks=first.blocks,
    )


def _require_alike(first: VectorDataset, other: VectorDataset) -> None:
    if first.similarity != other.similarity:
        raise InvalidVectorsError(
            f"One set of vectors is compared by {first.similarity}, another by "
            f"{other.similarity}; merge sets of one index."
        )
    # They say the models of the queries, as far as that is known, and their dimensions.
    if first.blocks != other.blocks or first.passages.shape[1] != other.passages.shape[1]:
        described = " and ".join(
            f"{' + '.join(block.name or f'{block.dim} dimensions' for block in data.blocks)} "
            f"over passages of {data.passages.shape[1]}"
            for data in (first, other)
        )
        raise InvalidVectorsError(
            f"The sets of vectors have queries of different models: {described}. Merge sets of "
            "one index, made with the same query_embed_models."
        )


def _rows_of(ids: Sequence[str], noun: str) -> dict[str, int]:
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(name for row, name in enumerate(ids) if rows[name] != row)
        raise InvalidDatasetError(
            f"The {noun} id {twice!r} stands for two rows of one set. Give each {noun} an id of "
            "its own before merging."
        )
    return rows


def _joined(
    matrices: Sequence[FloatArray], ids: Sequence[Sequence[str]], noun: str
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the rows of all, each id once, in the order in which they come."""
    matrix, known = matrices[0], _rows_of(ids[0], noun)
    for more, names in zip(matrices[1:], ids[1:], strict=True):
        _rows_of(names, noun)
        places = np.array([known.get(name, -1) for name in names])
        _require_same(more, matrix, places, names, noun)
        new = np.flatnonzero(places < 0)
        matrix = np.concatenate([matrix, more[new]]) if new.size else matrix
        for row in new.tolist():
            known[names[row]] = len(known)
    return matrix, tuple(known)


def _require_same(
    vectors: FloatArray,
    others: FloatArray,
    places: NDArray[np.int64],
    ids: Sequence[str],
    noun: str,
) -> None:
    """Refuse vectors that are not those at their places among others; -1 stands for none."""
    shared = np.flatnonzero(places >= 0)
    for start in range(0, len(shared), _ROWS_PER_STEP):
        rows = shared[start : start + _ROWS_PER_STEP]
        one, other = vectors[rows], others[places[rows]]
        apart = np.linalg.norm(one - other, axis=1) > _ROUNDING * np.linalg.norm(other, axis=1)
        if apart.any():
            raise InvalidDatasetError(
                f"The {noun} id {ids[rows[np.argmax(apart)]]!r} stands for one vector in one set "
                f"and for another in the next. Give each {noun} an id of its own before merging; "
                "an index that was built anew needs its labels made into a dataset again."
            )


def _relevance(
    parts: Sequence[VectorDataset], query_rows: dict[str, int], passage_rows: dict[str, int]
) -> Relevance:
    queries, passages, grades = [], [], []
    for part in parts:
        of_query = np.array([query_rows[name] for name in part.query_ids])
        of_passage = np.array([passage_rows[name] for name in part.passage_ids])
        queries.append(of_query[part.relevance.queries])
        passages.append(of_passage[part.relevance.passages])
        grades.append(part.relevance.gains)
    together = Relevance.from_pairs(
        np.concatenate(queries), np.concatenate(passages), np.concatenate(grades), len(query_rows)
    )
    return together.distinct(len(passage_rows))
