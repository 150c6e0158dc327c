"""What stores of format 1 knew a model by: its fields alone.

It told too few models apart, so it only serves to find the vectors that such a store has, of models
for which it was enough. It never changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel

from llama_index_adapters.files.content import content_sha256, expanded
from llama_index_adapters.services.identity.code import is_own
from llama_index_adapters.services.identity.folders import is_huggingface, model_files
from llama_index_adapters.vectors.wrapped import wrapped_models

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
_NAMES = re.compile(r"(model|model_?name|model_?id|deployment(_name|_id)?|engine)")
_ENDPOINT = re.compile(r"(.*_)?(ur[il]|endpoint|host)(_.*)?")
# Settings that two integrations keep outside their fields.
_PRIVATE_SETTINGS = ("_query_engine", "_text_engine")


def former_identity(model: BaseEmbedding) -> str | None:
    """Return what a store of format 1 knows a model by.

    Returns:
        None where that did not tell it from others: for a class in nobody's package, one that
        nothing names but its endpoint, and whatever wraps such a model.
    """
    if not _was_enough(model):
        return None
    return hashlib.sha256(json.dumps(_settings(model), sort_keys=True).encode()).hexdigest()


def _was_enough(model: BaseEmbedding) -> bool:
    if any(is_own(kind) for kind in type(model).__mro__ if kind is not object):
        return False
    wrapped = list(wrapped_models(model))
    return all(map(_was_enough, wrapped)) if wrapped else _is_named(model)


def _is_named(model: BaseEmbedding) -> bool:
    """Return whether a field says which model it is, beside an endpoint one that was given."""
    fields = type(model).model_fields
    has_endpoint = any(map(_ENDPOINT.fullmatch, fields))
    for name, field in fields.items():
        value = getattr(model, name, None)
        if not _NAMES.fullmatch(name) or not isinstance(value, str):
            continue
        if value.strip().lower() in ("", "unknown", "default"):
            continue
        if not (has_endpoint and value == field.default):
            return True
    return False


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
    files = model_files(model)
    if files is not None:
        settings["fields"]["model_name"] = content_sha256(files)
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


def _content_at(path: str | Path) -> str | None:
    """Return what a path stands for, None when nothing is there."""
    named = expanded(path)
    return content_sha256(named) if str(path) and named.exists() else None
