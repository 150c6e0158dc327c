"""The arrays of ``model.safetensors`` belong to parts: both maps, and sections.

An array is named by its part, a dot and its own name: ``queries.linear.weight``,
``sections.seen_passages.hashes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from llama_index_adapters.adapters.families import Arrays
from llama_index_adapters.errors import InvalidAdapterError

_Array = TypeVar("_Array")

QUERIES = "queries"
PASSAGES = "passages"


def section_part(name: str) -> str:
    """Return the part of a section."""
    return f"sections.{name}"


def joined(parts: Mapping[str, Arrays]) -> Arrays:
    """Return the arrays of all parts under the names that they have in the file."""
    return {
        f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()
    }


def part_of(name: str) -> str:
    """Return the part that an array belongs to, by its name in the file."""
    first, _, rest = name.partition(".")
    return section_part(rest.partition(".")[0]) if first == "sections" else first


def separated(
    arrays: Mapping[str, _Array], parts: Iterable[str], source: object
) -> dict[str, dict[str, _Array]]:
    """Return the arrays of each part, or what is declared of them, under their own names.

    Raises:
        InvalidAdapterError: for an array that belongs to none of the parts.
    """
    separate: dict[str, dict[str, _Array]] = {part: {} for part in parts}
    strays = []
    for name, array in arrays.items():
        part = part_of(name)
        if part in separate and name != part:
            separate[part][name.removeprefix(f"{part}.")] = array
        else:
            strays.append(name)
    if strays:
        raise InvalidAdapterError(
            f"{source} also has {', '.join(sorted(strays)[:5])}, of no part that its config names."
        )
    return separate
