"""Format 1, which the main branch wrote before the first release: one map of one model's queries.

Its arrays carry no part in their names, and its fingerprint covers kind, arguments and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, ConfigDict, Field

from llama_index_adapters.adapters.disk.config import (
    AdapterConfig,
    Dimensions,
    Half,
    QueryModel,
    dimension_of,
    parsed,
    require_known_kind,
)
from llama_index_adapters.adapters.disk.fingerprint import digest
from llama_index_adapters.adapters.families import Arrays


class _Entry(BaseModel):
    # Unlike format 2, it let entries pass that nobody reads.
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class _Dimensions(_Entry):
    query: int | None = None
    passage: int | None = None


class _BaseModel(_Entry):
    name: str | None = None
    identity: str | None = None


class _FormatOne(_Entry):
    kind: str
    adapter_class: str | None = None
    arguments: dict[str, Any]
    dimensions: _Dimensions = _Dimensions()
    unit_input: bool
    fingerprint: str
    base_model: _BaseModel = _BaseModel()
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


def upgraded_config(written: Mapping[str, Any], path: Path) -> AdapterConfig:
    """Return a config of format 1 as format 2 has it; the fingerprint stays that of format 1.

    Raises:
        InvalidAdapterError: for a missing or wrong entry, or an unknown kind.
    """
    old = parsed(_FormatOne, written, path)
    require_known_kind(old.kind, path)
    query_dim = dimension_of(old.dimensions.query)
    model = QueryModel(
        name=old.base_model.name,
        identity=old.base_model.identity,
        dimension=query_dim,
        normalise="unit" if old.unit_input else "none",
    )
    return AdapterConfig(
        format_version=1,
        fingerprint=old.fingerprint,
        query_models=[model],
        queries=Half(
            kind=old.kind,
            adapter_class=old.adapter_class,
            arguments=old.arguments,
            dimensions=Dimensions(input=query_dim, output=dimension_of(old.dimensions.passage)),
        ),
        training=old.training,
        data=old.data,
        metrics=old.metrics,
        versions=old.versions,
    )


def fingerprint_of_format_one(kind: str, arguments: Mapping[str, Any], arrays: Arrays) -> str:
    """Return the fingerprint as format 1 has it."""
    return digest([kind, arguments], arrays)
