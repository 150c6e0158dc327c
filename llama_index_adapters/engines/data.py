"""What an engine is given to learn from: checked at once, embedded when it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.checks import require_one_of
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Questions,
    as_dataset,
    with_shared_relevance,
)
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.asked_passages import AskedPassages
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset, as_matrix
from llama_index_adapters.vectors.checks import require_directions
from llama_index_adapters.vectors.embed import (
    EmbeddedDataset,
    Embedder,
    EmbeddingCost,
    checked_texts,
)
from llama_index_adapters.vectors.query_models import QueryEmbedder, QueryModels
from llama_index_adapters.vectors.store_rows import Role

Unlabelled = Sequence[str] | NDArray[np.float32]
CheckedQuestions = EmbeddingQAFinetuneDataset | VectorDataset

# What is known without labels, and how its texts are embedded.
_ROLES: Mapping[str, Role] = {
    "corpus": "passage",
    "target_corpus": "passage",
    "query_log": "query",
}


@dataclass(frozen=True)
class TrainingVectors:
    """Everything a training reads, and what it took to embed.

    Attributes:
        train: what to learn from.
        validation: what to judge by, if it was given.
        unlabelled: vectors without labels, ``(n, dim)`` each, by the name they were given under.
        cost: what embedding took.
    """

    train: VectorDataset
    validation: VectorDataset | None
    unlabelled: dict[str, FloatArray]
    cost: EmbeddingCost


@dataclass(frozen=True)
class UnlabelledVectors:
    """Vectors without labels, and what it took to embed them.

    Attributes:
        by_name: ``(n, dim)`` each, by the name they were given under.
        cost: what embedding took.
    """

    by_name: dict[str, FloatArray]
    cost: EmbeddingCost


class TrainingData:
    """The question sets and unlabelled texts of an engine.

    Args:
        dataset: questions to train on, as texts or vectors.
        val_dataset: questions to judge by, or None.
        target_corpus: passages of the corpus that will be searched, as texts or vectors.
        query_log: queries without known answers, as texts or vectors.
        models: embed the texts; None when there are none.
        similarity: how the vector store compares.
        store: path of the store of vectors.

    Raises:
        InvalidOptionError: when a part needs an embedding model and there is none, what is given
            for it is something else, or vectors say another similarity.
        InvalidDatasetError: when the parts of a dataset do not fit together.
        ModelMismatchError: when the queries of vectors come from other models.
    """

    def __init__(
        self,
        dataset: Questions | VectorDataset,
        val_dataset: Questions | VectorDataset | None,
        target_corpus: Unlabelled | None,
        query_log: Unlabelled | None,
        *,
        models: QueryModels | None,
        similarity: Similarity,
        store: Path | None,
    ) -> None:
        require_one_of(similarity, "similarity", SIMILARITIES)
        self._models = models
        self._base = None if models is None else models.base
        self._similarity = similarity
        self._store = store
        # What trainings before this one asked about; None where that is unknown.
        self.asked_before: AskedPassages | None = AskedPassages()
        self.dataset = self._checked(dataset, "dataset")
        self.val_dataset = None
        if val_dataset is not None:
            self.val_dataset = self._checked(val_dataset, "val_dataset")
        parts = {"target_corpus": target_corpus, "query_log": query_log}
        self.unlabelled = {name: part for name, part in parts.items() if part is not None}
        for name, part in self.unlabelled.items():
            require_usable(part, name, None if self._base is None else self._base.model)
        if query_log is not None and models is not None and not models.is_base_alone:
            raise InvalidOptionError(
                "query_log is given, and so are query_embed_models: a log is only used where the "
                "index's own model embeds queries alone. Leave query_log out."
            )

    def vectors(self, *, show_progress: bool) -> TrainingVectors:
        """Embed what is not stored yet.

        Raises:
            EmbeddingError: when the embedding model fails; what it gave before is stored.
            InvalidVectorsError: when vectors that were given do not fit.
        """
        embedder = queries = None
        if self._base is not None:
            embedder = Embedder(self._base, self._store, show_progress=show_progress)
        if self._models is not None:
            queries = QueryEmbedder(self._models, self._store, show_progress=show_progress)
        train = self._questions(self.dataset, embedder, queries, shared=True)
        unlabelled = unlabelled_vectors(self.unlabelled, embedder)
        cost = train.cost + unlabelled.cost
        data = train.data
        if queries is not None:
            data, sample_cost = self._with_samples(data, unlabelled.by_name, queries)
            cost += sample_cost
        if self.val_dataset is None:
            return TrainingVectors(data, None, unlabelled.by_name, cost)
        validation = self._questions(self.val_dataset, embedder, queries)
        return TrainingVectors(data, validation.data, unlabelled.by_name, cost + validation.cost)

    @property
    def is_first_training(self) -> bool:
        """Whether no training before this one asked about any passage."""
        before = self.asked_before
        return before is not None and not (before.texts.size or before.vectors.size)

    def asked(self, vectors: TrainingVectors) -> AskedPassages | None:
        """Return the passages that questions of this training and those before it ask about."""
        if self.asked_before is None:
            return None
        asked = self.asked_before | _asked(self.dataset, vectors.train)
        if self.val_dataset is not None and vectors.validation is not None:
            asked |= _asked(self.val_dataset, vectors.validation)
        return asked

    def _questions(
        self,
        data: CheckedQuestions,
        embedder: Embedder | None,
        queries: QueryEmbedder | None,
        *,
        shared: bool = False,
    ) -> EmbeddedDataset:
        if isinstance(data, VectorDataset):
            if shared:
                require_directions(data.queries, "dataset")  # while its rows are those given
                data = data.with_shared_relevance()
            return EmbeddedDataset(data, EmbeddingCost())
        assert embedder is not None
        assert queries is not None
        return queries.dataset(
            with_shared_relevance(data) if shared else data, embedder, similarity=self._similarity
        )

    def _with_samples(
        self, data: VectorDataset, unlabelled: Mapping[str, FloatArray], queries: QueryEmbedder
    ) -> tuple[VectorDataset, EmbeddingCost]:
        """Let other models embed some passages of the corpus that will be searched."""
        target = self.unlabelled.get("target_corpus")
        if target is not None and not isinstance(target, np.ndarray):
            return queries.with_samples(data, list(target), unlabelled["target_corpus"])
        if isinstance(self.dataset, VectorDataset):
            return data, EmbeddingCost()  # it brings samples of its own, or has no texts
        return queries.with_samples(data, list(self.dataset.corpus.values()), data.passages)

    def _checked(self, data: Questions | VectorDataset, name: str) -> CheckedQuestions:
        """Refuse data that cannot be used before anything is paid for."""
        if isinstance(data, VectorDataset):
            # Cosine may only be the default.
            if self._similarity not in ("cosine", data.similarity):
                raise InvalidOptionError(
                    f"similarity is {self._similarity!r}, but {name} holds vectors to compare by "
                    f"{data.similarity!r}. Build the VectorDataset with the one that is right."
                )
            if self._models is not None:
                self._models.require_blocks(data.blocks, name)
            return data
        questions = as_dataset(data)
        if self._base is None:
            raise InvalidOptionError(
                f"{name} holds texts, and embed_model is None. Give the embedding model that the "
                "index was built with, or vectors as a VectorDataset."
            )
        return questions


def _asked(questions: CheckedQuestions, data: VectorDataset) -> AskedPassages:
    texts = None if isinstance(questions, VectorDataset) else questions.corpus
    return AskedPassages.of(data, texts)


def unlabelled_vectors(
    parts: Mapping[str, Unlabelled], embedder: Embedder | None
) -> UnlabelledVectors:
    """Return texts or vectors as vectors.

    Args:
        parts: texts or vectors under the names ``corpus``, ``target_corpus`` and ``query_log``.
        embedder: embeds the texts; None when there are none.
    """
    vectors: dict[str, FloatArray] = {}
    cost = EmbeddingCost()
    for name, part in parts.items():
        if isinstance(part, np.ndarray):
            vectors[name] = as_matrix(part, name)
            continue
        assert embedder is not None
        embedded = embedder.texts(part, _ROLES[name])
        vectors[name] = embedded.vectors
        cost += embedded.cost
    return UnlabelledVectors(vectors, cost)


def require_usable(part: Unlabelled, name: str, embed_model: BaseEmbedding | None) -> None:
    """Refuse what cannot become vectors before anything is paid for.

    Raises:
        InvalidOptionError: saying what was handed in under that name.
        InvalidDatasetError: for a text among others that cannot be embedded.
    """
    if not isinstance(part, np.ndarray | Sequence):
        raise InvalidOptionError(
            f"{name} is of type {type(part).__name__}; give a list of texts, or vectors."
        )
    if not len(part):
        raise InvalidOptionError(f"{name} is empty; give at least one text, or vectors.")
    if isinstance(part, str):
        raise InvalidOptionError(f"{name} is one text; give a list of texts, or vectors.")
    if isinstance(part, np.ndarray):
        return
    if embed_model is None:
        raise InvalidOptionError(
            f"{name} holds texts, and embed_model is None. Give their vectors."
        )
    checked_texts(part, name)
