"""Which reader belongs to which vector store."""

from __future__ import annotations

import importlib
from typing import cast

from llama_index_adapters.errors import InvalidOptionError, UnsupportedStoreError
from llama_index_adapters.index.pages import Reader

_STORES = "llama_index.vector_stores"
# Classes by name, so that no store's package is imported before a store of it is there.
_BUILT_IN = {
    "llama_index.core.vector_stores.simple.SimpleVectorStore": "simple",
    f"{_STORES}.chroma.base.ChromaVectorStore": "chroma",
    f"{_STORES}.faiss.base.FaissVectorStore": "faiss",
    f"{_STORES}.faiss.map_store.FaissMapVectorStore": "faiss_map",
    f"{_STORES}.lancedb.base.LanceDBVectorStore": "lancedb",
    f"{_STORES}.milvus.base.MilvusVectorStore": "milvus",
    f"{_STORES}.postgres.base.PGVectorStore": "postgres",
    f"{_STORES}.qdrant.base.QdrantVectorStore": "qdrant",
}
_registered: dict[type, Reader] = {}

_HOW_TO = """\
Write a reader in a few lines and register it:

    from llama_index_adapters import Page, Reading, register_reader

    def read(store, page_size):
        def pages():
            for rows in ...:  # at most page_size rows of your store at a time
                yield Page(
                    ids=[...],      # node ids
                    vectors=[...],  # one stored vector for each
                    texts=[...],    # leave out when a docstore has them
                    metadata=[...], # what node_to_metadata_dict gave, when it is stored
                )
        return Reading(similarity="cosine", pages=pages())  # or "dot_product", "euclidean"

    register_reader({name}, read)"""


def register_reader(store_class: type, reader: Reader) -> None:
    """Say how vector stores of a class, and of classes derived from it, are read.

    Args:
        store_class: the class of the store. A built-in reader for it is replaced.
        reader: takes the store and the number of vectors a page may have, and gives a
            :class:`~llama_index_adapters.index.pages.Reading`.

    Raises:
        InvalidOptionError: when ``store_class`` is not a class or ``reader`` not callable.
    """
    if not isinstance(store_class, type) or not callable(reader):
        raise InvalidOptionError(
            f"register_reader got {store_class!r} and {reader!r}; expected the class of a vector "
            "store and a function of (store, page_size)."
        )
    _registered[store_class] = reader


def reader_for(store: object) -> Reader:
    """Return the reader of a store's class, or of the nearest class it is derived from.

    Raises:
        UnsupportedStoreError: when there is none; it shows how to write one.
    """
    for cls in type(store).__mro__:
        if cls in _registered:
            return _registered[cls]
        module = _BUILT_IN.get(f"{cls.__module__}.{cls.__qualname__}")
        if module is not None:
            home = importlib.import_module(f"llama_index_adapters.index.readers.{module}")
            return cast(Reader, home.read)
    name = type(store).__name__
    known = ", ".join(sorted(dotted.rpartition(".")[2] for dotted in _BUILT_IN))
    raise UnsupportedStoreError(
        f"There is no reader for {name}; readers exist for {known}. {_HOW_TO.format(name=name)}"
    )
