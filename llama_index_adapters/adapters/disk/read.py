"""A directory on disk to an adapter."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

from llama_index_adapters.adapters.disk.built_in import build_transform
from llama_index_adapters.adapters.disk.config import (
    AdapterConfig,
    AdapterMetadata,
    Arrays,
    adapter_fingerprint,
    checked_config,
    old_config,
)
from llama_index_adapters.adapters.disk.files import (
    CONFIG,
    OLD_WEIGHTS,
    WEIGHTS,
    adapter_directory,
    has_file,
    missing,
    read_config,
    read_safetensors,
    require_finite,
)
from llama_index_adapters.adapters.disk.llamaindex import is_old_config, read_old_weights
from llama_index_adapters.adapters.families import CUSTOM, KINDS, kind_of
from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError, MissingFileError
from llama_index_adapters.files.paths import as_path

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter

    AdapterT = TypeVar("AdapterT", bound=BaseAdapter)


@dataclass(frozen=True)
class SavedAdapter:
    """A saved adapter, ready to serve.

    Attributes:
        kind: its family, ``"custom"`` for a user's own class.
        transform: maps query vectors to passage space.
        unit_input: whether the transform expects queries of unit length.
        fingerprint: sha256 over kind, arguments and arrays.
        metadata: what was saved beside the weights.
    """

    kind: str
    transform: Transform
    unit_input: bool
    fingerprint: str
    metadata: AdapterMetadata


def load_saved(
    path: str | PathLike[str],
    adapter_cls: type[BaseAdapter] | None = None,
    *,
    device: str | None = None,
) -> SavedAdapter:
    """Read an adapter to serve queries with.

    Args:
        path: the directory of a saved adapter, or of one that LlamaIndex's engine wrote.
        adapter_cls: the class of a user's own adapter. For a built-in one it may be left out;
            when given, it has to be the one that was saved, or a base or subclass of it.
        device: where a user's own adapter runs; the others need numpy alone.

    Raises:
        MissingFileError: when something is not there.
        InvalidAdapterError: when it cannot be used, saying why.
    """
    stored = _read(path)
    adapter_class = _class_to_load(stored, adapter_cls, serving=True)
    config, metadata = stored.config, stored.config.metadata()
    transform: Transform
    if adapter_class is None:
        transform = build_transform(
            stored.config.kind, config.arguments, stored.arrays, stored.path
        )
    else:
        from llama_index_adapters.adapters.learned.base import ModuleTransform

        adapter = _build(stored, adapter_class)
        transform = ModuleTransform(adapter, metadata.query_dim, metadata.passage_dim, device)
    return SavedAdapter(config.kind, transform, config.unit_input, config.fingerprint, metadata)


@overload
def load_adapter(path: str | PathLike[str]) -> BaseAdapter: ...
@overload
def load_adapter(path: str | PathLike[str], adapter_cls: type[AdapterT]) -> AdapterT: ...
@overload
def load_adapter(path: str | PathLike[str], adapter_cls: None) -> BaseAdapter: ...
def load_adapter(
    path: str | PathLike[str], adapter_cls: type[BaseAdapter] | None = None
) -> BaseAdapter:
    """Read an adapter to train it further; imports torch.

    Args:
        path: the directory of a saved adapter, or of one that LlamaIndex's engine wrote.
        adapter_cls: the class of a user's own adapter. For a built-in one it may be left out;
            when given, it has to be the one that was saved, or a base or subclass of it.

    Raises:
        MissingFileError: when something is not there.
        InvalidAdapterError: when it cannot be used, saying why.
    """
    stored = _read(path)
    adapter_class = _class_to_load(stored, adapter_cls, serving=False)
    if adapter_class is None:
        # The numpy half checks every shape before torch allocates what the config asks for.
        build_transform(stored.config.kind, stored.config.arguments, stored.arrays, stored.path)
        adapter_class = KINDS[stored.config.kind].adapter_class()
    adapter = _build(stored, adapter_class)
    adapter.unit_input = stored.config.unit_input
    return adapter


@dataclass(frozen=True)
class _Stored:
    """A directory that was read and checked, before anything is built from it."""

    path: Path
    config: AdapterConfig
    arrays: Arrays
    written_by_llamaindex: bool


def _read(path: str | PathLike[str]) -> _Stored:
    # Somebody may replace the directory between its two files. Then it is read again: what went
    # wrong is an error only when the directory is still the one that the read began with.
    while True:
        began = _directory_state(path)
        try:
            return _read_once(path)
        except (MissingFileError, _TornReadError):
            if _directory_state(path) == began:
                raise


def _directory_state(path: str | PathLike[str]) -> tuple[int, int] | None:
    """Return what changes when a directory is replaced; None when nothing is there."""
    try:
        status = as_path(path, "The adapter's path").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class _TornReadError(InvalidAdapterError):
    """``config.json`` and ``model.safetensors`` are not of the same adapter."""


def _read_once(path: str | PathLike[str]) -> _Stored:
    directory = adapter_directory(path)
    written = read_config(directory)
    old = is_old_config(written)
    config = old_config(written) if old else checked_config(written, directory)
    if has_file(directory, WEIGHTS):
        arrays = read_safetensors(directory)
    elif old and has_file(directory, OLD_WEIGHTS):
        arrays = read_old_weights(directory)
    else:
        raise missing(directory, WEIGHTS)
    require_finite(arrays, directory)
    fingerprint = adapter_fingerprint(config.kind, config.arguments, arrays)
    if old:
        config = config.model_copy(update={"fingerprint": fingerprint})
    elif fingerprint != config.fingerprint:
        raise _TornReadError(
            f"{directory / CONFIG} and {WEIGHTS} do not belong together: the fingerprint in the "
            "config is of other weights. Save the adapter again, or copy both files."
        )
    return _Stored(directory, config, arrays, old)


def _class_to_load(
    stored: _Stored, adapter_cls: type[BaseAdapter] | None, *, serving: bool
) -> type[BaseAdapter] | None:
    """Return the torch class to build, None for the built-in one of the saved kind."""
    if adapter_cls is None and stored.config.kind != CUSTOM:
        return None
    if adapter_cls is not None:
        _require_adapter_class(adapter_cls)
    if stored.config.kind == CUSTOM:
        if adapter_cls is None or inspect.isabstract(adapter_cls):
            name = stored.config.adapter_class or "the class that was saved"
            raise InvalidAdapterError(
                f"{stored.path} holds an adapter of a class that is not built in ({name}). "
                "Nothing that a file names is imported: import the class yourself and pass it "
                f"as adapter_cls."
            )
        if kind_of(adapter_cls) == CUSTOM:
            return adapter_cls
        found = stored.config.adapter_class or "an adapter of another class"
        raise _wrong_class(stored, found, adapter_cls)
    assert adapter_cls is not None
    saved = KINDS[stored.config.kind].adapter_class()
    if issubclass(saved, adapter_cls):
        return None
    if issubclass(adapter_cls, saved):
        return adapter_cls
    if stored.written_by_llamaindex and kind_of(adapter_cls) == CUSTOM:
        return adapter_cls  # its configs do not say of which class they are
    if serving and stored.config.kind == "identity":
        return None  # what training any class gives when nothing beat the base model
    raise _wrong_class(stored, f"{saved.__name__} (kind {stored.config.kind!r})", adapter_cls)


def _wrong_class(stored: _Stored, found: str, given: type[BaseAdapter]) -> InvalidAdapterError:
    return InvalidAdapterError(
        f"{stored.path} holds {found}, but adapter_cls is {given.__name__}. Pass the class that "
        "was saved; for a built-in one adapter_cls can be left out."
    )


def _require_adapter_class(adapter_cls: object) -> None:
    from llama_index_adapters.adapters.learned.base import BaseAdapter

    if not (isinstance(adapter_cls, type) and issubclass(adapter_cls, BaseAdapter)):
        name = adapter_cls.__qualname__ if isinstance(adapter_cls, type) else repr(adapter_cls)
        raise InvalidOptionError(
            f"adapter_cls is {name}; expected a subclass of llama_index_adapters.BaseAdapter "
            "(for a class written for LlamaIndex, change the import of BaseAdapter)."
        )


def _build(stored: _Stored, adapter_class: type[BaseAdapter]) -> BaseAdapter:
    try:
        adapter = adapter_class(**stored.config.arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidAdapterError(
            f"{adapter_class.__name__} cannot be built from the arguments in {stored.path} "
            f"({', '.join(stored.config.arguments) or 'none'}): {error}"
        ) from error
    adapter.load_arrays(stored.arrays)
    return adapter
