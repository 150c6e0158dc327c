"""Directories that LlamaIndex's engine wrote: ``config.json`` and ``pytorch_model.bin``.

Their config holds the constructor's arguments and does not say of which class; the two built-in
ones are told apart by the names of the arguments. The weights are a pickle, which torch reads
with ``weights_only=True``: it builds tensors and plain containers and calls nothing else.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, BinaryIO

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
    opened,
)
from llama_index_adapters.adapters.families import CUSTOM, FAMILIES
from llama_index_adapters.errors import InvalidAdapterError

_BYTES_OF_FLOAT64 = 8
# What an archive has beside the numbers: names, the pickle that puts them together, alignment.
_MAX_ZIP_OVERHEAD = 4 * 2**20

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


def read_pickled_weights(directory: Path, half: Half) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``pytorch_model.bin``; imports torch.

    Args:
        directory: the adapter's directory.
        half: what the config says, so that a file of other arrays is not read.

    Raises:
        InvalidAdapterError: when the file is not a state dict that torch wrote, is larger than
            the arrays of the config, or holds anything that is not a tensor.
    """
    import torch

    path = directory / PICKLED_WEIGHTS
    with opened(directory, PICKLED_WEIGHTS, _most_bytes(half)) as (file, size):
        try:
            _require_plain_zip(file, size)
        except Exception as error:  # hostile bytes fail in many ways
            raise _unsafe(path, error) from error
        file.seek(0)
        data = file.read(size)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile bytes fail in many ways, each of them means the same
        raise _unsafe(path, error) from error
    if not isinstance(state, dict):
        raise InvalidAdapterError(f"{path} holds a {type(state).__name__}, not named tensors.")
    arrays = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise InvalidAdapterError(
                f"{path} holds {name!r}, which is not a plain tensor with a name."
            )
        try:
            # A conjugate or negative tensor is a flag on the memory of another.
            tensor = tensor.detach().resolve_conj().resolve_neg()
            arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (RuntimeError, TypeError) as error:
            raise InvalidAdapterError(
                f"{path} holds {name!r} as {tensor.dtype}, which cannot be read. Load it with "
                "LlamaIndex and save it again as float32."
            ) from error
    return arrays


def _most_bytes(half: Half) -> int:
    """Return the most bytes that the file may have: of a built-in kind, those of its arrays."""
    if half.kind == CUSTOM:
        return MAX_WEIGHT_BYTES
    numbers = sum(map(math.prod, FAMILIES[half.kind].shapes(half.arguments).values()))
    return min(MAX_WEIGHT_BYTES, _BYTES_OF_FLOAT64 * numbers + _MAX_ZIP_OVERHEAD)


class _Beginning(io.RawIOBase):
    """A file of which no more than some bytes are read."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._left = file, limit

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("its list of entries is too long.")
        return data


def _require_plain_zip(file: BinaryIO, size: int) -> None:
    """Refuse what torch never writes, by the list of entries alone.

    That is another container, compressed entries (a zip bomb), and a file that is larger than
    its entries.
    """
    stored = 0
    with zipfile.ZipFile(_Beginning(file, _MAX_ZIP_OVERHEAD)) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
                raise ValueError(f"its entry {entry.filename!r} is compressed.")
            stored += entry.file_size
    if size - stored > _MAX_ZIP_OVERHEAD:
        raise ValueError(f"it has {size:,} bytes for {stored:,} bytes of entries.")


def _unsafe(path: Path, error: Exception) -> InvalidAdapterError:
    return InvalidAdapterError(
        f"{path} is not a file of weights that can be read safely: {_first_line(error)} "
        "If you trust it, load it with LlamaIndex and save it again."
    )


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
