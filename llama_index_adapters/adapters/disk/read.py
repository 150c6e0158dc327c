"""A directory on disk to what it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from llama_index_adapters.adapters.disk.config import (
    UPGRADE,
    AdapterConfig,
    Half,
    parsed_config,
    require_version,
)
from llama_index_adapters.adapters.disk.fingerprint import adapter_fingerprint
from llama_index_adapters.adapters.disk.format_one import (
    fingerprint_of_format_one,
    upgraded_config,
)
from llama_index_adapters.adapters.disk.llamaindex import (
    is_llamaindex_config,
    llamaindex_config,
    read_pickled_weights,
)
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata, Section
from llama_index_adapters.adapters.disk.parts import (
    PASSAGES,
    QUERIES,
    joined,
    section_part,
    separated,
)
from llama_index_adapters.adapters.disk.untrusted_files import (
    CONFIG,
    PICKLED_WEIGHTS,
    WEIGHTS,
    adapter_directory,
    has_file,
    missing,
    read_config,
    require_finite,
)
from llama_index_adapters.adapters.disk.weight_file import DeclaredArray, read_safetensors
from llama_index_adapters.adapters.families import (
    CUSTOM,
    Arrays,
    build_transform,
    require_arrays,
)
from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.files.atomic import pending_directories


@dataclass(frozen=True)
class StoredAdapter:
    """A directory that was read and checked, before anything is built from it.

    Attributes:
        path: the directory.
        config: what it says, as format 2 has it, whatever format it is in.
        parts: the arrays of each part, see :mod:`llama_index_adapters.adapters.disk.parts`.
        written_by_llamaindex: whether LlamaIndex's engine wrote it.
    """

    path: Path
    config: AdapterConfig
    parts: Mapping[str, Arrays]
    written_by_llamaindex: bool

    @property
    def query_arrays(self) -> Arrays:
        """The arrays of the map of queries."""
        return self.parts[QUERIES]

    def metadata(self) -> AdapterMetadata:
        """Return what was saved beside the weights."""
        config, dimensions = self.config, self.config.queries.dimensions
        return AdapterMetadata(
            query_models=tuple(config.query_models),
            query_dim=dimensions.input,
            passage_dim=dimensions.output,
            training=config.training,
            data=config.data,
            metrics=config.metrics,
            sections={
                name: Section(section.content, self.parts[section_part(name)])
                for name, section in config.sections.items()
            },
            result_length=config.queries.result_length,
        )

    def query_transform(self) -> Transform:
        """Build the numpy half of the map of queries, of a built-in kind.

        Raises:
            InvalidAdapterError: when arguments, arrays and dimensions do not fit together.
        """
        return self._transform(self.config.queries, QUERIES)

    def passage_transform(self) -> Transform | None:
        """Build the numpy half of the map of passages; None where they stay as they are.

        Raises:
            InvalidAdapterError: when arguments, arrays and dimensions do not fit together.
        """
        half = self.config.passages
        return None if half is None else self._transform(half, PASSAGES)

    def _transform(self, half: Half, part: str) -> Transform:
        transform = build_transform(half.kind, half.arguments, self.parts[part], self.path)
        for declared, made in (
            (half.dimensions.input, transform.query_dim),
            (half.dimensions.output, transform.passage_dim),
        ):
            if declared not in (None, made):
                raise InvalidAdapterError(
                    f"{self.path} declares a map of {half.dimensions.input} to "
                    f"{half.dimensions.output} dimensions, but its arguments make one of "
                    f"{transform.query_dim} to {transform.passage_dim}."
                )
        return transform


def require_computable(stored: StoredAdapter) -> None:
    """Refuse what the format can say and this release cannot compute.

    Raises:
        InvalidAdapterError: for a map of passages of a user's own class, to a length of its own
            or beside several query models; for several query models, or results of a length of
            their own, where vectors enter as they come.
    """
    config, more = stored.config, None
    several = len(config.query_models) > 1
    if config.passages is not None and (
        several or config.passages.kind == CUSTOM or config.passages.result_length != "base"
    ):
        more = "maps passages in a way of its own"
    elif (several or config.queries.result_length != "base") and any(
        model.normalise != "unit" for model in config.query_models
    ):
        more = "lets vectors enter as they come and gives them another length"
    elif several and any(model.dimension is None for model in config.query_models):
        more = "does not say the dimension of each of its query models"
    if more is not None:
        raise InvalidAdapterError(
            f"{stored.path} {more}, which this release does not do. {UPGRADE}"
        )


def read_adapter(path: str | PathLike[str]) -> StoredAdapter:
    """Read a saved adapter, or one that LlamaIndex's engine wrote.

    Raises:
        MissingFileError: when something is not there.
        InvalidAdapterError: when it cannot be used, saying why.
    """
    # Somebody may replace the directory between its two files. Then it is read again: what went
    # wrong is an error only when the directory is still the one that the read began with.
    directory = as_path(path, "The adapter's path")
    while True:
        began = _directory_state(directory)
        try:
            stored = _read_once(path)
        except (FileNotFoundError, _TornReadError):
            # Where files are replaced one by one, a whole set of them lies inside.
            for pending in pending_directories(directory):
                with contextlib.suppress(OSError, InvalidAdapterError):
                    return replace(_read_once(pending), path=directory)
            if _directory_state(directory) == began:
                raise
        else:
            # LlamaIndex's config has no fingerprint that would show weights of another adapter.
            if not stored.written_by_llamaindex or _directory_state(directory) == began:
                return stored


def _directory_state(directory: Path) -> list[tuple[int, int] | None]:
    """Return what changes when a directory, or a file in it, is replaced."""
    state: list[tuple[int, int] | None] = []
    for path in (directory, directory / CONFIG, directory / WEIGHTS):
        try:
            status = path.stat()
        except OSError:
            state.append(None)
        else:
            state.append((status.st_ino, status.st_mtime_ns))
    return state


class _TornReadError(InvalidAdapterError):
    """``config.json`` and ``model.safetensors`` do not look like those of the same adapter."""


def _read_once(path: str | PathLike[str]) -> StoredAdapter:
    directory = adapter_directory(path)
    written = read_config(directory)
    if is_llamaindex_config(written):
        config = llamaindex_config(written)
        arrays = joined({QUERIES: _arrays_of_llamaindex(config, directory)})
    elif require_version(written, directory / CONFIG) == 1:
        config, arrays = _read_format_one(written, directory)
    else:
        config = parsed_config(written, directory / CONFIG)
        arrays = _arrays(config, directory)
        _require_same(adapter_fingerprint(config, arrays), config, directory)
    config = config.model_copy(update={"fingerprint": adapter_fingerprint(config, arrays)})
    parts = separated(arrays, _parts(config), directory)
    for part in (QUERIES, PASSAGES):
        require_finite(parts.get(part, {}), directory)
    return StoredAdapter(directory, config, parts, is_llamaindex_config(written))


def _parts(config: AdapterConfig) -> list[str]:
    halves = [QUERIES] if config.passages is None else [QUERIES, PASSAGES]
    return [*halves, *map(section_part, config.sections)]


def _read_format_one(written: Mapping[str, Any], directory: Path) -> tuple[AdapterConfig, Arrays]:
    config = upgraded_config(written, directory / CONFIG)
    arrays = _arrays(config, directory, in_parts=False)
    half = config.queries
    _require_same(fingerprint_of_format_one(half.kind, half.arguments, arrays), config, directory)
    return config, joined({QUERIES: arrays})


def _arrays(config: AdapterConfig, directory: Path, *, in_parts: bool = True) -> Arrays:
    """Read the weights, where their header fits the config."""

    def require_expected(declared: Mapping[str, DeclaredArray]) -> None:
        try:
            named = declared if in_parts else {f"{QUERIES}.{k}": v for k, v in declared.items()}
            parts = separated(named, _parts(config), directory)
            for part, half in ((QUERIES, config.queries), (PASSAGES, config.passages)):
                if half is not None and half.kind != CUSTOM:
                    require_arrays(half.kind, half.arguments, parts[part], directory)
        except InvalidAdapterError as error:
            raise _TornReadError(str(error)) from error

    if not has_file(directory, WEIGHTS):
        raise missing(directory, WEIGHTS)
    return read_safetensors(directory, require_expected)


def _arrays_of_llamaindex(config: AdapterConfig, directory: Path) -> Arrays:
    if not has_file(directory, WEIGHTS) and has_file(directory, PICKLED_WEIGHTS):
        return read_pickled_weights(directory, config.queries)
    return _arrays(config, directory, in_parts=False)


def _require_same(fingerprint: str, config: AdapterConfig, directory: Path) -> None:
    if fingerprint != config.fingerprint:
        raise _TornReadError(
            f"{directory / CONFIG} and {WEIGHTS} do not belong together: the fingerprint in the "
            "config is of other weights. Save the adapter again, or copy both files."
        )
