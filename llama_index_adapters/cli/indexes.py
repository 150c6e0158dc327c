"""From a folder on disk to the index or vector store that it holds."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index_adapters.errors import InvalidOptionError, MissingExtraError, MissingFileError

INDEXES = "DIR[#NAME]"
INDEX_HELP = (
    "The index: a folder of StorageContext.persist, or of Chroma, LanceDB or Qdrant on disk. "
    "#NAME says which collection or table, where there are several."
)


def open_index(given: str) -> Any:
    """Return a VectorStoreIndex, or a vector store, as :func:`read_index` takes them.

    Args:
        given: a folder, with ``#`` and the name of a collection or table after it.

    Raises:
        MissingFileError: when there is no such folder.
        InvalidOptionError: when it is none of these, or holds several collections.
        MissingExtraError: when LlamaIndex's integration is not installed, with the pip command.
    """
    path, _, name = given.partition("#")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"--index {path} is no folder. Give {INDEX_HELP[11:]}")
    if (folder / "docstore.json").exists():
        return _persisted(folder)
    if (folder / "chroma.sqlite3").exists():
        return _chroma(folder, name)
    if any(folder.glob("*.lance")):
        return _lancedb(folder, name)
    if (folder / "collection").is_dir():
        return _qdrant(folder, name)
    raise InvalidOptionError(
        f"--index {path} holds no index that can be told from its files. Known are folders of "
        "StorageContext.persist, Chroma, LanceDB and Qdrant; in Python, read_index takes any of "
        "seven vector stores."
    )


def _persisted(folder: Path) -> Any:
    from llama_index.core import MockEmbedding, StorageContext, load_index_from_storage

    context = StorageContext.from_defaults(persist_dir=str(folder))
    # Nothing is embedded: the vectors that are stored are read.
    return load_index_from_storage(context, embed_model=MockEmbedding(embed_dim=1))


def _chroma(folder: Path, name: str) -> Any:
    settings = _package("chromadb.config").Settings(anonymized_telemetry=False)
    client = _package("chromadb").PersistentClient(str(folder), settings)
    names = [getattr(found, "name", found) for found in client.list_collections()]
    collection = client.get_collection(_chosen(names, name, folder, "collection"))
    return _integration("chroma").ChromaVectorStore(chroma_collection=collection)


def _lancedb(folder: Path, name: str) -> Any:
    names = [path.stem for path in sorted(folder.glob("*.lance"))]
    table = _chosen(names, name, folder, "table")
    return _integration("lancedb").LanceDBVectorStore(uri=str(folder), table_name=table)


def _qdrant(folder: Path, name: str) -> Any:
    client = _package("qdrant_client").QdrantClient(path=str(folder))
    names = [found.name for found in client.get_collections().collections]
    collection = _chosen(names, name, folder, "collection")
    return _integration("qdrant").QdrantVectorStore(client=client, collection_name=collection)


def _chosen(names: Sequence[str], name: str, folder: Path, what: str) -> str:
    if name in names:
        return name
    if name or len(names) != 1:
        found = ", ".join(names) or "none"
        raise InvalidOptionError(
            f"--index {folder} has the {what}s {found}. Say which: --index {folder}#NAME."
        )
    return names[0]


def _package(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This index needs {module}, which this environment does not have ({error})."
        ) from error


def _integration(store: str) -> Any:
    try:
        return importlib.import_module(f"llama_index.vector_stores.{store}")
    except ImportError as error:
        raise MissingExtraError(
            f"This index needs llama-index-vector-stores-{store}, which this environment does not "
            f"have. Run: pip install llama-index-vector-stores-{store}"
        ) from error
