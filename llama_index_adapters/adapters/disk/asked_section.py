"""The section ``asked_passages``: hashes of the passages that training asked about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.disk.metadata import Section
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.asked_passages import AskedPassages

ASKED_PASSAGES = "asked_passages"
_HASH = "sha256-64"
_PARTS = ("texts", "vectors")


def asked_section(asked: AskedPassages | None) -> dict[str, Section]:
    """Return the section by its name, for an adapter's metadata; none where that is unknown."""
    if asked is None:
        return {}
    arrays = {part: getattr(asked, part) for part in _PARTS}
    return {ASKED_PASSAGES: Section({"hash": _HASH}, arrays)}


def read_asked_section(sections: Mapping[str, Section]) -> AskedPassages | None:
    """Return the passages that training asked about; None where an adapter does not say.

    Raises:
        InvalidAdapterError: when the section holds something else.
    """
    section = sections.get(ASKED_PASSAGES)
    if section is None:
        return None
    if section.content != {"hash": _HASH} or set(section.arrays) != set(_PARTS):
        raise InvalidAdapterError(
            f"The adapter's section {ASKED_PASSAGES!r} holds {dict(section.content)} and the "
            f"arrays {', '.join(sorted(section.arrays)) or 'none'}; expected the hash {_HASH!r} "
            f"and {' and '.join(_PARTS)}."
        )
    return AskedPassages(*(_sorted_hashes(section.arrays[part], part) for part in _PARTS))


def _sorted_hashes(array: NDArray[np.generic], part: str) -> NDArray[np.uint64]:
    if array.ndim != 1 or array.dtype != np.uint64:
        raise InvalidAdapterError(
            f"The adapter's section {ASKED_PASSAGES!r} has {part} of shape {array.shape} and type "
            f"{array.dtype}; expected (n,) and uint64."
        )
    return np.unique(array.astype(np.uint64))
