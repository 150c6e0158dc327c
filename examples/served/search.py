"""The index in Postgres and the adapter: made at the first start, found at every later one."""

from __future__ import annotations

from pathlib import Path

import pgserver
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    local_embedding,
)

QUESTIONS = Path(__file__).with_name("questions.json")
TABLE = "passages"
RETRIEVED = 3


def open_retrievers(data: Path) -> dict[str, BaseRetriever]:
    """Return a retriever with the base model and one with the adapted, over the same table.

    Args:
        data: a folder for the database and the adapter; made when it is not there.
    """
    questions = EmbeddingQAFinetuneDataset.from_json(QUESTIONS)
    base = local_embedding()
    index = open_index(data, questions, base)
    adapted = open_adapter(data, questions, base)
    return {
        name: index.as_retriever(embed_model=model, similarity_top_k=RETRIEVED)
        for name, model in (("base", base), ("adapted", adapted))
    }


def open_index(
    data: Path, questions: EmbeddingQAFinetuneDataset, base: BaseEmbedding
) -> VectorStoreIndex:
    """Start the database and fill its table, unless all passages are there."""
    data.mkdir(parents=True, exist_ok=True)
    server = pgserver.get_server(data / "postgres", cleanup_mode="stop")
    server.psql("CREATE EXTENSION IF NOT EXISTS vector")
    address = server.get_uri()
    store = PGVectorStore.from_params(
        connection_string=address.replace("postgresql://", "postgresql+psycopg2://"),
        async_connection_string=address.replace("postgresql://", "postgresql+asyncpg://"),
        table_name=TABLE,
        embed_dim=len(base.get_query_embedding("dimension")),
    )
    if len(store.get_nodes(node_ids=list(questions.corpus))) == len(questions.corpus):
        return VectorStoreIndex.from_vector_store(store, embed_model=base)
    store.clear()  # whatever an interrupted start has left
    nodes = [TextNode(id_=name, text=text) for name, text in questions.corpus.items()]
    storage = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=storage, embed_model=base)


def open_adapter(
    data: Path, questions: EmbeddingQAFinetuneDataset, base: BaseEmbedding
) -> AdapterEmbeddingModel:
    """Return the adapted model, trained when there is none; a directory is written as a whole."""
    path = data / "adapter"
    if not path.exists():
        EmbeddingAdapterFinetuneEngine(
            questions,
            base,
            adapter="linear",
            model_output_path=path,
            store=data / "vectors.sqlite3",
            show_progress=False,
        ).finetune()
    return AdapterEmbeddingModel(base, path)
