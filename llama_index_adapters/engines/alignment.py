"""A new model's queries on an old index: what is embedded for it, and what is saved."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.alignment.align import Alignment, align
from llama_index_adapters.engines.data import Unlabelled, require_usable
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.index.corpus import IndexCorpus
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.vectors.embed import Embedder, checked_texts
from llama_index_adapters.vectors.query_models import (
    QueryEmbedder,
    QueryModels,
    median_length,
    sampled_rows,
)


@dataclass(frozen=True, eq=False)
class Passages:
    """Passages of an index, of which some are embedded again by another model.

    Attributes:
        texts: of the drawn passages, as they were embedded.
        stored: ``(n, dim)`` their vectors in the index.
        length: the median length of all passages.
        count: how many passages there are.
    """

    texts: list[str]
    stored: FloatArray
    length: float
    count: int


def drawn_passages(
    corpus: Unlabelled | IndexCorpus,
    models: QueryModels,
    store: Path | None,
    *,
    seed: int = 0,
    show_progress: bool = True,
) -> Passages:
    """Draw at most a thousand passages of a corpus, with their texts.

    Args:
        corpus: texts, or an index.
        models: embed the texts, where they are not in an index.
        store: path of the store of vectors.
        seed: the same seed draws the same passages.
        show_progress: show a progress bar.

    Raises:
        InvalidOptionError: for vectors without texts, or texts without the model of the index.
    """
    if isinstance(corpus, IndexCorpus):
        texts, stored = corpus.sample(seed=seed)
        return Passages(texts, stored, median_length(corpus.vectors), len(corpus))
    if isinstance(corpus, np.ndarray):
        raise InvalidOptionError(
            "corpus holds vectors, and another model has to embed some of the passages. Give their "
            "texts, or the index: read_index(index, check_model=False)."
        )
    if models.base is None:
        raise InvalidOptionError(
            "corpus holds texts, and embed_model is None: their vectors in the index are not "
            "known. Give the index: read_index(index, check_model=False)."
        )
    require_usable(corpus, "corpus", models.base.model)
    texts = list(corpus)
    drawn = [texts[row] for row in sampled_rows(len(texts), seed).tolist()]
    vectors = Embedder(models.base, store, show_progress=show_progress).texts(drawn, "passage")
    return Passages(drawn, vectors.vectors, median_length(vectors.vectors), len(texts))


def align_query_model(
    passages: Passages,
    models: QueryModels,
    query_log: Unlabelled | None = None,
    *,
    store: Path | None = None,
    seed: int = 0,
    show_progress: bool = True,
) -> Alignment:
    """Let the other model embed the drawn passages, and map its queries into the index's space.

    Raises:
        InvalidOptionError: for more than one other model, or a log of vectors.
        EmbeddingError: when a model fails; what it gave before is stored.
    """
    if len(models.models) > 1 or models.roles[0] == "base":
        raise InvalidOptionError(
            "Without labels one model embeds the queries: give query_embed_models=[other]. Two "
            "models side by side are weighed by labels, with EmbeddingAdapterFinetuneEngine."
        )
    log = None if query_log is None else _texts(query_log)
    (other,) = models.models
    embedder = Embedder(other, store, show_progress=show_progress)
    embedded = embedder.texts(passages.texts, "passage")
    queries = of_base = None
    if log is not None:
        queries = QueryEmbedder(models, store, show_progress=show_progress).each(log).vectors[0]
        if models.base is not None:
            base = Embedder(models.base, store, show_progress=show_progress)
            of_base = base.texts(log, "query").vectors
    return align(
        embedded.vectors,
        passages.stored,
        new_queries=queries,
        old_queries=of_base,
        seed=seed,
    )


def save_alignment(
    output: Path, models: QueryModels, aligned: Alignment, passages: Passages
) -> None:
    """Write the map as an adapter of the other model's queries."""
    from llama_index_adapters.training.frames import linear

    old_dim, new_dim = aligned.weight.shape
    metadata = AdapterMetadata(
        query_models=models.saved([new_dim]),
        query_dim=new_dim,
        passage_dim=old_dim,
        training={"adapter": "alignment", "alignment": aligned.report.to_dict()},
        data={
            "fingerprint": hashlib.sha256(np.ascontiguousarray(passages.stored).data).hexdigest(),
            "queries": 0,
            "passages": len(passages.texts),
        },
        result_length=passages.length,
    )
    save_adapter(output, linear(aligned.weight), metadata=metadata)


def _texts(query_log: Unlabelled) -> Sequence[str]:
    if isinstance(query_log, np.ndarray):
        raise InvalidOptionError(
            "query_log holds vectors, and another model has to embed the queries. Give their texts."
        )
    return checked_texts(query_log, "query_log")
