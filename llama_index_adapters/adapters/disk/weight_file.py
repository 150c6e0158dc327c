"""``model.safetensors``: first what its header declares, then, where that fits, its arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.untrusted_files import (
    MAX_WEIGHT_BYTES,
    WEIGHTS,
    opened,
)
from llama_index_adapters.errors import InvalidAdapterError

MAX_HEADER_BYTES = 4 * 2**20
MAX_ARRAYS = 10_000
_LENGTH_BYTES = 8

# By the format's word. numpy has no bfloat16: its numbers are read as float32, which holds them.
_TYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<f4"),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_BFLOAT16_BYTES = 2


@dataclass(frozen=True)
class DeclaredArray:
    """What the header says of an array.

    Attributes:
        shape: its shape.
        dtype: the type that it is read as.
        size: its bytes in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


def read_safetensors(
    directory: Path, require_expected: Callable[[Mapping[str, DeclaredArray]], None]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``model.safetensors``.

    Args:
        directory: the adapter's directory.
        require_expected: refuses a header that declares other arrays than there should be,
            before any of them is read.

    Raises:
        InvalidAdapterError: when it is not a safetensors file, or another than expected.
    """
    path = directory / WEIGHTS
    with opened(directory, WEIGHTS, MAX_WEIGHT_BYTES) as (file, size):
        require_expected(_declared(file, size, path))
        file.seek(0)
        data = file.read(size)
    try:
        entries: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        return {name: _array(entry) for name, entry in entries}
    except Exception as error:  # hostile bytes fail in many ways, each of them means the same
        raise _no_safetensors(path, repr(error)) from error


def require_readable(data: bytes, what: object) -> None:
    """Refuse to write what :func:`read_safetensors` would not read.

    Raises:
        InvalidAdapterError: when there are too many arrays, or too many bytes.
    """
    if len(data) > MAX_WEIGHT_BYTES:
        raise InvalidAdapterError(
            f"{what} would have {len(data):,} bytes; at most {MAX_WEIGHT_BYTES:,} can be loaded."
        )
    _declared(io.BytesIO(data), len(data), what)


def _declared(file: BinaryIO, size: int, path: object) -> dict[str, DeclaredArray]:
    """Return what the header declares, when the file has the bytes for exactly that."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 0 < length <= size - _LENGTH_BYTES:
        raise _no_safetensors(path, f"its header would have {length:,} bytes")
    if length > MAX_HEADER_BYTES:
        raise InvalidAdapterError(
            f"The header of {path} has {length:,} bytes; no adapter needs more than "
            f"{MAX_HEADER_BYTES:,}."
        )
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise _no_safetensors(path, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _no_safetensors(path, f"its header is a JSON {type(header).__name__}")
    header.pop("__metadata__", None)
    if len(header) > MAX_ARRAYS:
        raise InvalidAdapterError(
            f"{path} has {len(header):,} arrays; no adapter needs more than {MAX_ARRAYS:,}."
        )
    arrays = {name: _declared_array(name, entry, path) for name, entry in header.items()}
    expected = _LENGTH_BYTES + length + sum(array.size for array in arrays.values())
    if expected != size:
        raise _no_safetensors(path, f"its header is of {expected:,} bytes, the file has {size:,}")
    return arrays


def _declared_array(name: str, entry: object, path: object) -> DeclaredArray:
    word, shape = (
        (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    )
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise _no_safetensors(path, f"the array {name!r} has no shape")
    if not isinstance(word, str) or word not in _TYPES:
        raise _no_safetensors(path, f"the array {name!r} is of the type {word!r}")
    dtype = _TYPES[word]
    width = _BFLOAT16_BYTES if word == "BF16" else dtype.itemsize
    return DeclaredArray(tuple(shape), dtype, math.prod(shape) * width)


def _array(entry: Mapping[str, Any]) -> NDArray[Any]:
    word, data = entry["dtype"], entry["data"]
    array: NDArray[Any]
    if word == "BF16":  # the upper half of a float32
        array = (np.frombuffer(data, dtype="<u2").astype("<u4") << 16).view("<f4")
    else:
        array = np.frombuffer(data, dtype=_TYPES[word])
    shape: list[int] = entry["shape"]
    return array.reshape(shape)


def _no_safetensors(path: object, reason: str) -> InvalidAdapterError:
    return InvalidAdapterError(f"{path} is not a safetensors file that can be read ({reason}).")
