"""A query through several models: each is asked once, and their vectors become one row."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding

from llama_index_adapters.adapters.disk.config import QueryModel, ResultLength
from llama_index_adapters.adapters.served.base import SHORTEST, as_vector
from llama_index_adapters.errors import EmbeddingError, ModelMismatchError
from llama_index_adapters.retrieval.arrays import FloatArray

# Given a model, reports to those who do not hear from it that it embeds a text.
Report = Callable[[BaseEmbedding], AbstractContextManager[list[Embedding]]]


@dataclass(frozen=True)
class Row:
    """The vectors of several models for one query, side by side.

    Attributes:
        unit: ``(sum of dims,)`` at length one.
        length: the length that the result is to have.
    """

    unit: FloatArray
    length: float


class SeveralModels:
    """The models of an adapter that takes several, or one that is not the index's.

    Args:
        models: in the order of their vectors.
        saved: what the adapter says of each.
        result_length: the length of a result, ``"base"`` for that of the base model's vector.
    """

    def __init__(
        self,
        models: Sequence[BaseEmbedding],
        saved: Sequence[QueryModel],
        result_length: ResultLength,
    ) -> None:
        self.models = list(models)
        self._saved = list(saved)
        self._result_length = result_length
        self._scale = np.float32(1 / math.sqrt(len(self.models)))

    def ask(self, query: str, report: Report) -> Row:
        """Ask one model after the other.

        Raises:
            EmbeddingError: when one fails, or gives what is no vector.
            ModelMismatchError: for a vector of another dimension than the adapter takes.
        """
        vectors = []
        for model in self.models:
            with report(model) as reported:
                try:
                    vectors.append(model.get_query_embedding(query))
                except Exception as error:
                    raise self._failed(model, error) from error
                reported.append(vectors[-1])
        return self._row(vectors)

    async def aask(self, query: str, report: Report) -> Row:
        """Ask all models at once.

        Raises:
            EmbeddingError: when one fails, or gives what is no vector.
            ModelMismatchError: for a vector of another dimension than the adapter takes.
        """

        async def one(model: BaseEmbedding) -> Embedding:
            with report(model) as reported:
                reported.append(await model.aget_query_embedding(query))
            return reported[0]

        answers = await asyncio.gather(*map(one, self.models), return_exceptions=True)
        vectors = []
        for model, answer in zip(self.models, answers, strict=True):
            if isinstance(answer, Exception):
                raise self._failed(model, answer) from answer
            if isinstance(answer, BaseException):
                raise answer
            vectors.append(answer)
        return self._row(vectors)

    def _row(self, vectors: Sequence[Embedding]) -> Row:
        parts, length = [], 0.0
        for model, saved, vector in zip(self.models, self._saved, vectors, strict=True):
            part, own_length = checked_vector(vector, model.model_name)
            if saved.dimension not in (None, part.size):
                raise ModelMismatchError(
                    f"The adapter takes vectors of {saved.dimension} dimensions of "
                    f"{saved.name or 'this model'}, but {model.model_name!r} gave one of "
                    f"{part.size}. Give query_embed_models in the order of the training."
                )
            if saved.role == "base":
                length = own_length
            parts.append(part * (self._scale / np.float32(own_length)))
        if self._result_length != "base":
            length = self._result_length
        return Row(np.concatenate(parts), length)

    def _failed(self, model: BaseEmbedding, error: Exception) -> EmbeddingError:
        others = [other.model_name for other in self.models if other is not model]
        beside = f", and the adapter needs it beside {' and '.join(others)}" if others else ""
        return EmbeddingError(
            f"{model.model_name} failed to embed a query ({type(error).__name__}){beside}. The "
            "cause says why."
        )


def checked_vector(vector: Embedding, model_name: str) -> tuple[FloatArray, float]:
    """Return a query vector ``(dim,)`` and its length.

    Raises:
        EmbeddingError: when it is no vector, or one that finds nothing.
    """
    try:
        query = as_vector(vector)
        length = math.sqrt(query.dot(query))
    except (TypeError, ValueError):
        # Without what numpy says of it: that may repeat the query.
        raise EmbeddingError(
            f"{model_name} gave something that is not one vector for a query "
            f"({type(vector).__name__}); expected a list of numbers."
        ) from None
    if not SHORTEST <= length < math.inf:
        raise useless_query(model_name)
    return query, length


def useless_query(model_name: str) -> EmbeddingError:
    """Return the error for a query vector that finds nothing."""
    return EmbeddingError(
        f"{model_name} gave a query vector that is zero, or with NaN, infinite or far too large "
        "values; nothing can be found with it."
    )
