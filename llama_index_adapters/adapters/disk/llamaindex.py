"""Directories that LlamaIndex's engine wrote: ``config.json`` and ``pytorch_model.bin``.

Their config holds the constructor's arguments and does not say of which class; the two built-in
ones are told apart by the names of the arguments. The weights are a pickle, which torch reads
with ``weights_only=True``: it builds tensors and plain containers and calls nothing else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.config import (
    AdapterConfig,
    Dimensions,
    Half,
    QueryModel,
    dimension_of,
)
from llama_index_adapters.adapters.disk.untrusted_files import (
    MAX_WEIGHT_BYTES,
    PICKLED_WEIGHTS,
    read_file,
)
from llama_index_adapters.adapters.families import CUSTOM
from llama_index_adapters.errors import InvalidAdapterError

_LINEAR = frozenset({"in_features", "out_features", "bias"})
_TWO_LAYER = _LINEAR | {"hidden_features", "activation_fn_str", "add_residual"}


def is_llamaindex_config(config: Mapping[str, Any]) -> bool:
    """Return whether a config was written by LlamaIndex, which names neither format nor kind."""
    return not config.keys() & {"format_version", "kind", "query_models"}


def llamaindex_config(arguments: dict[str, Any]) -> AdapterConfig:
    """Return the config of a directory that LlamaIndex's engine wrote, without a fingerprint."""
    query_dim = dimension_of(arguments.get("in_features"))
    return AdapterConfig(
        format_version=0,
        fingerprint="",
        query_models=[QueryModel(dimension=query_dim, normalise="none")],
        queries=Half(
            kind=_kind(arguments.keys()),
            arguments=arguments,
            dimensions=Dimensions(
                input=query_dim, output=dimension_of(arguments.get("out_features"))
            ),
        ),
    )


def _kind(names: Set[str]) -> str:
    """Return the kind whose constructor takes these arguments, ``"custom"`` when none does."""
    if {"in_features", "out_features"} <= names <= _LINEAR:
        return "linear"
    if {"in_features", "hidden_features", "out_features"} <= names <= _TWO_LAYER:
        return "two-layer-nn"
    return CUSTOM


def read_pickled_weights(directory: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``pytorch_model.bin``; imports torch.

    Raises:
        InvalidAdapterError: when the file is not a state dict that torch wrote, or holds
            anything that is not a tensor.
    """
    import torch

    path = directory / PICKLED_WEIGHTS
    data = read_file(directory, PICKLED_WEIGHTS, MAX_WEIGHT_BYTES)
    try:
        _require_plain_zip(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile bytes fail in many ways, each of them means the same
        raise InvalidAdapterError(
            f"{path} is not a file of weights that can be read safely: {_first_line(error)} "
            "If you trust it, load it with LlamaIndex and save it again."
        ) from error
    if not isinstance(state, dict):
        raise InvalidAdapterError(f"{path} holds a {type(state).__name__}, not named tensors.")
    arrays = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise InvalidAdapterError(
                f"{path} holds {name!r}, which is not a plain tensor with a name."
            )
        tensor = tensor.detach()
        arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return arrays


def _require_plain_zip(data: bytes) -> None:
    """Refuse what torch never writes: another container, or compressed entries (a zip bomb)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise ValueError(f"its entry {entry.filename!r} is compressed.")


def _is_plain(tensor: object) -> bool:
    """Return whether it is a dense tensor on the CPU with memory behind every element."""
    import torch

    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
