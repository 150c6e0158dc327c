"""Nodes and an adapter with a map of passages, for tests of rewritten indexes."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path

import numpy as np
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore

from llama_index_adapters import AdapterEmbeddingModel, LinearAdapter
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import save_adapter
from tests.fakes import CountingEmbedding

DIM, SMALL, NODES = 8, 4, 20


def linear(weight: np.ndarray) -> LinearAdapter:
    adapter = LinearAdapter(weight.shape[1], weight.shape[0])
    adapter.load_arrays({"linear.weight": np.asarray(weight, np.float32)})
    return adapter


def halved(path: Path, base: BaseEmbedding, *, seed: int = 0) -> AdapterEmbeddingModel:
    """Return a model whose adapter maps queries and passages from 8 to 4 dimensions."""
    random = np.random.default_rng(seed)
    queries, passages = (linear(random.standard_normal((SMALL, DIM))) for _ in range(2))
    save_adapter(path, queries, metadata=AdapterMetadata(), passages=passages)
    return AdapterEmbeddingModel(base, path)


def indexed_simply(nodes: list[TextNode] | None = None) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=SimpleVectorStore())
    model = CountingEmbedding()
    return VectorStoreIndex(nodes or make_nodes(), storage_context=context, embed_model=model)


def make_nodes() -> list[TextNode]:
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(NODES)]
    nodes = [
        TextNode(
            id_=node_id,
            text=f"passage {number} ☂",
            metadata={"year": 2000 + number % 4, "hidden": "not embedded"},
            excluded_embed_metadata_keys=["hidden"],
        )
        for number, node_id in enumerate(ids)
    ]
    for node, following in itertools.pairwise(nodes):
        node.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=following.node_id)
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="document")
    return nodes
