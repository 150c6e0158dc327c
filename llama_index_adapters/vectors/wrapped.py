"""The embedding models that another one holds."""

from __future__ import annotations

from collections.abc import Iterator

from llama_index.core.base.embeddings.base import BaseEmbedding


def wrapped_models(embed_model: BaseEmbedding) -> Iterator[BaseEmbedding]:
    """Yield the embedding models that a model holds in its fields and private attributes."""
    for holder in (embed_model.__dict__, embed_model.__pydantic_private__ or {}):
        for name in sorted(holder):
            if isinstance(holder[name], BaseEmbedding):
                yield holder[name]
