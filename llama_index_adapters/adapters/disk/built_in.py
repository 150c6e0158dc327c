"""The serving half of a built-in adapter, from what its directory holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from llama_index_adapters.adapters.disk.config import Arrays
from llama_index_adapters.adapters.families import KINDS
from llama_index_adapters.adapters.served.base import Transform
from llama_index_adapters.errors import InvalidAdapterError

_Value = TypeVar("_Value")


class _Noted(Mapping[str, _Value]):
    """A mapping that knows which of its names were never asked for."""

    def __init__(self, values: Mapping[str, _Value]) -> None:
        self._values = values
        self.unread = set(values)

    def __getitem__(self, name: str) -> _Value:
        self.unread.discard(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def build_transform(
    kind: str, arguments: Mapping[str, Any], arrays: Arrays, source: object
) -> Transform:
    """Build the numpy half of an adapter.

    Raises:
        InvalidAdapterError: when arguments and arrays do not fit, or there is one that the kind
            does not know: it would be left out of what is served.
    """
    noted_arguments, noted_arrays = _Noted(arguments), _Noted(arrays)
    transform = KINDS[kind].transform(noted_arguments, noted_arrays)
    unread = sorted(noted_arguments.unread | noted_arrays.unread)
    if unread:
        raise InvalidAdapterError(
            f"{source} is not a {kind!r} adapter: it also has {', '.join(unread[:5])}."
        )
    return transform
