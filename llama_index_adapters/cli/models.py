"""From a name such as ``openai:text-embedding-3-small`` to a model, and to code that opens it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llama_index_adapters.errors import InvalidOptionError, MissingExtraError, closest_name

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.llms import LLM

LOCAL = "local"
LOCAL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EMBED_MODELS = "local|openai:NAME|huggingface:NAME"
DEFAULT_LLM = "openai:gpt-5-mini"

_OPENAI_KEY = "OPENAI_API_KEY"
# Set when requests go to a server that speaks OpenAI's protocol; it has names of its own.
_OPENAI_SERVER = "OPENAI_API_BASE"


def open_embed_model(name: str) -> BaseEmbedding:
    """Return the embedding model of a name.

    Raises:
        InvalidOptionError: for a name that stands for none, or a model that cannot be loaded.
        MissingExtraError: when a package for it is not installed, with the pip command.
    """
    provider, model = _parsed(name)
    if provider == LOCAL:
        from llama_index_adapters.vectors.local import local_embedding

        return local_embedding()
    return _open_openai(model) if provider == "openai" else _open_huggingface(model)


def open_query_models(
    names: Sequence[str], base_name: str, base: BaseEmbedding
) -> list[BaseEmbedding] | None:
    """Return the models that embed queries; None when nobody named any.

    Args:
        names: their names, in order.
        base_name: the name of the index's own model; where it is among them, it is opened once.
        base: that model.

    Raises:
        InvalidOptionError: for a name that stands for none, or a model that cannot be loaded.
        MissingExtraError: when a package for it is not installed, with the pip command.
    """
    opened = [base if name == base_name else open_embed_model(name) for name in names]
    return opened or None


def open_llm(name: str) -> LLM:
    """Return the language model of a name, ``openai:NAME``.

    Raises:
        InvalidOptionError: for another name, or without a key.
    """
    provider, _, model = name.partition(":")
    if provider != "openai" or not model:
        raise InvalidOptionError(
            f"--llm is {name!r}; expected openai:NAME, such as {DEFAULT_LLM}. With another "
            "model call generate_qa_embedding_pairs(nodes, llm) in Python."
        )
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model)
    try:
        _ = llm.metadata  # looks the name up
    except ValueError as error:
        raise InvalidOptionError(
            f"--llm is {name!r}, which LlamaIndex's OpenAI integration does not know. Use a "
            f"name of OpenAI's, such as {DEFAULT_LLM}, or upgrade llama-index-llms-openai."
        ) from error
    if not llm.api_key:
        raise InvalidOptionError(_no_key(f"--llm {name}"))
    return llm


def name_of_base_model(label: str | None) -> str:
    """Return the name that opens the model an adapter was trained on.

    Args:
        label: the model's name in the adapter's directory.

    Raises:
        InvalidOptionError: when that does not tell.
    """
    return _name_of(label, "base", "--embed-model")


def name_of_query_model(label: str | None) -> str:
    """Return the name that opens another model that an adapter asks for queries.

    Raises:
        InvalidOptionError: when the adapter does not tell.
    """
    return _name_of(label, "query", "--query-embed-model")


def _name_of(label: str | None, role: str, option: str) -> str:
    if label == LOCAL_MODEL:
        return LOCAL
    if label is not None and label in _openai_names():
        return f"openai:{label}"
    if label is not None and "/" in label:
        return f"huggingface:{label}"
    raise InvalidOptionError(
        f"The adapter's {role} model, {label or 'which it does not name'}, cannot be opened by "
        f"its name. Say which it is: {option} {EMBED_MODELS}."
    )


def code_for(name: str) -> tuple[str, str]:
    """Return the import line and the expression that open an embedding model in Python."""
    provider, model = _parsed(name)
    if provider == LOCAL:
        return "from llama_index_adapters import local_embedding", "local_embedding()"
    if provider == "openai":
        line = "from llama_index.embeddings.openai import OpenAIEmbedding"
        return line, f'OpenAIEmbedding(model="{model}")'
    line = "from llama_index.embeddings.huggingface import HuggingFaceEmbedding"
    return line, f'HuggingFaceEmbedding("{model}")'


def missing_key(error: BaseException) -> str | None:
    """Return what to do when an error, or what caused it, is that OpenAI was given no key."""
    for cause in _causes(error):
        # The class itself: what comes from the server are subclasses of it.
        if type(cause).__name__ == "OpenAIError" and not os.environ.get(_OPENAI_KEY):
            return _no_key("This model")
    return None


def _parsed(name: str) -> tuple[str, str]:
    provider, _, model = name.partition(":")
    if name == LOCAL or (provider in ("openai", "huggingface") and model):
        return provider, model
    raise InvalidOptionError(
        f"--embed-model is {name!r}; expected local, openai:NAME (such as "
        "openai:text-embedding-3-small) or huggingface:NAME (such as "
        f"huggingface:BAAI/bge-small-en-v1.5).{_closest_provider(provider)}"
    )


def _closest_provider(provider: str) -> str:
    return closest_name(provider, (LOCAL, "openai", "huggingface"))


def _open_openai(model: str) -> BaseEmbedding:
    from llama_index.embeddings.openai import (  # type: ignore[import-untyped]
        OpenAIEmbedding,
    )

    names = _openai_names()
    opened: BaseEmbedding
    if model in names:
        opened = OpenAIEmbedding(model=model)
        return opened
    if os.environ.get(_OPENAI_SERVER):
        opened = OpenAIEmbedding(model_name=model)
        return opened
    raise InvalidOptionError(
        f"OpenAI has no embedding model {model!r} that LlamaIndex knows."
        f"{closest_name(model, names)} The names are {', '.join(names)}. "
        f"For a server of your own set {_OPENAI_SERVER}."
    )


def _openai_names() -> list[str]:
    from llama_index.embeddings.openai.base import (  # type: ignore[import-untyped]
        OpenAIEmbeddingModelType,
    )

    return [model.value for model in OpenAIEmbeddingModelType]


def _open_huggingface(model: str) -> BaseEmbedding:
    try:
        from llama_index.embeddings.huggingface import (  # type: ignore[import-untyped]
            HuggingFaceEmbedding,
        )
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise MissingExtraError(
            f"--embed-model huggingface:{model} needs llama-index-embeddings-huggingface, which "
            'this environment does not have. Run: pip install "llama-index-adapters[local]"'
        ) from error
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        opened: BaseEmbedding = HuggingFaceEmbedding(model_name=model)
    except Exception as error:
        raise InvalidOptionError(
            f"--embed-model huggingface:{model} cannot be loaded ({error}). Check the name, or "
            "give the folder of a downloaded model."
        ) from error
    return opened


def _no_key(what: str) -> str:
    return (
        f"{what} needs {_OPENAI_KEY}, which is not set. Run: export {_OPENAI_KEY}=sk-... "
        "(for embeddings without a key: --embed-model local)"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while id(error) not in seen:
        yield error
        seen.add(id(error))
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following
