"""Embedding and training on a Ray cluster (extra ``ray``).

Both run on what Ray's own ``ray.init`` is connected to; without a call of it, Ray connects to
the cluster that ``RAY_ADDRESS`` names or starts one on this machine.
"""

from __future__ import annotations

from llama_index_adapters.errors import MissingExtraError

try:
    import ray.data
    import ray.train  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "llama_index_adapters.ray needs Ray with its Data and Train, which this environment does "
        'not have. Run: pip install "llama-index-adapters[ray]"'
    ) from error

from llama_index_adapters.ray.embed import embed_with_ray
from llama_index_adapters.ray.engine import RayFinetuneEngine

__all__ = ["RayFinetuneEngine", "embed_with_ray"]
