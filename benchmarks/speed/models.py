"""The embedding models that are measured with; both sides of a ratio open the same one by name.

A peer's interpreter imports this module too, so it needs nothing but LlamaIndex and, for the local
model, this package's own class for it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

WAYS = ("_get_query_embedding", "_get_text_embedding")


class StoredEmbedding(BaseEmbedding):
    """Gives every text the same list: what is left of a call is what surrounds the model."""

    _vector: list[float] = PrivateAttr()

    def __init__(self, vector: list[float]) -> None:
        super().__init__(model_name="stored")
        self._vector = vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector


class HashingEmbedding(BaseEmbedding):
    """Gives every text numbers made from its hash, in place of a model with weights."""

    dimension: int = 16

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._numbers(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._numbers(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._numbers(text)

    def _numbers(self, text: str) -> list[float]:
        numbers = random.Random(hashlib.sha256(text.encode()).digest())
        return [numbers.gauss(0, 1) for _ in range(self.dimension)]


def open_model(name: str, url: str = "") -> BaseEmbedding:
    """Return a model by name: ``"local"``, ``"hashing"``, or ``"openai"`` at a URL."""
    if name == "hashing":
        return HashingEmbedding(model_name="hashing")
    if name == "openai":
        from llama_index.embeddings.openai import OpenAIEmbedding

        return OpenAIEmbedding(api_key="none", api_base=url, max_retries=0)
    from llama_index_adapters.vectors.local import local_embedding

    return local_embedding()


def counted(model: BaseEmbedding) -> tuple[BaseEmbedding, Counter[str]]:
    """Let a model count the texts it is asked for one at a time, by kind; return both."""
    calls: Counter[str] = Counter()

    def counting(name: str) -> Any:
        original = getattr(type(model), name)

        def call(self: BaseEmbedding, *arguments: Any) -> Any:
            calls[name] += 1
            return original(self, *arguments)

        return call

    ways = {name: counting(name) for name in WAYS}
    model.__class__ = type(type(model).__name__, (type(model),), ways)
    return model, calls
