"""An index built with a model behind HTTP; a peer's interpreter runs it too."""

from __future__ import annotations

import json
from pathlib import Path

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode

from benchmarks.speed.models import open_model


def build_index(*, way: str, questions: str, url: str, folder: str, dim: int) -> None:
    """Embed the passages of a question set into an index.

    Args:
        way: ``"base"`` for the model alone, ``"ours"`` or ``"llamaindex"`` for it in a wrapper.
        questions: the JSON file of the question set.
        url: where the model is.
        folder: holds the adapter ``requests-ours``; LlamaIndex's is written there.
        dim: dimension of the model's vectors.
    """
    model: BaseEmbedding = open_model("openai", url)
    if way == "ours":
        from llama_index_adapters import AdapterEmbeddingModel

        model = AdapterEmbeddingModel(model, Path(folder) / "requests-ours")
    elif way == "llamaindex":
        from benchmarks.peers.llamaindex_wrapper import wrapped

        model = wrapped(model, folder, dim)
    corpus = json.loads(Path(questions).read_text())["corpus"]
    VectorStoreIndex([TextNode(text=text) for text in corpus.values()], embed_model=model)
