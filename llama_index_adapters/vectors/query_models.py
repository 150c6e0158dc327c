"""The models that embed queries: usually the one of the passages, and perhaps others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.config import QueryModel
from llama_index_adapters.checks import require_one_of
from llama_index_adapters.errors import InvalidOptionError, ModelMismatchError
from llama_index_adapters.questions.question_set import Questions, as_dataset
from llama_index_adapters.questions.views import relevance_of
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.query_blocks import (
    PassageSample,
    QueryBlock,
    QueryRole,
    side_by_side,
)
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.checks import require_directions
from llama_index_adapters.vectors.embed import (
    EmbeddedDataset,
    EmbeddedTexts,
    Embedder,
    EmbeddingCost,
)
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore

SAMPLED_PASSAGES = 1000
"""How many passages another model embeds, to learn how its space lies to the index's."""


@dataclass(frozen=True, eq=False)
class QueryModels:
    """The models that embed queries, in the order of their vectors.

    Attributes:
        base: the model that embedded the passages; None when it is gone.
        models: at least one; the base may be among them.
    """

    base: IdentifiedModel | None
    models: tuple[IdentifiedModel, ...]

    @classmethod
    def of(
        cls,
        embed_model: BaseEmbedding | None,
        query_embed_models: Sequence[BaseEmbedding] | None = None,
    ) -> QueryModels:
        """Return the models that a user named.

        Args:
            embed_model: the model that embedded the passages, or None.
            query_embed_models: those that embed queries; ``[embed_model]`` when left out.

        Raises:
            InvalidOptionError: for what is no list of different embedding models, or when there
                is none.
        """
        base = None if embed_model is None else IdentifiedModel(embed_model)
        if query_embed_models is None:
            if base is None:
                raise InvalidOptionError(
                    "embed_model is None, and no query_embed_models are given: nothing embeds "
                    "queries. Give the embedding model of the index, or "
                    "query_embed_models=[another]."
                )
            return cls(base, (base,))
        if isinstance(query_embed_models, BaseEmbedding) or not isinstance(
            query_embed_models, Sequence
        ):
            raise InvalidOptionError(
                f"query_embed_models is a {type(query_embed_models).__name__}; give a list of "
                "embedding models, such as [embed_model, another]."
            )
        if not query_embed_models:
            raise InvalidOptionError(
                "query_embed_models is empty; leave it out to embed queries with embed_model."
            )
        models: list[IdentifiedModel] = []
        for model in query_embed_models:
            found = base if base is not None and model is base.model else IdentifiedModel(model)
            if base is not None and found.identity == base.identity:
                found = base
            if found.identity in {other.identity for other in models}:
                raise InvalidOptionError(
                    f"query_embed_models names {found.label} twice, with the same settings. Each "
                    "model is asked once; leave the second out."
                )
            models.append(found)
        return cls(base, tuple(models))

    @property
    def is_base_alone(self) -> bool:
        """Whether queries are embedded by the passages' own model and no other."""
        return self.base is not None and self.models == (self.base,)

    @cached_property
    def roles(self) -> tuple[QueryRole, ...]:
        """The part that each model has."""
        return tuple("base" if model is self.base else "other" for model in self.models)

    @property
    def names(self) -> str:
        """The models' names, for people."""
        return " and ".join(model.label for model in self.models)

    def blocks(self, dims: Sequence[int]) -> tuple[QueryBlock, ...]:
        """Return what the columns of a row of their vectors are.

        Args:
            dims: the dimension of each model's vectors.
        """
        return tuple(
            QueryBlock(dim, role, model.label, model.identity)
            for dim, role, model in zip(dims, self.roles, self.models, strict=True)
        )

    def saved(self, dims: Sequence[int]) -> tuple[QueryModel, ...]:
        """Return what an adapter keeps of the models.

        An identity that another process could not come to is left out.
        """
        return tuple(
            QueryModel(
                name=model.label,
                identity=model.identity if model.is_lasting else None,
                role=role,
                dimension=dim,
            )
            for model, role, dim in zip(self.models, self.roles, dims, strict=True)
        )

    def require_blocks(self, blocks: Sequence[QueryBlock], name: str) -> None:
        """Refuse vectors that other models made, or in another order.

        Args:
            blocks: what the vectors say of themselves.
            name: what they were given as.

        Raises:
            ModelMismatchError: saying how to make the right ones.
        """
        if self.is_base_alone and len(blocks) == 1 and blocks[0].identity is None:
            return  # vectors of one model need not say of which
        for block, role, model in zip(blocks, self.roles, self.models, strict=False):
            unlike = block.identity not in (None, model.identity)
            if block.role != role or unlike:
                break
        else:
            if len(blocks) == len(self.models):
                return
        has = " and ".join(block.name or f"an unnamed {block.role} model" for block in blocks)
        raise ModelMismatchError(
            f"{name} has query vectors of {has}; expected those of {self.names}, in this order. "
            "Make them with IndexCorpus.dataset(labels, query_embed_models=[...]), or give "
            "texts."
        )


class QueryEmbedder:
    """Embeds queries with several models; each text goes through each model once.

    Args:
        models: the models.
        store: an open store, or the path of one; the one in the user's cache directory when
            left out.
        show_progress: whether to show a progress bar while a model works.
    """

    def __init__(
        self,
        models: QueryModels,
        store: EmbeddingStore | Path | str | None = None,
        *,
        show_progress: bool = True,
    ) -> None:
        self.models = models
        self._embedders = [
            Embedder(model, store, show_progress=show_progress) for model in models.models
        ]

    def each(self, texts: Sequence[str], *, ids: Sequence[str] | None = None) -> EachModel:
        """Return every model's vectors of queries.

        Raises:
            EmbeddingError: when one of the models fails; what they gave before is stored.
            InvalidVectorsError: for a vector without a direction.
        """
        embedded = [embedder.texts(texts, "query", ids=ids) for embedder in self._embedders]
        for model, part in zip(self.models.models, embedded, strict=True):
            require_directions(part.vectors, f"the query vectors of {model.label}")
        return EachModel(self.models, embedded)

    def dataset(
        self, dataset: Questions, passages: Embedder, *, similarity: Similarity = "cosine"
    ) -> EmbeddedDataset:
        """Return a question set as vectors, embedding only what is not stored.

        Args:
            dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
            passages: embeds the passages, with the base model.
            similarity: how the vector store compares a query with a passage.

        Raises:
            InvalidDatasetError: when the parts of the dataset do not fit together.
            InvalidOptionError: for an unknown similarity.
            EmbeddingError: when a model fails; what the models gave before is stored.
        """
        if self.models.is_base_alone:
            return passages.dataset(dataset, similarity=similarity)
        require_one_of(similarity, "similarity", SIMILARITIES)
        questions = as_dataset(dataset)
        corpus = passages.texts(
            list(questions.corpus.values()), "passage", ids=list(questions.corpus)
        )
        queries = self.each(list(questions.queries.values()), ids=list(questions.queries))
        data = VectorDataset(
            queries.rows(corpus.vectors),
            corpus.vectors,
            relevance_of(questions),
            similarity=similarity,
            query_ids=tuple(questions.queries),
            passage_ids=tuple(questions.corpus),
            blocks=queries.blocks,
        )
        return EmbeddedDataset(data, corpus.cost + queries.cost)

    def with_samples(
        self, data: VectorDataset, texts: Sequence[str], stored: FloatArray, *, seed: int = 0
    ) -> tuple[VectorDataset, EmbeddingCost]:
        """Let every other model embed some passages of a corpus, and keep them with its block.

        Args:
            data: what is trained on.
            texts: the passages of a corpus, of which at most :data:`SAMPLED_PASSAGES` are drawn.
            stored: ``(n_passages, passage_dim)`` their vectors as the index has them.
            seed: the same seed draws the same passages.

        Raises:
            EmbeddingError: when a model fails; what it gave before is stored.
        """
        if self.models.is_base_alone:
            return data, EmbeddingCost()
        rows = sampled_rows(len(texts), seed)
        drawn = [texts[row] for row in rows.tolist()]
        blocks, cost = [], EmbeddingCost()
        for block, embedder in zip(data.blocks, self._embedders, strict=True):
            if block.role == "base":
                blocks.append(block)
                continue
            embedded = embedder.texts(drawn, "passage")
            cost += embedded.cost
            sample = PassageSample(np.asarray(stored[rows]), embedded.vectors)
            blocks.append(replace(block, sample=sample))
        return data.with_blocks(tuple(blocks)), cost


def sampled_rows(count: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of at most :data:`SAMPLED_PASSAGES` of so many passages, in order."""
    if count <= SAMPLED_PASSAGES:
        return np.arange(count)
    drawn = np.random.default_rng(seed).choice(count, SAMPLED_PASSAGES, replace=False)
    return np.sort(drawn)


class EachModel:
    """The vectors of several models for the same queries.

    Args:
        models: the models.
        embedded: what each of them gave.
    """

    def __init__(self, models: QueryModels, embedded: Sequence[EmbeddedTexts]) -> None:
        self.cost = sum((part.cost for part in embedded), EmbeddingCost())
        self.vectors = [part.vectors for part in embedded]
        self.blocks = models.blocks([vectors.shape[1] for vectors in self.vectors])

    def rows(self, passages: FloatArray) -> FloatArray:
        """Return them side by side, ``(n_queries, sum of dims)``.

        A row has the length of the base model's vector where that is asked, else the median
        length of the passages.
        """
        if len(self.vectors) == 1 and self.blocks[0].role == "base":
            return self.vectors[0]
        return side_by_side(self.vectors, self._lengths(passages))

    def _lengths(self, passages: FloatArray) -> FloatArray | float:
        for block, vectors in zip(self.blocks, self.vectors, strict=True):
            if block.role == "base":
                lengths: FloatArray = np.linalg.norm(vectors, axis=1)
                return lengths
        return median_length(passages)


def median_length(passages: FloatArray) -> float:
    """Return the median length of vectors ``(n, dim)``."""
    lengths = np.sqrt(np.einsum("ij,ij->i", passages, passages, dtype=np.float64))
    return float(np.float32(np.median(lengths)))
