"""An adapter from a corpus alone, or from a corpus and a log of queries: no labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.adapters.disk.asked_section import asked_section
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.checks import as_path, require_number, require_one_of, require_seed
from llama_index_adapters.engines.alignment import align_query_model, drawn_passages, save_alignment
from llama_index_adapters.engines.data import (
    Unlabelled,
    require_usable,
    unlabelled_vectors,
)
from llama_index_adapters.errors import InvalidOptionError, InvalidVectorsError
from llama_index_adapters.index.corpus import IndexCorpus
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.asked_passages import AskedPassages
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.checks import require_directions
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.query_models import QueryModels

# Without labels nothing can be judged, so the corpus alone is whitened little.
PASSAGE_POWER = 0.125
PASSAGE_POWER_WITH_LOG, QUERY_POWER = 0.25, 0.25


def finetune_without_labels(
    corpus: Unlabelled | IndexCorpus,
    embed_model: BaseEmbedding | None,
    *,
    query_log: Unlabelled | None = None,
    query_embed_models: Sequence[BaseEmbedding] | None = None,
    model_output_path: str | PathLike[str] = "model_output",
    passage_power: float | None = None,
    query_power: float | None = None,
    similarity: Similarity = "cosine",
    seed: int = 0,
    store: str | PathLike[str] | None = None,
    show_progress: bool = True,
) -> AdapterEmbeddingModel:
    """Make an adapter of a corpus, and of queries if there is a log of them, and serve it.

    **With the index's own model** the corpus is whitened, see
    :func:`llama_index_adapters.training.closed_form.whitening`: a direction of the embedding
    space counts the less, the more vectors share it. Nothing is learned from answers and nothing
    is judged, so there is no promise that it helps: measure it with
    :func:`llama_index_adapters.evaluate` on a few labelled questions. With a few hundred of those,
    :class:`llama_index_adapters.EmbeddingAdapterFinetuneEngine` tries it among others.

    **With another model for the queries** (``query_embed_models=[other]``) the index stays as its
    model made it, and the other model's queries are mapped into its space: see
    :func:`llama_index_adapters.alignment.align.align`. The other model embeds at most a thousand
    passages of the corpus, and the log. What the map keeps of the other model's own ranking is in
    ``model.metadata.training["alignment"]``.

    Args:
        corpus: the passages that are searched: texts, vectors ``(n, dim)``, or an index as
            :func:`llama_index_adapters.read_index` gives it. Another model needs their texts too.
        embed_model: the model the index was built with; may be None when ``query_embed_models``
            are given and the corpus is an index.
        query_log: texts (or vectors, ``(n, dim)``) of queries without known answers. Another model
            needs texts.
        query_embed_models: ``[other]``, the model that embeds queries instead of ``embed_model``.
        model_output_path: directory the adapter is written to.
        passage_power: the power of the passages' inverse second moment; 0 leaves them out. 0.125
            when left out, 0.25 with a log.
        query_power: the same for the queries; needs a log. 0.25 when left out.
        similarity: how your vector store compares vectors; an index says it itself.
        seed: of the passages that are drawn, and of what the choice among maps is judged on.
        store: path of the store of vectors; the user's cache directory when left out.
        show_progress: show progress bars.

    Returns:
        The model with the adapter on its query side.

    Raises:
        InvalidOptionError: for a value that cannot be used.
        InvalidVectorsError: when the vectors do not fit together.
        EmbeddingError: when an embedding model fails; what it gave before is stored.
    """
    models = QueryModels.of(embed_model, query_embed_models)
    output = as_path(model_output_path, "model_output_path")
    require_own_directory(output)
    require_one_of(similarity, "similarity", SIMILARITIES)
    require_seed(seed)
    store = None if store is None else as_path(store, "store")
    if not models.is_base_alone:
        if passage_power is not None or query_power is not None:
            raise InvalidOptionError(
                "passage_power and query_power are of whitening, and query_embed_models asks for a "
                "map between two models. Leave the powers out."
            )
        passages = drawn_passages(corpus, models, store, seed=seed, show_progress=show_progress)
        aligned = align_query_model(
            passages, models, query_log, store=store, seed=seed, show_progress=show_progress
        )
        save_alignment(output, models, aligned, passages)
        return AdapterEmbeddingModel(embed_model, output, query_embed_models=query_embed_models)
    model = models.models[0]
    powers = WhiteningPowers.chosen(passage_power, query_power, has_log=query_log is not None)
    parts: dict[str, Unlabelled] = {} if query_log is None else {"query_log": query_log}
    if isinstance(corpus, IndexCorpus):
        similarity = corpus.similarity
        parts = {"corpus": corpus.vectors, **parts}
    else:
        parts = {"corpus": corpus, **parts}
    for name, part in parts.items():
        require_usable(part, name, embed_model)
    vectors = unlabelled_vectors(parts, Embedder(model, store, show_progress=show_progress))
    stored, queries = vectors.by_name["corpus"], vectors.by_name.get("query_log")
    _require_fitting(stored, queries)
    _save_whitening(output, model, stored, queries, powers, similarity)
    return AdapterEmbeddingModel(embed_model, output)


@dataclass(frozen=True)
class WhiteningPowers:
    """How far passages and queries are whitened.

    Attributes:
        passages: the power of the passages' inverse second moment, from 0 to 1.
        queries: the same for the queries; 0 leaves them out.

    Raises:
        InvalidOptionError: for a power outside of that.
    """

    passages: float
    queries: float

    def __post_init__(self) -> None:
        """Refuse what is no power."""
        require_number(self.passages, "passage_power", least=0, most=1)
        require_number(self.queries, "query_power", least=0, most=1)

    @classmethod
    def chosen(
        cls, passages: float | None, queries: float | None, *, has_log: bool
    ) -> WhiteningPowers:
        """Return what a user chose, and the defaults for the rest.

        Raises:
            InvalidOptionError: for a power outside 0 to 1, or one of queries that are not there.
        """
        if passages is None:
            passages = PASSAGE_POWER_WITH_LOG if has_log else PASSAGE_POWER
        if queries is None:
            queries = QUERY_POWER if has_log else 0.0
        powers = cls(passages, queries)
        if powers.queries and not has_log:
            raise InvalidOptionError(
                f"query_power is {queries:g}, but there are no queries. Give query_log too."
            )
        return powers


def _require_fitting(passages: FloatArray, queries: FloatArray | None) -> None:
    if not passages.any():
        raise InvalidVectorsError(
            f"The {len(passages)} vectors of the corpus are all zero. Embed it again."
        )
    if queries is None:
        return
    require_directions(queries, "query_log")
    if queries.shape[1] != passages.shape[1]:
        raise InvalidVectorsError(
            f"query_log has vectors of {queries.shape[1]} dimensions, the corpus "
            f"{passages.shape[1]}. Embed both with the same model."
        )


def _save_whitening(
    output: Path,
    model: IdentifiedModel,
    passages: FloatArray,
    queries: FloatArray | None,
    powers: WhiteningPowers,
    similarity: Similarity,
) -> None:
    from llama_index_adapters.adapters.learned.linear import LinearAdapter
    from llama_index_adapters.training.closed_form import whitening

    weight = whitening(
        passages,
        queries,
        passage_power=powers.passages,
        query_power=powers.queries,
        similarity=similarity,
    )
    adapter = LinearAdapter(weight.shape[1], weight.shape[0])
    adapter.load_arrays({"linear.weight": weight})
    digest = hashlib.sha256(np.ascontiguousarray(passages).data)
    if queries is not None:
        digest.update(np.ascontiguousarray(queries).data)
    metadata = AdapterMetadata(
        query_models=QueryModels(model, (model,)).saved([weight.shape[1]]),
        query_dim=weight.shape[1],
        passage_dim=weight.shape[0],
        training={
            "adapter": "whitening",
            "passage_power": powers.passages,
            "query_power": powers.queries,
            "similarity": similarity,
        },
        data={
            "fingerprint": digest.hexdigest(),
            "queries": 0 if queries is None else len(queries),
            "passages": len(passages),
        },
        sections=asked_section(AskedPassages()),  # no question asked about any
    )
    save_adapter(output, adapter, metadata=metadata)
