"""Stand-ins that count what is asked of them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata

from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset


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
    def stated_identity(self) -> str | None:
        """Its class and its own fields: what a test makes of the answers does not count."""
        own = set(type(self).model_fields) - set(BaseEmbedding.model_fields)
        settings = {name: repr(getattr(self, name)) for name in sorted(own)}
        return f"{type(self).__qualname__} {self.model_name} {settings}"

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


class ScriptedLLM(CustomLLM):
    """Answers a prompt with ``answer(prompt)``, by default two numbered questions.

    ``prompts`` holds what was asked, ``answered`` what was answered, ``most_at_a_time`` how many
    requests were under way at once. With ``together``, no request is answered before that many
    are under way, or :meth:`release` is called.
    """

    model: str = "scripted"
    temperature: float = 0.0
    api_key: str = "secret"
    _answer: Callable[[str], str] = PrivateAttr()
    _together: int = PrivateAttr()
    _prompts: list[str] = PrivateAttr(default_factory=list)
    _answered: list[str] = PrivateAttr(default_factory=list)
    _under_way: int = PrivateAttr(default=0)
    _most_at_a_time: int = PrivateAttr(default=0)
    _enough: threading.Event = PrivateAttr(default_factory=threading.Event)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(
        self, answer: Callable[[str], str] | None = None, *, together: int = 1, **fields: Any
    ) -> None:
        super().__init__(**fields)
        self._answer = answer or (lambda prompt: f"1. What is {prompt}?\n2. Why {prompt}?")
        self._together = together

    @property
    def stated_identity(self) -> str:
        """Its settings: what a test makes of the answers does not count."""
        return f"{self.class_name()} {self.model} {self.temperature} {self.system_prompt}"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model)

    @property
    def prompts(self) -> list[str]:
        return self._prompts

    @property
    def answered(self) -> list[str]:
        return self._answered

    @property
    def most_at_a_time(self) -> int:
        return self._most_at_a_time

    def release(self) -> None:
        self._enough.set()

    def _begin(self, prompt: str) -> None:
        with self._lock:
            self._prompts.append(prompt)
            self._under_way += 1
            self._most_at_a_time = max(self._most_at_a_time, self._under_way)
            if self._under_way >= self._together:
                self._enough.set()

    def _respond(self, prompt: str) -> CompletionResponse:
        response = CompletionResponse(text=self._answer(prompt))
        self._answered.append(prompt)
        return response

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._begin(prompt)
        try:
            assert self._enough.wait(20)
            return self._respond(prompt)
        finally:
            self._end()

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        self._begin(prompt)
        try:
            await asyncio.sleep(0)
            while not self._enough.is_set():
                await asyncio.sleep(0)
            return self._respond(prompt)
        finally:
            self._end()

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        raise AssertionError("nothing streams here")


class WordsEmbedding(CountingEmbedding):
    """A text's vector is the sum of one fixed random vector for each of its words."""

    model_name: str = "words"
    dimension: int = 64

    def vector(self, text: str) -> list[float]:
        words = re.findall(r"\w+", text.lower()) or [text]
        return np.sum([_word_vector(word, self.dimension) for word in words], axis=0).tolist()


@cache
def _word_vector(word: str, dimension: int) -> Any:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension)


def synonym_questions(size: int = 12) -> EmbeddingQAFinetuneDataset:
    """Questions that say everything in other words than their passages, ``size ** 2`` of them.

    With :class:`WordsEmbedding` the base model is blind, and an adapter can learn the
    synonyms, also for pairs of words that it has not seen together.
    """
    pairs = [(i, j) for i in range(size) for j in range(size)]
    return EmbeddingQAFinetuneDataset(
        queries={f"q{i}.{j}": f"tint{i} beast{j}" for i, j in pairs},
        corpus={f"p{i}.{j}": f"colour{i} animal{j}" for i, j in pairs},
        relevant_docs={f"q{i}.{j}": [f"p{i}.{j}"] for i, j in pairs},
    )
