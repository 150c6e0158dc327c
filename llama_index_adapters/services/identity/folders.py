"""Models that were loaded from a folder or file, which their name then is."""

from __future__ import annotations

import os
from pathlib import Path

from llama_index_adapters.files.content import expanded


def is_huggingface(model: object) -> bool:
    """Return whether it is a HuggingFaceEmbedding, told by name: the class imports torch."""
    return "HuggingFaceEmbedding" in _class_names(model)


def model_files(model: object) -> Path | None:
    """Return the folder or file that ``model_name`` names, if it is one."""
    name = getattr(model, "model_name", None)
    if not isinstance(name, str) or not name or "LocalEmbedding" in _class_names(model):
        return None  # the bundled model is known by its public name
    # Elsewhere a bare name is a name, even when a folder here happens to be called so.
    if not (is_huggingface(model) or name.startswith((".", "~", os.sep))):
        return None
    path = expanded(name)
    return path if path.exists() else None


def _class_names(model: object) -> set[str]:
    return {cls.__name__ for cls in type(model).__mro__}
