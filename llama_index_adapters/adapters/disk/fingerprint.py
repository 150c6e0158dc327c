"""A sha256 over everything that decides which vectors an adapter gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import BaseModel

from llama_index_adapters.adapters.disk.config import AdapterConfig
from llama_index_adapters.adapters.disk.parts import part_of, section_part
from llama_index_adapters.adapters.families import Arrays
from llama_index_adapters.errors import InvalidAdapterError


def adapter_fingerprint(config: AdapterConfig, arrays: Arrays) -> str:
    """Return the fingerprint of a config and the arrays beside it, named by their part.

    It covers the query models but for their names and identities, both maps, and the sections
    that change vectors. Who embeds the queries is another question: the same map of another
    model's vectors has the same fingerprint.
    """
    optional = {
        section_part(name)
        for name, section in config.sections.items()
        if not section.changes_vectors
    }
    decides = {
        "query_models": [
            {"role": model.role, "dimension": model.dimension, "normalise": model.normalise}
            for model in config.query_models
        ],
        "queries": config.queries,
        "passages": config.passages,
        "sections": {
            name: section.content
            for name, section in config.sections.items()
            if section.changes_vectors
        },
    }
    counted = {name: array for name, array in arrays.items() if part_of(name) not in optional}
    return digest(decides, counted)


def digest(decides: object, arrays: Arrays) -> str:
    """Return a sha256 over a value as JSON, then each array: name, type, shape and bytes."""
    sha256 = hashlib.sha256(to_json(decides, "get_config_dict()").encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha256.update(f"\n{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        sha256.update(array.data if array.size else b"")
    return sha256.hexdigest()


def to_json(value: object, what: str, indent: int | None = None) -> str:
    """Return JSON with sorted keys.

    Raises:
        InvalidAdapterError: when JSON cannot hold the value.
    """
    try:
        return json.dumps(value, default=_plain, sort_keys=True, indent=indent, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidAdapterError(f"{what} cannot be written as JSON: {error}.") from error


def as_json_holds(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as reading them back will give them."""
    held: dict[str, Any] = json.loads(to_json(arguments, "get_config_dict()"))
    return held


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
