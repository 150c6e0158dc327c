"""Models as LlamaIndex's integrations are written, one for each way to keep what names the model.

docs/identity.md says which integrations are written so. Classes of this file are in nobody's
package, except those of :func:`packaged`.
"""

from __future__ import annotations

import atexit
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from openai import OpenAI

from tests.identity_shapes import Sdk, Shape, Wrapping, Writer, _Embedding

_FILES = tempfile.TemporaryDirectory()
atexit.register(_FILES.cleanup)


_PACKAGE = "llama_index.embeddings.packaged_by_these_tests"
sys.modules[_PACKAGE] = sys.modules[__name__]  # where the source of its classes is looked for


def packaged(kind: type) -> type:
    """Return a class as if it came with LlamaIndex."""
    kind.__module__ = _PACKAGE
    return kind


@packaged
class Connected(_Embedding):
    """AzureAIEmbeddingsModel: where it asks is only in its client."""

    _client: Any = PrivateAttr()
    _opened: Any = PrivateAttr(default=None)

    def __init__(self, client: Any = None, used: bool = False, **fields: Any) -> None:
        super().__init__(**fields)
        self._client = client
        if used:
            self.get_text_embedding("a text")

    @property
    def opened(self) -> Any:
        self._opened = self._opened or {"url": "https://opened"}
        return self._opened

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(len(text) + len(self.opened))]


def asking(base_url: str = "https://one", api_key: str = "a", **options: Any) -> BaseModel:
    model: BaseModel = Connected(OpenAI(base_url=base_url, api_key=api_key), **options)
    return model


@packaged
class Default(_Embedding):
    """OCIDataScienceEmbedding: a name that everybody has, and an endpoint."""

    model_name: str = "embeddings"
    endpoint: str = "https://one"
    api_base: str = "https://one"
    default_headers: dict[str, str] = Field(default_factory=dict)


class Local(_Embedding):
    """Names that are paths, or are none."""

    model_name_or_path: str = "organization/model"
    file_name: str = "onnx/model.onnx"
    download_dir: str = "weights"
    user_prompt: str = ""
    api_task: str = ""
    max_token: int = 512
    token: str = "a"


@packaged
class Compiled(_Embedding):
    """OpenVINOGENAIEmbedding: files, and what a compiled library made of them."""

    model_path: str = ""
    _model: Any = PrivateAttr()

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._model = np.random.default_rng(0).bit_generator


def compiled(weights: str = "weights", folder: str = "here") -> BaseModel:
    path = Path(_FILES.name, folder, weights)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.bin").write_text(weights)
    model: BaseModel = Compiled(model_path=str(path))
    return model


@packaged
class Database(_Embedding):
    """OracleEmbeddings: what names the model is in a dictionary, beside a connection."""

    _params: dict[str, str] = PrivateAttr()
    _conn: Any = PrivateAttr()

    def __init__(self, model: str = "one", **fields: Any) -> None:
        super().__init__(**fields)
        self._params = {"provider": "database", "model": model}
        self._conn = np.random.default_rng(0).bit_generator


class Loaded(_Embedding):
    """A method that tells it what to be returns whether it could."""

    _weights: str = PrivateAttr(default="")

    def __init__(self, weights: str = "", **fields: Any) -> None:
        super().__init__(**fields)
        self.load(weights)

    def load(self, weights: str) -> bool:
        self._weights = weights
        return bool(weights)


def _loudly(messages: Any) -> str:
    return str(messages).upper()


def _langchain(**options: Any) -> BaseModel:
    """LangchainEmbedding names a model by its class where nothing else does."""
    return Wrapping(Sdk(model="", **options), model_name="Sdk")


INTEGRATIONS: dict[str, Shape] = {
    "a client that says where it asks": Shape(
        asking, other=[{"base_url": "https://two"}], same=[{"api_key": "b"}, {"used": True}]
    ),
    "a client, and a name": Shape(
        partial(asking, model_name="m"),
        other=[{"model_name": "n"}],
        same=[{"base_url": "https://two"}, {"used": True}],
    ),
    "a client that somebody wrote": Shape(
        lambda **options: Connected(Sdk(**options)),
        other=[{"model": "large"}, {"task": "query"}],
        same=[{"session": object()}, {"api_key": "b"}, {"timeout": 3}],
    ),
    "a name that everybody has": Shape(
        Default,
        other=[{"endpoint": "https://two"}, {"api_base": "https://two"}],
        same=[{"default_headers": {"a": "b"}}],
    ),
    "names that are paths, or are none": Shape(
        Local,
        other=[
            {"model_name_or_path": "organization/another"},
            {"file_name": "onnx/model_quantized.onnx"},
            {"user_prompt": "Represent the invoice: "},
            {"api_task": "query"},
            {"max_token": 256},
        ],
        same=[{"download_dir": "elsewhere"}, {"token": "b"}],
    ),
    "files and a compiled object": Shape(
        compiled, other=[{"weights": "others"}], same=[{"folder": "elsewhere"}]
    ),
    "a dictionary and a connection": Shape(Database, other=[{"model": "two"}]),
    "a method that tells it what to be": Shape(Loaded, other=[{"weights": "a"}, {"weights": "b"}]),
    "named after its class": Shape(
        _langchain, other=[{"endpoint_name": "one"}, {"endpoint_name": "two"}]
    ),
    "a language model's own prompts": Shape(Writer, other=[{"messages_to_prompt": _loudly}]),
}
