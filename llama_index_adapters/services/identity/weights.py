"""Weights in memory, as a hash that costs little whatever their number is."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

_SAMPLED = 64  # values of each array: training changes nearly all of them


def is_torch_module(kind: type) -> bool:
    """Return whether a class is a torch module, told by name: torch is not imported for it."""
    return _has_base(kind, "torch.nn.modules.module.Module")


def is_tensor(value: object) -> bool:
    """Return whether a value is a torch tensor, told by name."""
    return any(
        f"{base.__module__}.{base.__name__}" == "torch.Tensor" for base in type(value).__mro__
    )


def module_sha256(module: Any) -> str:
    """Return a hash over names, shapes, types and 64 values of each weight of a torch module."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if is_tensor(tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(_sample(tensor))
        else:
            digest.update(f"{name} {type(tensor).__name__}".encode())
    return digest.hexdigest()


def tensor_sha256(tensor: Any) -> str:
    """Return a hash over a tensor's shape, type and 64 of its values."""
    head = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    return hashlib.sha256(head + _sample(tensor)).hexdigest()


def array_sha256(array: np.ndarray[Any, Any]) -> str:
    """Return a hash over an array's type, shape and values."""
    head = f"{array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def _sample(tensor: Any) -> bytes:
    flat = tensor.detach().reshape(-1)
    if not len(flat):
        return b""
    step = max(1, len(flat) // _SAMPLED)
    # As float64, so that a type that numpy lacks (bfloat16) can be read too.
    values: bytes = flat[::step].double().cpu().numpy().tobytes()
    return values


def _has_base(kind: type, name: str) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" == name for base in kind.__mro__)
