"""What ``config.json`` holds in format 2; ``docs/format.md`` describes it for other readers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from llama_index.core.bridge.pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_index_adapters.adapters.families import CUSTOM, FAMILIES
from llama_index_adapters.errors import InvalidAdapterError, closest_name

FORMAT_VERSION = 2
UPGRADE = "Upgrade llama-index-adapters."

_Dimension = Annotated[int, Field(gt=0)]
_SectionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ResultLength = Literal["base"] | Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Entry(BaseModel):
    """A part of the config: values of the right type, and none that nobody reads."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class QueryModel(Entry):
    """A model that embeds queries, and how its vector enters the map.

    Attributes:
        name: as :class:`llama_index_adapters.vectors.identity.IdentifiedModel` labels it.
        identity: hash of the model's settings.
        role: ``base`` for the model that embedded the passages, ``other`` for any other.
        dimension: dimension of its vectors, where it is known.
        normalise: ``unit`` when its vector enters at length one, ``none`` when as it comes.
    """

    name: str | None = None
    identity: str | None = None
    role: Literal["base", "other"] = "base"
    dimension: _Dimension | None = None
    normalise: Literal["unit", "none"] = "unit"


class Dimensions(Entry):
    """Dimensions of what a map takes and of what it gives, where they are known."""

    input: _Dimension | None = None
    output: _Dimension | None = None


class Half(Entry):
    """A map of vectors: of queries, or of passages.

    Attributes:
        kind: the word of its family, ``"custom"`` for a user's own class.
        adapter_class: the name of a user's own class, for people; nothing imports it.
        arguments: what the class is built from.
        dimensions: of the vectors that it takes and gives.
        result_length: ``base`` for the length of the base model's vector of the same text, or
            the length that every result has.
    """

    kind: str
    adapter_class: str | None = None
    arguments: dict[str, Any]
    dimensions: Dimensions = Dimensions()
    result_length: ResultLength = "base"


class SectionEntry(Entry):
    """What a later release adds; its arrays are in ``model.safetensors`` under its name.

    Attributes:
        changes_vectors: whether vectors come out wrong for who does not know the section.
        content: what it says, as its name defines.
    """

    changes_vectors: bool
    content: dict[str, Any] = Field(default_factory=dict)


class AdapterConfig(Entry):
    """What ``config.json`` holds.

    Attributes:
        query_models: the models whose vectors, side by side in this order, are mapped.
        queries: the map of queries.
        passages: the map of passages; None where they stay as they are.
        sections: what this release does not know, by name.
    """

    format_version: int
    fingerprint: str
    query_models: Annotated[list[QueryModel], Field(min_length=1)]
    queries: Half
    passages: Half | None = None
    sections: dict[_SectionName, SectionEntry] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def unit_input(self) -> bool:
        """Whether queries enter the map at length one."""
        return self.query_models[0].normalise == "unit"


def dimension_of(value: object) -> int | None:
    """Return a value when it looks like a dimension."""
    return value if type(value) is int and value > 0 else None


def require_version(written: Mapping[str, Any], path: Path) -> int:
    """Return the format version of a config.

    Raises:
        InvalidAdapterError: when there is none, or one that this release does not read.
    """
    version = written.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InvalidAdapterError(
            f"{path} has format version {version}; this release reads up to {FORMAT_VERSION}. "
            f"{UPGRADE}"
        )
    if type(version) is not int or version < 1:
        raise InvalidAdapterError(
            f"{path} has format_version {version!r}; expected a number from 1 to {FORMAT_VERSION}."
        )
    return version


def parsed_config(written: Mapping[str, Any], path: Path) -> AdapterConfig:
    """Return a config of format 2.

    Raises:
        InvalidAdapterError: for an entry that is missing, wrong or not part of the format, an
            unknown kind, or an unknown section that changes vectors.
    """
    config = parsed(AdapterConfig, written, path)
    for half in (config.queries, config.passages):
        if half is not None:
            require_known_kind(half.kind, path)
    for name, section in config.sections.items():
        if section.changes_vectors:
            raise InvalidAdapterError(
                f"{path} has a section {name!r} that changes vectors, and this release does not "
                f"know it. {UPGRADE}"
            )
    require_consistent(config, path)
    return config


_EntryT = TypeVar("_EntryT", bound=BaseModel)


def parsed(entry: type[_EntryT], written: Mapping[str, Any], path: Path) -> _EntryT:
    """Return what was written as an entry of a config.

    Raises:
        InvalidAdapterError: naming the first three that are missing, wrong or unknown.
    """
    try:
        return entry.model_validate(written)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()[:3]
        )
        raise InvalidAdapterError(f"{path} is not a valid adapter config: {wrong}.") from error


def require_known_kind(kind: str, path: Path) -> None:
    """Refuse a kind of adapter that this release does not have.

    Raises:
        InvalidAdapterError: with the closest known one.
    """
    if kind != CUSTOM and kind not in FAMILIES:
        raise InvalidAdapterError(
            f"{path} names the adapter kind {kind!r}; known: {', '.join(FAMILIES)}, {CUSTOM}."
            + closest_name(kind, FAMILIES)
        )


def require_consistent(config: AdapterConfig, source: object) -> None:
    """Refuse query models that do not fit together, or do not fit the map, or two unlike maps.

    Raises:
        InvalidAdapterError: for two base models, a length of a base that is not asked,
            dimensions that do not add up, or maps into spaces of different dimensions.
    """
    bases = sum(model.role == "base" for model in config.query_models)
    if bases > 1:
        raise InvalidAdapterError(
            f"{source} names {bases} query models as the base; one model embedded the passages."
        )
    if not bases and config.queries.result_length == "base":
        raise InvalidAdapterError(
            f"{source} gives a result the length of the base model's vector, but no query model "
            "is the base; expected a number as result_length."
        )
    dimensions = [model.dimension for model in config.query_models]
    expected = config.queries.dimensions.input
    known = [dimension for dimension in dimensions if dimension is not None]
    if expected is not None and len(known) == len(dimensions) and sum(known) != expected:
        raise InvalidAdapterError(
            f"{source} has query models of {' and '.join(map(str, known))} dimensions, but its "
            f"map takes {expected}; expected their sum."
        )
    outputs = [half.dimensions.output for half in (config.queries, config.passages) if half]
    if None not in outputs and len(set(outputs)) > 1:
        raise InvalidAdapterError(
            f"{source} maps queries to {outputs[0]} dimensions and passages to {outputs[1]}; "
            "expected the same for both."
        )
