"""What ``config.json`` holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_index_adapters.adapters.disk.files import CONFIG
from llama_index_adapters.adapters.disk.llamaindex import old_kind
from llama_index_adapters.adapters.families import CUSTOM, KINDS, Arrays
from llama_index_adapters.errors import InvalidAdapterError, closest_name

FORMAT_VERSION = 1


@dataclass(frozen=True)
class AdapterMetadata:
    """What is known about an adapter beside its weights; every part may be missing.

    Attributes:
        base_model: name of the embedding model it was trained on, as
            :class:`llama_index_adapters.vectors.identity.IdentifiedModel` labels it.
        base_model_identity: hash of that model's settings.
        query_dim: dimension of the query vectors; a built-in adapter knows it.
        passage_dim: dimension of the passage vectors; likewise.
        training: the options it was trained with, as JSON can hold them.
        data: what it was trained on: ``fingerprint``, the counts ``queries`` and ``passages``.
            Never texts.
        metrics: measured figures by system (``base``, ``adapted``), then by metric.
    """

    base_model: str | None = None
    base_model_identity: str | None = None
    query_dim: int | None = None
    passage_dim: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class Dimensions(_Strict):
    """Dimensions of the vectors, where they are known."""

    query: int | None = None
    passage: int | None = None


class BaseModelInfo(_Strict):
    """The embedding model an adapter was trained on."""

    name: str | None = None
    identity: str | None = None


class AdapterConfig(_Strict):
    """What ``config.json`` holds."""

    format_version: int
    kind: str
    adapter_class: str | None = None
    arguments: dict[str, Any]
    dimensions: Dimensions = Dimensions()
    unit_input: bool
    fingerprint: str
    base_model: BaseModelInfo = BaseModelInfo()
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    def metadata(self) -> AdapterMetadata:
        """Return what was saved beside the weights."""
        return AdapterMetadata(
            base_model=self.base_model.name,
            base_model_identity=self.base_model.identity,
            query_dim=self.dimensions.query,
            passage_dim=self.dimensions.passage,
            training=self.training,
            data=self.data,
            metrics=self.metrics,
        )


def checked_config(written: dict[str, Any], directory: Path) -> AdapterConfig:
    """Return the config that :func:`save_adapter` wrote.

    Raises:
        InvalidAdapterError: for another format version, a missing or wrong entry, or an
            unknown kind.
    """
    path, version = directory / CONFIG, written.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InvalidAdapterError(
            f"{path} has format version {version}; this release reads up to {FORMAT_VERSION}. "
            "Upgrade llama-index-adapters."
        )
    if type(version) is not int or version < 1:
        raise InvalidAdapterError(
            f"{path} has format_version {version!r}; expected {FORMAT_VERSION}."
        )
    try:
        config = AdapterConfig.model_validate(written)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()[:3]
        )
        raise InvalidAdapterError(f"{path} is not a valid adapter config: {found}.") from error
    if config.kind != CUSTOM and config.kind not in KINDS:
        raise InvalidAdapterError(
            f"{path} names the adapter kind {config.kind!r}; known: {', '.join(KINDS)}, {CUSTOM}."
            + closest_name(config.kind, KINDS)
        )
    return config


def old_config(arguments: dict[str, Any]) -> AdapterConfig:
    """Return the config of a directory that LlamaIndex's engine wrote."""
    return AdapterConfig(
        format_version=0,
        kind=old_kind(arguments),
        arguments=arguments,
        dimensions=Dimensions(
            query=dimension_of(arguments, "in_features"),
            passage=dimension_of(arguments, "out_features"),
        ),
        unit_input=False,
        fingerprint="",
    )


def adapter_fingerprint(kind: str, arguments: Mapping[str, Any], arrays: Arrays) -> str:
    """Return a sha256 over everything that decides what an adapter does."""
    digest = hashlib.sha256(to_json([kind, arguments], "get_config_dict()").encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def to_json(value: object, what: str, indent: int | None = None) -> str:
    """Return JSON with sorted keys.

    Raises:
        InvalidAdapterError: when JSON cannot hold the value.
    """
    try:
        return json.dumps(
            value,
            default=_plain,
            sort_keys=True,
            indent=indent,
            allow_nan=False,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidAdapterError(f"{what} cannot be written as JSON: {error}.") from error


def as_json_holds(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as reading them back will give them."""
    held: dict[str, Any] = json.loads(to_json(arguments, "get_config_dict()"))
    return held


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def dimension_of(arguments: Mapping[str, Any], name: str) -> int | None:
    """Return an argument when it looks like a dimension."""
    value = arguments.get(name)
    return value if type(value) is int and value > 0 else None
