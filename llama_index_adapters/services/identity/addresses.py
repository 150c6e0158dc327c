"""Where a client of somebody's package asks, and which model: the plain texts that say so in it."""

from __future__ import annotations

from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from llama_index_adapters.services.identity.words import is_endpoint, names_model

_DEEPEST = 4
_MOST = 500  # objects: clients hold models of whole services
_CODE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)


def addresses(client: Any) -> list[str]:
    """Return the endpoints and names of models that a client and what it holds say, sorted.

    A client has much that changes from one process and release to the next, so nothing else of it
    counts.
    """
    found: set[str] = set()
    pending: list[tuple[Any, int]] = [(client, 0)]
    seen = {id(client)}
    while pending and len(seen) < _MOST:
        holder, depth = pending.pop(0)
        for name, value in _held(holder):
            text = _as_text(value)
            if text is not None:
                if is_endpoint(name) or names_model(name, text):
                    found.add(f"{name}: {text}")
            elif depth < _DEEPEST and id(value) not in seen and not isinstance(value, _CODE):
                seen.add(id(value))
                pending.append((value, depth + 1))
    return sorted(found)


def _held(holder: Any) -> Iterator[tuple[str, Any]]:
    items = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None) or {}
    for name in sorted(name for name in items if isinstance(name, str)):
        yield name, items[name]


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    # The URLs of httpx and yarl.
    return str(value) if type(value).__name__ == "URL" else None
