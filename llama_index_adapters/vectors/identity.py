"""What makes two embedding models the same model: every setting that changes a vector."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel

from llama_index_adapters.errors import InvalidOptionError

# A setting is left out when one of the words of its name is here: it says who asks, or where
# or how a model runs, and does not change a vector.
_WITHOUT_EFFECT = re.compile(
    r"""
    api | keys? | secrets? | token | passw(or)?d | credentials? | auth | authorization | bearer
    | cookies? | user | username | organization | org | project | tenant | account | profile | ad
    | ur[il] | endpoint | host | hostname | port | region | location | prox(y|ies) | headers?
    | client | ssl | verify | devices? | gpu | cuda
    | batch | timeout | retr(y|ies) | workers? | threads? | parallel | concurrency | reuse
    | callbacks? | cache | limiter | progress | verbose | log | logger | logging | alive
    """,
    re.VERBOSE,
)
# A path is not a setting, but the files there may be the model: their content counts.
_FILES = re.compile(r"paths? | folder | dir | directory | file | filename", re.VERBOSE)
# Settings that two integrations keep outside their fields.
_PRIVATE_SETTINGS = ("_query_engine", "_text_engine")


@dataclass(frozen=True, eq=False)
class IdentifiedModel:
    """An embedding model, what it is known by and what people call it.

    Both are made of the model when they are first asked for, and not again.

    Attributes:
        model: the embedding model.

    Raises:
        InvalidOptionError: when it is something else.
    """

    model: BaseEmbedding

    def __post_init__(self) -> None:
        checked_model(self.model)

    @cached_property
    def identity(self) -> str:
        """A sha256 over every setting that changes a vector.

        It is made of the class, its fields and those of a model it wraps, without paths,
        endpoints, keys, batch sizes, timeouts and the like. A model loaded from a folder is
        known by the content of its files: elsewhere it is the same, changed it is another.
        """
        settings = json.dumps(_settings(self.model), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()

    @cached_property
    def label(self) -> str:
        """The model's name for people; of a folder, its last component."""
        name = self.model.model_name
        if not name or name == "unknown":
            return type(self.model).__name__
        path = Path(name)
        if path.is_absolute() or _model_files(self.model) is not None:
            return _expanded(path).resolve().name
        return name


def checked_model(embed_model: object) -> BaseEmbedding:
    """Return it when it is an embedding model.

    Raises:
        InvalidOptionError: when it is something else.
    """
    if not isinstance(embed_model, BaseEmbedding):
        raise InvalidOptionError(
            f"embed_model is {type(embed_model).__name__}; expected a LlamaIndex embedding "
            "model, such as OpenAIEmbedding() or local_embedding()."
        )
    return embed_model


def wrapped_models(embed_model: BaseEmbedding) -> Iterator[BaseEmbedding]:
    """Yield the embedding models that a model holds in its fields and private attributes."""
    for holder in (embed_model.__dict__, embed_model.__pydantic_private__ or {}):
        for name in sorted(holder):
            if isinstance(holder[name], BaseEmbedding):
                yield holder[name]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _settings(model: BaseEmbedding) -> dict[str, Any]:
    fields = {
        name: getattr(model, name)
        for name, field in type(model).model_fields.items()
        if not field.exclude and not isinstance(getattr(model, name), BaseEmbedding)
    }
    if "fingerprint" in fields:
        # An adapter is known by its weights, not by its folder.
        fields.pop("adapter_path", None)
    settings = {
        "class": type(model).__name__,
        "fields": _canonical(fields),
        "private": {
            name: _canonical(getattr(model, name))
            for name in _PRIVATE_SETTINGS
            if getattr(model, name, None) is not None
        },
        "wraps": [_settings(wrapped) for wrapped in wrapped_models(model)],
        "loaded": _loaded_settings(model),
    }
    files = _model_files(model)
    if files is not None:
        settings["fields"]["model_name"] = _content(files)
    return settings


def _loaded_settings(model: BaseEmbedding) -> dict[str, Any]:
    """Return what a HuggingFaceEmbedding hands to sentence-transformers and does not keep."""
    loaded = getattr(model, "_model", None) if is_huggingface(model) else None
    if loaded is None:
        return {}
    # Instructions that are not given are looked up by name (BGE, E5), so the same files
    # under another name may be prompted differently.
    prompts = getattr(loaded, "prompts", None) or {}
    dtype = str(getattr(loaded, "dtype", None) or "torch.float32")
    return {
        "prompts": {role: prompts.get(role) or "" for role in ("query", "text")},
        "truncate_dim": getattr(loaded, "truncate_dim", None),
        "dtype": dtype,
    }


def _model_files(model: BaseEmbedding) -> Path | None:
    """Return the folder or file that ``model_name`` names, if it is one."""
    name = model.model_name
    # Elsewhere a bare name is a name, even when a folder here happens to be called so; and
    # the bundled model is known by its public name.
    may_be_path = is_huggingface(model) or name.startswith((".", "~", os.sep))
    if not name or not may_be_path or "LocalEmbedding" in _class_names(model):
        return None
    path = _expanded(name)
    return path if path.exists() else None


def is_huggingface(model: BaseEmbedding) -> bool:
    """Return whether it is a HuggingFaceEmbedding, told by name: the class imports torch."""
    return "HuggingFaceEmbedding" in _class_names(model)


def _class_names(model: BaseEmbedding) -> set[str]:
    return {cls.__name__ for cls in type(model).__mro__}


def _named(name: object, words: re.Pattern[str]) -> bool:
    """Return whether ``apiKey``, ``api_key`` or ``X-Api-Key`` contains one of the words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).lower()
    return any(words.fullmatch(word) for word in re.split(r"[^a-z0-9]+", spaced))


def _canonical(value: Any) -> Any:
    """Return JSON that is the same in every process for the same setting."""
    if isinstance(value, Enum):
        return _canonical(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, BaseEmbedding):
        return _settings(value)
    if isinstance(value, BaseModel):
        return _canonical(dict(value))
    if isinstance(value, Mapping):
        settings: dict[str, Any] = {}
        for name, item in value.items():
            if _named(name, _WITHOUT_EFFECT):
                continue
            if _named(name, _FILES) and isinstance(item, str | Path):
                content = _content_at(item)
                if content is not None:
                    settings[str(name)] = content
            else:
                settings[str(name)] = _canonical(item)
        return settings
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_canonical(item), sort_keys=True) for item in value)
    if isinstance(value, Path):
        return _content_at(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return [array.dtype.str, list(array.shape), content]
    # Any other object: its repr may hold a memory address, so only its kind counts.
    named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _expanded(path: str | Path) -> Path:
    """Return a path with ``~`` expanded, as it is where nobody has that home directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _content_at(path: str | Path) -> str | None:
    """Return what a path stands for, None when nothing is there."""
    named = _expanded(path)
    return _content(named) if str(path) and named.exists() else None


def _content(path: Path) -> str:
    """Return a sha256 over the names and contents of a model's files."""
    if path.is_file():
        return file_sha256(path)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() != ".md"
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    stats = [(path / name).stat() for name in names]
    return _folder_sha256(
        path.resolve(),
        tuple((name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)),
    )


# Weights may be gigabytes, and the identity is asked for several times in a run.
@lru_cache(maxsize=32)
def _folder_sha256(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in files:
        digest.update(json.dumps([name, file_sha256(folder / name)]).encode())
    return digest.hexdigest()
