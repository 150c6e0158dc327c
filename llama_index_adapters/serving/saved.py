"""A saved adapter, ready to serve."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.read import (
    StoredAdapter,
    read_adapter,
    require_computable,
)
from llama_index_adapters.adapters.families import CUSTOM
from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.errors import InvalidAdapterError

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter


@dataclass(frozen=True)
class SavedAdapter:
    """A saved adapter, ready to serve.

    Attributes:
        kind: its family, ``"custom"`` for a user's own class.
        transform: maps query vectors to passage space.
        passages: maps passage vectors; None where they stay as they are.
        unit_input: whether the transform expects queries of unit length.
        fingerprint: sha256 over everything that decides which vectors it gives.
        metadata: what was saved beside the weights.
    """

    kind: str
    transform: Transform
    passages: Transform | None
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
    stored = read_adapter(path)
    require_computable(stored)
    config = stored.config
    kind = config.queries.kind
    transform: Transform | None = None
    if adapter_cls is not None or kind == CUSTOM:
        transform = _module_transform(stored, adapter_cls, device)
    if transform is None:
        transform = stored.query_transform()
    passages = stored.passage_transform()
    _require_one_space(transform, passages, stored)
    return SavedAdapter(
        kind,
        transform,
        passages,
        config.unit_input,
        config.fingerprint,
        stored.metadata(),
    )


def _require_one_space(
    queries: Transform, passages: Transform | None, stored: StoredAdapter
) -> None:
    if passages is None:
        return
    made = [(half.query_dim, half.passage_dim) for half in (queries, passages)]
    if made[0] != made[1]:
        raise InvalidAdapterError(
            f"{stored.path} maps queries from {made[0][0]} to {made[0][1]} dimensions and passages "
            f"from {made[1][0]} to {made[1][1]}; expected the same for both."
        )


def _module_transform(
    stored: StoredAdapter, adapter_cls: type[BaseAdapter] | None, device: str | None
) -> Transform | None:
    """Return what serves a user's own class; None when the built-in numpy half does."""
    from llama_index_adapters.adapters.learned.base import build_adapter, class_to_load
    from llama_index_adapters.adapters.learned.serve import ModuleTransform

    adapter_class = class_to_load(stored, adapter_cls, serving=True)
    if adapter_class is None:
        return None
    dimensions = stored.config.queries.dimensions
    adapter = build_adapter(stored, adapter_class)
    return ModuleTransform(adapter, dimensions.input, dimensions.output, device)
