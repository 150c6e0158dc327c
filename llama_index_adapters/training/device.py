"""The torch device to train on, and the precision it trains in."""

from __future__ import annotations

import torch

from llama_index_adapters.errors import InvalidOptionError


def torch_device(name: str | None) -> torch.device:
    """Return the named device, or the best one there is.

    Raises:
        InvalidOptionError: when torch does not know it or cannot use it here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InvalidOptionError(
            f"device is {name!r}, which torch cannot use here "
            f"({str(error).splitlines()[0]}). Leave it out to use the best one there is."
        ) from error
    return device


def dtype_of_products(precision: str | None, device: torch.device) -> torch.dtype:
    """Return the precision of passages and of products with them.

    Args:
        precision: ``"float32"``, ``"bfloat16"``, or None for the faster one the device has.
        device: where they are computed.
    """
    if precision is None:
        halves = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if halves else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
