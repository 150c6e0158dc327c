"""An adapter from a corpus alone, or from a corpus and a log of queries: no labels."""

from __future__ import annotations

import hashlib
from os import PathLike

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.adapters.disk.config import QueryModel
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.engines.data import (
    Unlabelled,
    require_usable,
    unlabelled_vectors,
)
from llama_index_adapters.errors import InvalidOptionError, InvalidVectorsError
from llama_index_adapters.files.text import as_path
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.checks import require_directions
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel

# Without labels nothing can be judged, so the corpus alone is whitened mildly.
PASSAGE_POWER = 0.125
PASSAGE_POWER_WITH_LOG, QUERY_POWER = 0.25, 0.25


def finetune_without_labels(
    corpus: Unlabelled,
    embed_model: BaseEmbedding,
    *,
    query_log: Unlabelled | None = None,
    model_output_path: str | PathLike[str] = "model_output",
    passage_power: float | None = None,
    query_power: float | None = None,
    similarity: Similarity = "cosine",
    store: str | PathLike[str] | None = None,
    show_progress: bool = True,
) -> AdapterEmbeddingModel:
    """Whiten a corpus, and queries if there is a log of them, and serve the result.

    It is the closed form of :func:`llama_index_adapters.training.closed_form.whitening`: a
    direction of the embedding space counts the less, the more vectors share it. Nothing is
    learned from answers and nothing is judged, so there is no promise that it helps: measure it
    with :func:`llama_index_adapters.evaluate` on a few labelled questions. With a few hundred of
    those, :class:`llama_index_adapters.EmbeddingAdapterFinetuneEngine` tries it among others.

    Args:
        corpus: texts (or vectors, ``(n, dim)``) of the passages that are searched.
        embed_model: the model the index was built with.
        query_log: texts (or vectors, ``(n, dim)``) of queries without known answers.
        model_output_path: directory the adapter is written to.
        passage_power: the power of the passages' inverse second moment; 0 leaves them out. 0.125
            when left out, 0.25 with a log.
        query_power: the same for the queries; needs a log. 0.25 when left out.
        similarity: how your vector store compares vectors.
        store: path of the store of vectors; the user's cache directory when left out.
        show_progress: show progress bars.

    Returns:
        The base model with the adapter on its query side.

    Raises:
        InvalidOptionError: for a value that cannot be used.
        InvalidVectorsError: when the vectors do not fit together.
        EmbeddingError: when the embedding model fails; what it gave before is stored.
    """
    from llama_index_adapters.adapters.learned.linear import LinearAdapter
    from llama_index_adapters.training.closed_form import whitening

    model = IdentifiedModel(embed_model)
    output = as_path(model_output_path, "model_output_path")
    require_own_directory(output)
    if similarity not in SIMILARITIES:
        raise InvalidOptionError(
            f"similarity is {similarity!r}; use one of {', '.join(SIMILARITIES)}."
        )
    if passage_power is None:
        passage_power = PASSAGE_POWER if query_log is None else PASSAGE_POWER_WITH_LOG
    if query_power is None:
        query_power = 0.0 if query_log is None else QUERY_POWER
    for name, power in (("passage_power", passage_power), ("query_power", query_power)):
        if not isinstance(power, int | float) or not 0 <= power <= 1:
            raise InvalidOptionError(f"{name} is {power!r}; give a number from 0 to 1.")
    if query_power and query_log is None:
        raise InvalidOptionError(
            f"query_power is {query_power:g}, but there are no queries. Give query_log too."
        )
    require_usable(corpus, "corpus", embed_model)
    if query_log is not None:
        require_usable(query_log, "query_log", embed_model)
    store = None if store is None else as_path(store, "store")
    given = {"target_corpus": corpus} | ({} if query_log is None else {"query_log": query_log})
    vectors = unlabelled_vectors(given, Embedder(model, store, show_progress=show_progress))
    passages = vectors.by_name["target_corpus"]
    queries = vectors.by_name.get("query_log")
    if not passages.any():
        raise InvalidVectorsError(
            f"The {len(passages)} vectors of the corpus are all zero. Embed it again."
        )
    if queries is not None:
        require_directions(queries, "query_log")
    if queries is not None and queries.shape[1] != passages.shape[1]:
        raise InvalidVectorsError(
            f"query_log has vectors of {queries.shape[1]} dimensions, the corpus "
            f"{passages.shape[1]}. Embed both with the same model."
        )
    weight = whitening(
        passages,
        queries,
        passage_power=passage_power,
        query_power=query_power,
        similarity=similarity,
    )
    adapter = LinearAdapter(weight.shape[1], weight.shape[0])
    adapter.load_arrays({"linear.weight": weight})
    digest = hashlib.sha256(np.ascontiguousarray(passages).data)
    if queries is not None:
        digest.update(np.ascontiguousarray(queries).data)
    metadata = AdapterMetadata(
        query_models=(QueryModel(name=model.label, identity=model.identity),),
        query_dim=weight.shape[1],
        passage_dim=weight.shape[0],
        training={
            "adapter": "whitening",
            "passage_power": passage_power,
            "query_power": query_power,
            "similarity": similarity,
        },
        data={
            "fingerprint": digest.hexdigest(),
            "queries": 0 if queries is None else len(queries),
            "passages": len(passages),
        },
        metrics={},
    )
    save_adapter(output, adapter, metadata=metadata)
    return AdapterEmbeddingModel(embed_model, output)
