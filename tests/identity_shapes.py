"""Models in the shapes that integrations and users give them: what tells them apart, and what not.

Each shape makes a model from settings; ``other`` holds settings that give other answers, ``same``
those that do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata


@dataclass(frozen=True)
class Shape:
    """A way to write a model.

    Attributes:
        make: makes one from settings.
        other: settings of models that give other answers than the one without any.
        same: settings of models that give the same.
    """

    make: Callable[..., BaseModel]
    other: Sequence[Mapping[str, Any]] = ()
    same: Sequence[Mapping[str, Any]] = ()


class _Embedding(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(len(text))]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class Prefixed(_Embedding):
    """Its settings are private attributes."""

    _prefix: str = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _calls: int = PrivateAttr(default=0)

    def __init__(self, prefix: str = "", calls: int = 0, **fields: Any) -> None:
        super().__init__(**fields)
        self._prefix, self._calls = prefix, calls


class Sdk:
    """What a provider's package gives out: settings in plain attributes."""

    def __init__(self, model: str = "small", session: object = None, **options: Any) -> None:
        self.model, self.session, self.options = model, session, options


class Slotted:
    """The same in slots."""

    __slots__ = ("size",)

    def __init__(self, size: str) -> None:
        self.size = size


class Wrapping(_Embedding):
    """Around somebody's object."""

    _inner: Any = PrivateAttr()

    def __init__(self, inner: Any, **fields: Any) -> None:
        super().__init__(**fields)
        self._inner = inner


class Endpoint(_Embedding):
    """Like LlamaIndex's SageMakerEmbedding and LlamafileEmbedding: nothing else names it."""

    endpoint_name: str = "one"
    base_url: str = "http://localhost:1"
    api_key: str = "a"
    profile_name: str | None = None
    request_timeout: float = 1.0


class Azure(_Embedding):
    """An endpoint beside a deployment's name."""

    azure_deployment: str = "embeddings"
    deployment: str = "embeddings"
    azure_endpoint: str = "https://one"
    api_version: str = "1"
    default_headers: dict[str, str] = Field(default_factory=dict)


class Weights(_Embedding):
    """A model whose weights are in memory."""

    _weights: Any = PrivateAttr()

    def __init__(self, changed: int | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        self._weights = np.arange(100, dtype=np.float32)
        if changed is not None:
            self._weights[changed] += 1


class Remembering(_Embedding):
    """It writes down what it was asked, as a service that counts its requests does."""

    asked: list[str] = Field(default_factory=list)
    _lengths: dict[str, int] = PrivateAttr(default_factory=dict)
    _total: int = PrivateAttr(default=0)
    _words: frozenset[str] = PrivateAttr()

    def __init__(self, used: bool = False, words: str = "", **fields: Any) -> None:
        super().__init__(**fields)
        self._words = frozenset(words.split())
        if used:
            self.get_text_embedding("a text")

    def _get_text_embedding(self, text: str) -> list[float]:
        self.asked.append(text)
        self._lengths[text] = len(text)
        self._total += len(text)
        return [float(len(text))]


class Told(_Embedding):
    """A method says how it is to work; another opens what it needs when it is needed."""

    _prefix: str = PrivateAttr(default="")
    _opened: Any = PrivateAttr(default=None)

    def __init__(self, prefix: str = "", used: bool = False, **fields: Any) -> None:
        super().__init__(**fields)
        self.use(prefix)
        if used:
            self.get_text_embedding("a text")

    def use(self, prefix: str) -> Told:
        self._prefix = prefix
        return self

    def _open(self) -> None:
        self._opened = self._opened or [1, 2]

    def _get_text_embedding(self, text: str) -> list[float]:
        self._open()
        return [float(len(self._prefix + text))]


class Calling(_Embedding):
    """A function does the work."""

    _function: Any = PrivateAttr()

    def __init__(self, function: Any = len, **fields: Any) -> None:
        super().__init__(**fields)
        self._function = function


class Writer(CustomLLM):
    """A language model with settings of its own."""

    max_tokens: int = 100
    temperature: float = 0.0
    num_output: int = 1
    timeout: float = 1.0
    _style: str = PrivateAttr(default="plain")

    def __init__(self, style: str = "plain", **fields: Any) -> None:
        super().__init__(**fields)
        self._style = style

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self._style)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        raise NotImplementedError


def _class_of(source: str, module: str = "project") -> Callable[..., BaseModel]:
    """Return a class that a module of this name defines."""
    made: dict[str, Any] = {"_Embedding": _Embedding, "__name__": module}
    exec(source, made)
    kind: type[BaseModel] = made["Mine"]
    return kind


def _mine(body: str = "1.0", module: str = "project", comment: str = "") -> BaseModel:
    source = (
        "class Mine(_Embedding):\n"
        f"    {comment or 'pass'}\n"
        "    def _get_text_embedding(self, text):\n"
        f"        return [{body}]\n"
    )
    return _class_of(source, module)()


def _noting(text: str = "") -> Callable[[str], list[float]]:
    """Return a function that keeps what it was given, after it was given this."""
    given: list[str] = []

    def answer(text: str) -> list[float]:
        given.append(text)
        return [1.0]

    if text:
        answer(text)
    return answer


def _times(factor: int) -> Callable[[str], list[float]]:
    return lambda text: [float(factor * len(text))]


@dataclass
class _Settings:
    pooling: str = "mean"
    layers: list[int] = field(default_factory=lambda: [1, 2])


SHAPES: dict[str, Shape] = {
    "private attributes": Shape(
        Prefixed,
        other=[{"prefix": "Represent the invoice: "}, {"prefix": "Represent the recipe: "}],
        same=[{"calls": 3}, {"embed_batch_size": 3}],
    ),
    "an SDK's object": Shape(
        lambda **settings: Wrapping(Sdk(**settings)),
        other=[{"model": "large"}, {"dimensions": 256}, {"task": "query"}],
        same=[{"session": object()}, {"timeout": 3}, {"api_key": "b"}, {"api_base": "https://b"}],
    ),
    "an object with slots": Shape(
        lambda size="small": Wrapping(Slotted(size)), other=[{"size": "large"}]
    ),
    "a dataclass": Shape(
        lambda **settings: Wrapping(_Settings(**settings)),
        other=[{"pooling": "cls"}, {"layers": [2, 1]}],
        same=[{"layers": [1, 2]}],
    ),
    "an endpoint and nothing else": Shape(
        Endpoint,
        other=[{"endpoint_name": "two"}, {"base_url": "http://localhost:2"}],
        same=[{"api_key": "b"}, {"request_timeout": 3.0}, {"profile_name": "b"}],
    ),
    "an endpoint and a name": Shape(
        partial(Endpoint, model_name="m"),
        same=[{"endpoint_name": "two"}, {"base_url": "http://localhost:2"}],
    ),
    "a deployment": Shape(
        partial(Azure, azure_deployment="mine"),
        other=[{"deployment": "large"}],
        same=[{"azure_endpoint": "https://two"}, {"default_headers": {"a": "b"}}],
    ),
    "weights in memory": Shape(Weights, other=[{"changed": 0}, {"changed": 99}]),
    "a function": Shape(
        Calling,
        other=[{"function": str.upper}, {"function": _times(2)}, {"function": _times(3)}],
    ),
    "what it was asked so far": Shape(
        Remembering, other=[{"words": "a b"}, {"words": "c"}], same=[{"used": True}]
    ),
    "what a method was told": Shape(
        Told, other=[{"prefix": "Represent the invoice: "}], same=[{"used": True}]
    ),
    "a function that keeps what it was given": Shape(
        lambda text="": Calling(_noting(text)), same=[{"text": "a text"}]
    ),
    "a class of a project": Shape(
        _mine,
        other=[{"body": "2.0"}, {"module": "another_project"}],
        same=[{"comment": "'What it is for.'"}],
    ),
    "a language model": Shape(
        Writer,
        other=[{"max_tokens": 50}, {"temperature": 0.5}, {"style": "terse"}],
        same=[{"timeout": 9.0}],
    ),
}
