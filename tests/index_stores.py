"""The seven vector stores, each empty and real: embedded, on disk, or a server on loopback."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.vector_stores.simple import SimpleVectorStore

from llama_index_adapters.retrieval.ranking import Similarity


@dataclass(frozen=True)
class Kind:
    """How an empty store of ``dim`` dimensions is made, and how its content is looked at."""

    similarity: Similarity
    make: Callable[[Servers, str, int], Any]
    content: Callable[[Any], bytes]
    delete: Callable[[Any, list[str]], None] = lambda index, ids: index.delete_nodes(ids)


class Servers:
    """Starts what the stores need when the first test needs it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack

    @cached_property
    def postgres(self) -> Any:
        import pgserver

        server = pgserver.get_server(self.directory / "postgres", cleanup_mode="stop")
        self._stack.callback(server.cleanup)
        server.psql("CREATE EXTENSION IF NOT EXISTS vector")
        return server

    def close_after(self, close: Callable[[], object]) -> None:
        self._stack.callback(close)


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(directory, stack)


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def simple(servers: Servers, name: str, dim: int) -> Any:
    return SimpleVectorStore()


def faiss(servers: Servers, name: str, dim: int) -> Any:
    import faiss
    from llama_index.vector_stores.faiss import FaissVectorStore

    return FaissVectorStore(faiss_index=faiss.IndexFlatL2(dim))


def faiss_content(store: Any) -> bytes:
    import faiss

    return faiss.serialize_index(store.client).tobytes()


def faiss_delete(index: Any, ids: list[str]) -> None:
    """The store cannot delete: it keeps the vectors of nodes that its index has forgotten."""
    for vector_id, node_id in list(index.index_struct.nodes_dict.items()):
        if node_id in ids:
            index.index_struct.delete(vector_id)


def chroma(servers: Servers, name: str, dim: int) -> Any:
    import chromadb
    from chromadb.config import Settings
    from llama_index.vector_stores.chroma import ChromaVectorStore

    path = str(servers.directory / "chroma")
    client = chromadb.PersistentClient(path, Settings(anonymized_telemetry=False))
    return ChromaVectorStore(chroma_collection=client.create_collection(name))


def chroma_content(store: Any) -> bytes:
    rows = store.client.get(include=["embeddings", "documents", "metadatas"])
    vectors = np.asarray(rows["embeddings"], np.float32).tobytes()
    # Chroma gives the entries of a node's metadata in any order.
    metadata = [sorted(entries.items()) for entries in rows["metadatas"]]
    return digest(rows["ids"], vectors, rows["documents"], metadata)


def qdrant(servers: Servers, name: str, dim: int) -> Any:
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    return QdrantVectorStore(name, client=QdrantClient(":memory:"))


def qdrant_content(store: Any) -> bytes:
    points, _ = store.client.scroll(
        store.collection_name, limit=10**6, with_vectors=True, with_payload=True
    )
    return digest([(point.id, point.vector, point.payload) for point in points])


def lancedb(servers: Servers, name: str, dim: int) -> Any:
    from llama_index.vector_stores.lancedb import LanceDBVectorStore

    return LanceDBVectorStore(uri=str(servers.directory / "lancedb"), table_name=name)


def lancedb_content(store: Any) -> bytes:
    return digest(store.table.version, store.table.to_arrow().to_pylist())


def lancedb_delete(index: Any, ids: list[str]) -> None:
    """The integration's own delete_nodes quotes ids as columns, which LanceDB refuses."""
    index.vector_store.table.delete(f"id in ({', '.join(map(repr, ids))})")


def postgres(servers: Servers, name: str, dim: int) -> Any:
    from llama_index.vector_stores.postgres import PGVectorStore
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    socket = servers.postgres.get_uri().partition("host=")[2]
    url = f"postgresql+{{}}://postgres:@/postgres?host={socket}"
    engine = create_engine(url.format("psycopg2"))
    servers.close_after(engine.dispose)
    return PGVectorStore(
        table_name=name,
        embed_dim=dim,
        engine=engine,
        async_engine=create_async_engine(url.format("asyncpg")),
    )


def postgres_content(store: Any) -> bytes:
    from sqlalchemy import text

    with store.client.connect() as connection:
        table = store._table_class.__tablename__
        rows = connection.execute(text(f"SELECT *, embedding::text FROM {table} ORDER BY id"))
        return digest([tuple(map(str, row)) for row in rows])


def milvus(servers: Servers, name: str, dim: int) -> Any:
    from llama_index.vector_stores.milvus import MilvusVectorStore

    return MilvusVectorStore(
        uri=str(servers.directory / "milvus.db"), collection_name=name, dim=dim
    )


def milvus_content(store: Any) -> bytes:
    rows = store.client.query(store.collection_name, output_fields=["*"], limit=10_000)
    return digest(sorted(map(str, rows)))


KINDS = {
    "SimpleVectorStore": Kind(
        "cosine", simple, lambda store: digest(sorted(store.data.embedding_dict.items()))
    ),
    "Faiss": Kind("euclidean", faiss, faiss_content, faiss_delete),
    "Chroma": Kind("euclidean", chroma, chroma_content),
    "Qdrant": Kind("cosine", qdrant, qdrant_content),
    "LanceDB": Kind("euclidean", lancedb, lancedb_content, lancedb_delete),
    "Postgres": Kind("cosine", postgres, postgres_content),
    "Milvus": Kind("dot_product", milvus, milvus_content),
}

if sys.version_info >= (3, 13):  # pgserver, which brings the server, has wheels up to 3.12
    del KINDS["Postgres"]
