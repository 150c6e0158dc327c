"""The vectors that an adapted model is measured on: passages, queries, and what base they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.metadata import WITHOUT_LABELS
from llama_index_adapters.errors import InvalidOptionError, InvalidVectorsError
from llama_index_adapters.evaluation.comparison import BaseIs
from llama_index_adapters.questions.question_set import Questions, as_dataset
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.asked_passages import AskedPassages
from llama_index_adapters.retrieval.ranking import Similarity, unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.embed import EmbeddedDataset, Embedder, EmbeddingCost
from llama_index_adapters.vectors.query_models import QueryEmbedder
from llama_index_adapters.vectors.store import EmbeddingStore


def embedded_for(
    model: AdapterEmbeddingModel,
    dataset: Questions | VectorDataset,
    store: EmbeddingStore | Path | str | None,
    *,
    similarity: Similarity,
    show_progress: bool,
) -> EmbeddedDataset:
    """Return a question set as the vectors that an adapted model takes.

    Args:
        model: the adapted model.
        dataset: texts, or vectors as ``IndexCorpus.dataset(labels, ...)`` gives them.
        store: an open store of vectors, or the path of one.
        similarity: how the vector store compares; vectors say it themselves.
        show_progress: show a progress bar while a model works.

    Raises:
        InvalidOptionError: for texts when the model of the index is gone.
        ModelMismatchError: for vectors of other models.
        EmbeddingError: when a model fails; what it gave before is stored.
    """
    models = model.query_models
    if isinstance(dataset, VectorDataset):
        models.require_blocks(dataset.blocks, "dataset")
        return EmbeddedDataset(dataset, EmbeddingCost())
    if models.base is None:
        raise InvalidOptionError(
            "dataset holds texts, and the model has no base_embed_model to embed passages with. "
            "Give the vectors of the index: read_index(index, check_model=False)"
            ".dataset(labels, query_embed_models=[...])."
        )
    passages = Embedder(models.base, store, show_progress=show_progress)
    queries = QueryEmbedder(models, store, show_progress=show_progress)
    return queries.dataset(dataset, passages, similarity=similarity)


def base_of(model: AdapterEmbeddingModel, data: VectorDataset) -> tuple[FloatArray, BaseIs]:
    """Return the base vectors of queries ``(n_queries, passage_dim)``, and what they are.

    Raises:
        InvalidVectorsError: when there is nothing to compare with.
    """
    own = data.base_queries
    if own is not None:
        return own, "model"
    section = model.metadata.sections.get(WITHOUT_LABELS)
    if section is None or "weight" not in section.arrays:
        raise InvalidVectorsError(
            "The queries do not come from the model of the index, and the adapter has no map "
            "without labels: there is nothing to compare with. compare_adapters compares two "
            "adapters."
        )
    weight = np.asarray(section.arrays["weight"], np.float32)
    mapped: FloatArray = unit_rows(data.queries) @ weight.T
    return mapped, "map without labels"


def passages_for(model: AdapterEmbeddingModel, data: VectorDataset) -> FloatArray | None:
    """Return the passages as an adapter maps them; None where they stay as they are."""
    return model.transform_passages(data.passages) if model.maps_passages else None


def seen_by(
    known: Sequence[AskedPassages | None], data: VectorDataset, dataset: Questions | VectorDataset
) -> NDArray[np.bool_] | None:
    """Return for each question whether training asked about a passage of it.

    Args:
        known: what each adapter says was asked about; None where it does not say.
        data: the question set as vectors.
        dataset: as it was given.

    Returns:
        ``(n_queries,)``; None where it cannot be told.
    """
    asked = AskedPassages()
    for one in known:
        if one is None:
            return None
        asked |= one
    texts = None if isinstance(dataset, VectorDataset) else as_dataset(dataset).corpus
    if texts is None and asked.texts.size and not asked.vectors.size:
        return None  # known by their texts, which are not here
    return asked.seen_by(data, texts)
