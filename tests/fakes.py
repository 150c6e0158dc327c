"""Stand-ins that count what is asked of them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr


class CountingEmbedding(BaseEmbedding):
    """Gives every text a fixed random vector and writes down each call.

    ``calls`` holds ``("batch" | "text" | "query", texts)``. With a ``query_instruction`` the
    model is asymmetric. ``answer`` replaces what a call returns, or raises.
    """

    model_name: str = "counting"
    dimension: int = 8
    query_instruction: str = ""
    _calls: list[tuple[str, list[str]]] = PrivateAttr(default_factory=list)
    _answer: Callable[[list[str], list[list[float]]], Any] | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        answer: Callable[[list[str], list[list[float]]], Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self._answer = answer

    @property
    def calls(self) -> list[tuple[str, list[str]]]:
        return self._calls

    @property
    def texts(self) -> list[str]:
        return [text for _, texts in self._calls for text in texts]

    def vector(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")
        return np.random.default_rng(seed).standard_normal(self.dimension).tolist()

    def respond(self, kind: str, texts: list[str]) -> Any:
        self._calls.append((kind, list(texts)))
        prefix = self.query_instruction if kind == "query" else ""
        vectors = [self.vector(prefix + text) for text in texts]
        return self._answer(texts, vectors) if self._answer else vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.respond("query", [query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.respond("text", [text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.respond("batch", texts)


class AsyncEmbedding(CountingEmbedding):
    """A service. With ``together``, no call returns before that many are under way."""

    _barrier: threading.Barrier | None = PrivateAttr(default=None)

    def __init__(self, *, together: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self._barrier = threading.Barrier(together, timeout=20) if together else None

    def respond(self, kind: str, texts: list[str]) -> Any:
        if self._barrier:
            self._barrier.wait()
        return super().respond(kind, texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return self.respond("batch", texts)
