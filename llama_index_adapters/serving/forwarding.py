"""An embedding model around another: every text goes to that one and is reported once."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from llama_index.core.async_utils import run_jobs
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.utils import get_tqdm_iterable
from typing_extensions import Self

from llama_index_adapters.errors import EmbeddingError, InvalidOptionError
from llama_index_adapters.serving.watching import (
    reported,
    span_if_received,
    unheard,
    without_span,
)

_PROGRESS = "Generating embeddings"


class ForwardingEmbedding(BaseEmbedding):
    """An embedding model that hands texts to the public methods of another.

    Texts come back as that model gives them; what becomes of a query is left to subclasses. The
    other model's cache, rate limiter and events keep working, and its events are the only ones,
    but for callback handlers of this model that the other does not report to. Copies and pickles
    share or carry the other model.

    Attributes:
        base_embed_model: the other model; None where only queries are embedded, by others.
        query_embed_models: the models that queries go to.
    """

    base_embed_model: BaseEmbedding | None = Field(exclude=True, repr=False, frozen=True)
    query_embed_models: tuple[BaseEmbedding, ...] = Field(exclude=True, repr=False, frozen=True)

    @property
    def _text_model(self) -> BaseEmbedding:
        """The model that texts go to."""
        if self.base_embed_model is None:
            raise InvalidOptionError(
                "base_embed_model is None, so texts cannot be embedded as the index's are: its "
                "own model is gone. Queries are embedded by the query_embed_models."
            )
        return self.base_embed_model

    @span_if_received
    def get_query_embedding(self, query: str) -> Embedding:
        """Return the vector of a query, as a list of numbers."""
        return self._one_query(query)

    @span_if_received
    async def aget_query_embedding(self, query: str) -> Embedding:
        """Return the vector of a query, as a list of numbers."""
        return await self._aone_query(query)

    @span_if_received
    def get_text_embedding(self, text: str) -> Embedding:
        """Return the other model's vector of a text."""
        return self._one(self._get_text_embedding, text)

    @span_if_received
    async def aget_text_embedding(self, text: str) -> Embedding:
        """Return the other model's vector of a text."""
        return await self._aone(self._aget_text_embedding, text)

    @span_if_received
    def get_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Return the other model's vectors of texts, in order.

        Args:
            texts: the texts.
            show_progress: show a progress bar, in batches.
            **kwargs: what LlamaIndex hands to all parts of a pipeline; not used.
        """
        embedded: list[Embedding] = []
        for batch in get_tqdm_iterable(self._batches(texts), show_progress, _PROGRESS):
            with self._reported(batch) as vectors:
                if self.rate_limiter is not None:
                    self.rate_limiter.acquire()
                vectors.extend(self._get_text_embeddings(batch))
            embedded.extend(vectors)
        return embedded

    @span_if_received
    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Return the other model's vectors of texts, in order.

        Args:
            texts: the texts.
            show_progress: show a progress bar, in batches.
            **kwargs: what LlamaIndex hands to all parts of a pipeline; not used.
        """
        batches = self._batches(texts)
        embedded = await run_jobs(
            [self._aembed_batch(batch) for batch in batches],
            show_progress=show_progress,
            workers=self.num_workers or max(1, len(batches)),
            desc=_PROGRESS,
        )
        return [vector for vectors in embedded for vector in vectors]

    def _one_query(self, query: str) -> Embedding:
        return self._one(self._get_query_embedding, query)

    async def _aone_query(self, query: str) -> Embedding:
        return await self._aone(self._aget_query_embedding, query)

    def _one(self, embed: Callable[[str], Embedding], text: str) -> Embedding:
        if not self.callback_manager.handlers and self.rate_limiter is None:
            return embed(text)  # all of the below has nothing to do
        with self._reported([text]) as vectors:
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            vectors.append(embed(text))
        return vectors[0]

    async def _aone(self, embed: Callable[[str], Awaitable[Embedding]], text: str) -> Embedding:
        with self._reported([text]) as vectors:
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            vectors.append(await embed(text))
        return vectors[0]

    async def _aembed_batch(self, batch: list[str]) -> list[Embedding]:
        with self._reported(batch) as vectors:
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            vectors.extend(await self._aget_text_embeddings(batch))
        return vectors

    def _batches(self, texts: list[str]) -> list[list[str]]:
        size = self.embed_batch_size
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def _reported(self, texts: list[str]) -> AbstractContextManager[list[Embedding]]:
        return reported(self, unheard(self.callback_manager, self._heard_below()), texts)

    def _heard_below(self) -> list[BaseCallbackHandler]:
        """Return the callback handlers that the events of the base model reach."""
        return [] if self.base_embed_model is None else heard_from(self.base_embed_model)

    @without_span
    def _get_text_embedding(self, text: str) -> Embedding:
        return self._text_model.get_text_embedding(text)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await self._text_model.aget_text_embedding(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._one_each(self._text_model.get_text_embedding_batch(texts), texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._one_each(await self._text_model.aget_text_embedding_batch(texts), texts)

    def _one_each(self, vectors: list[Embedding], texts: list[str]) -> list[Embedding]:
        # LlamaIndex would give every text behind a missing vector that of another one.
        if len(vectors) != len(texts):
            raise EmbeddingError(
                f"{self._text_model.model_name} gave {len(vectors)} vectors for {len(texts)} "
                "texts; expected one for each."
            )
        return vectors

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a cache of its own: LlamaIndex keys it by the text alone.

        A text that was also asked as a query would get the other's vector.
        """
        if name == "embeddings_cache" and value is not None:
            raise InvalidOptionError(
                f"{self.class_name()} keeps no embeddings_cache: its entries do not tell a "
                "query from a text. Set it on the base model, whose cache is used."
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: everything but callbacks and a rate limiter of its own."""
        # LlamaIndex's own method deletes what cannot be pickled from the living object; a
        # shallow copy of the base takes that blow.
        state = BaseModel.__getstate__(self)
        base = copy.copy(self.base_embed_model)
        kept = {
            "base_embed_model": base,
            "query_embed_models": tuple(
                base if model is self.base_embed_model else copy.copy(model)
                for model in self.query_embed_models
            ),
            "callback_manager": _no_callbacks(),
            "rate_limiter": None,
        }
        return {**state, "__dict__": {**state["__dict__"], **kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what pickle kept, without reading the adapter's directory again."""
        BaseModel.__setstate__(self, state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the model; the copy shares the base model, callbacks and rate limiter.

        A base model that has been used holds connections, which nothing can copy.
        """
        memo = {} if memo is None else memo
        for shared in (
            self.base_embed_model,
            *self.query_embed_models,
            self.callback_manager,
            self.rate_limiter,
        ):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)


def heard_from(model: BaseEmbedding) -> list[BaseCallbackHandler]:
    """Return the callback handlers that the events of a model reach."""
    below = model._heard_below() if isinstance(model, ForwardingEmbedding) else []
    return [*model.callback_manager.handlers, *below]


def _no_callbacks() -> CallbackManager:
    # An empty list is not enough: the constructor takes the handlers of Settings for it.
    manager = CallbackManager([])
    manager.set_handlers([])
    return manager
