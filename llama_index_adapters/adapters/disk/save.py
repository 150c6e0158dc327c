"""An adapter to a directory on disk."""

from __future__ import annotations

import importlib.metadata
import os
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import safetensors.numpy

from llama_index_adapters.adapters.disk.config import (
    FORMAT_VERSION,
    AdapterConfig,
    Dimensions,
    Half,
    QueryModel,
    SectionEntry,
    dimension_of,
    require_consistent,
)
from llama_index_adapters.adapters.disk.fingerprint import (
    adapter_fingerprint,
    as_json_holds,
    to_json,
)
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.model_card import model_card
from llama_index_adapters.adapters.disk.parts import PASSAGES, QUERIES, joined, section_part
from llama_index_adapters.adapters.disk.untrusted_files import (
    CARD,
    CONFIG,
    PICKLED_WEIGHTS,
    WEIGHTS,
    require_finite,
)
from llama_index_adapters.adapters.disk.weight_file import require_readable
from llama_index_adapters.adapters.families import CUSTOM, Arrays, build_transform, kind_of
from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import (
    InvalidAdapterError,
    InvalidOptionError,
    UnwritableFileError,
)
from llama_index_adapters.files.atomic import replace_directory, require_writable_directory
from llama_index_adapters.files.temporary import is_temporary
from llama_index_adapters.version import __version__

_OWN_FILES = frozenset({CONFIG, WEIGHTS, CARD, PICKLED_WEIGHTS})
# What a fresh disk holds, such as a volume that a container is given.
_OF_A_DISK = "lost+found"
_LIBRARIES = ("llama-index-core", "numpy", "safetensors", "torch")


class Savable(Protocol):
    """What saving asks of an adapter."""

    unit_input: bool

    def get_config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        ...

    def arrays(self) -> Arrays:
        """Return parameters and buffers by name."""
        ...


def save_adapter(
    path: str | PathLike[str],
    adapter: Savable,
    *,
    metadata: AdapterMetadata | None = None,
    passages: Savable | None = None,
) -> str:
    """Write an adapter's directory, whole or not at all.

    The same adapter and metadata give the same bytes. An adapter that is already there is
    replaced; a directory with anything else in it is refused, see :func:`require_own_directory`.

    Args:
        path: the directory to write.
        adapter: the adapter to save.
        metadata: what is known about it beside its weights.
        passages: the map of passages, of a built-in family; None where they stay as they are.

    Returns:
        The fingerprint of what was written, as reading it gives it again.

    Raises:
        InvalidAdapterError: when its arrays hold NaN or infinity, its config or metadata cannot
            be written as JSON, or the query models do not fit it.
        InvalidOptionError: when the directory holds other files.
        InvalidFileError: when ``path`` is a file.
        UnwritableFileError: when the directory cannot be written.
    """
    metadata = metadata or AdapterMetadata()
    arrays = adapter.arrays()
    half = _query_half(adapter, arrays, metadata)
    maps = {QUERIES: arrays} if passages is None else {QUERIES: arrays, PASSAGES: passages.arrays()}
    config = AdapterConfig(
        format_version=FORMAT_VERSION,
        fingerprint="",
        query_models=_query_models(adapter, metadata, half),
        queries=half,
        passages=None if passages is None else _passage_half(passages, maps[PASSAGES]),
        sections={
            name: SectionEntry(changes_vectors=False, content=dict(section.content))
            for name, section in metadata.sections.items()
        },
        training=dict(metadata.training),
        data=dict(metadata.data),
        metrics=dict(metadata.metrics),
    )
    require_consistent(config, "The adapter's metadata")
    of_sections = {
        section_part(name): section.arrays for name, section in metadata.sections.items()
    }
    return write_adapter(path, config, joined({**maps, **of_sections}))


def _query_half(adapter: Savable, arrays: Arrays, metadata: AdapterMetadata) -> Half:
    kind, name = kind_of(type(adapter)), type(adapter).__name__
    arguments = as_json_holds(adapter.get_config_dict())
    require_finite(arrays, name)
    if kind == CUSTOM:
        query_dim = metadata.query_dim or dimension_of(vars(adapter).get("in_features"))
        passage_dim = metadata.passage_dim or dimension_of(vars(adapter).get("out_features"))
    else:
        transform = build_transform(kind, arguments, arrays, name)
        query_dim, passage_dim = transform.query_dim, transform.passage_dim
    return Half(
        kind=kind,
        adapter_class=name if kind == CUSTOM else None,
        arguments=arguments,
        dimensions=Dimensions(input=query_dim, output=passage_dim),
        result_length=metadata.result_length,
    )


def _passage_half(adapter: Savable, arrays: Arrays) -> Half:
    kind, name = kind_of(type(adapter)), type(adapter).__name__
    if kind == CUSTOM:
        raise InvalidAdapterError(
            f"{name} is an adapter of a class of your own; passages are mapped by a built-in one."
        )
    arguments = as_json_holds(adapter.get_config_dict())
    require_finite(arrays, name)
    transform = build_transform(kind, arguments, arrays, name)
    dimensions = Dimensions(input=transform.query_dim, output=transform.passage_dim)
    return Half(kind=kind, arguments=arguments, dimensions=dimensions)


def _query_models(adapter: Savable, metadata: AdapterMetadata, half: Half) -> list[QueryModel]:
    known: dict[str, object] = {"normalise": "unit" if adapter.unit_input else "none"}
    if len(metadata.query_models) == 1:
        known["dimension"] = half.dimensions.input
    return [model.model_copy(update=known) for model in metadata.query_models]


def write_adapter(path: str | PathLike[str], config: AdapterConfig, arrays: Arrays) -> str:
    """Write a directory in format 2, whole or not at all.

    Args:
        path: the directory to write.
        config: what it says; fingerprint and versions are filled in.
        arrays: of all parts, see :mod:`llama_index_adapters.adapters.disk.parts`.

    Returns:
        The fingerprint.

    Raises:
        InvalidAdapterError: when the config cannot be written as JSON, or there is more than can
            be loaded.
        InvalidOptionError: when the directory holds other files.
        InvalidFileError: when ``path`` is a file.
        UnwritableFileError: when the directory cannot be written.
    """
    path = as_path(path, "The adapter's path")
    fingerprint = adapter_fingerprint(config, arrays)
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    config = config.model_copy(
        update={
            "fingerprint": fingerprint,
            "versions": {"llama-index-adapters": __version__, **versions},
        }
    )
    text = to_json(dict(config), "its config and metadata", indent=2) + "\n"
    card = model_card(config)
    require_own_directory(path)
    try:
        with replace_directory(path) as directory:
            (directory / CONFIG).write_bytes(text.encode())
            (directory / CARD).write_bytes(card.encode(errors="replace"))
            weights = safetensors.numpy.save(arrays)
            require_readable(weights, WEIGHTS)
            (directory / WEIGHTS).write_bytes(weights)
    except OSError as error:
        raise UnwritableFileError(
            f"The adapter could not be written to {path} ({error}); what was there is as it was."
        ) from error
    return fingerprint


def require_own_directory(path: str | PathLike[str]) -> None:
    """Refuse a directory that cannot be written, or that saving would take something else from.

    Saving replaces the whole directory, so it must be new, empty, or hold nothing but an
    adapter. Call it before training, to learn it early.

    Raises:
        InvalidOptionError: naming what is there.
        InvalidFileError: when ``path`` is a file.
        UnwritableFileError: when nothing can be written there.
    """
    directory = as_path(path, "The adapter's path")
    try:
        others = sorted(entry.name for entry in directory.iterdir() if not _is_own(entry))
    except (FileNotFoundError, NotADirectoryError):
        others = []
    except OSError as error:
        raise UnwritableFileError(
            f"{path} cannot be listed ({error}), so nobody knows what saving would replace. Name "
            "a place that is yours."
        ) from error
    if others:
        raise InvalidOptionError(
            f"{path} holds files that are not an adapter's ({', '.join(others[:5])}), and saving "
            "replaces the whole directory. Name a new or an empty one."
        )
    require_writable_directory(directory)


def _is_own(entry: Path) -> bool:
    """Return whether saving may replace something in an adapter's directory, or leaves it there."""
    if entry.name == _OF_A_DISK:  # a mount point stays, and so do directories in it
        return os.path.ismount(entry.parent)
    if is_temporary(entry.name):
        return True
    return entry.name in _OWN_FILES and not entry.is_dir()
