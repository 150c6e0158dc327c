"""How much memory it takes to read a million stored vectors back from Faiss and from Qdrant.

    python -m benchmarks.read_index [--vectors 1000000] [--dimensions 384]

Each store is opened and filled in a process of its own; then the peak of the resident memory is
reset, the index is read, and the growth of the peak beyond the opened store is reported. Linux
only: it writes to /proc/self/clear_refs. Qdrant runs in its local mode, in the same process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from numpy.typing import NDArray

from llama_index_adapters import read_index
from llama_index_adapters.retrieval.ranking import unit_rows

BLOCK = 10_000
LIMIT = 2**30
# Qdrant's local mode sorts all ids for every page, so that it is read in large ones.
PAGE_SIZES = {"Faiss": 10_000, "Qdrant": 20_000}


def vectors_of(block: int, dim: int) -> NDArray[np.float32]:
    """The stored vectors of one block of rows."""
    return np.random.default_rng(block).standard_normal((BLOCK, dim), dtype=np.float32)


def node_id(row: int) -> str:
    """Return the node of a row; Qdrant takes UUIDs."""
    return str(uuid.UUID(int=row))


class GivenVectors(BaseEmbedding):
    """The model that the index was built with: it gives ``passage 7`` the vector of row 7."""

    model_name: str = "given vectors"
    dim: int

    def _get_text_embedding(self, text: str) -> list[float]:
        block, row = divmod(int(text.rpartition(" ")[2]), BLOCK)
        return [float(number) for number in vectors_of(block, self.dim)[row]]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class NumberedPassages(SimpleDocumentStore):
    """A docstore that is elsewhere: it makes the node of a row when it is asked for."""

    def get_document(self, doc_id: str, raise_error: bool = True) -> TextNode:
        """Return the node of an id."""
        return TextNode(id_=doc_id, text=f"passage {uuid.UUID(doc_id).int}")


def faiss_index(count: int, dim: int) -> VectorStoreIndex:
    """An index over a flat Faiss index, with a docstore that takes no memory."""
    import faiss
    from llama_index.vector_stores.faiss import FaissVectorStore

    stored = faiss.IndexFlatIP(dim)
    for block in range(count // BLOCK):
        stored.add(vectors_of(block, dim))
    ids = {str(row): node_id(row) for row in range(count)}
    context = StorageContext.from_defaults(
        vector_store=FaissVectorStore(faiss_index=stored), docstore=NumberedPassages()
    )
    return VectorStoreIndex(
        index_struct=IndexDict(nodes_dict=ids),
        storage_context=context,
        embed_model=GivenVectors(dim=dim),
    )


def qdrant_index(count: int, dim: int) -> VectorStoreIndex:
    """An index over Qdrant's local mode.

    Its own inserts copy an array of all points for each point; so the collection's arrays are
    filled here, with what inserts would have put there.
    """
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    parameters = models.VectorParams(size=dim, distance=models.Distance.COSINE)
    client.create_collection("passages", vectors_config=parameters)
    sample = json.dumps(node_to_metadata_dict(TextNode(id_="<id>", text="<text>")))
    ids = [node_id(row) for row in range(count)]
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = unit_rows(vectors_of(start // BLOCK, dim))
    collection = client._client.collections["passages"]
    collection.ids = {point_id: row for row, point_id in enumerate(ids)}
    collection.ids_inv = ids
    collection.vectors[""] = vectors
    collection.payload = [
        json.loads(sample.replace("<id>", point_id).replace("<text>", f"passage {row}"))
        for row, point_id in enumerate(ids)
    ]
    collection.deleted = np.zeros(count, bool)
    collection.deleted_per_vector[""] = np.zeros(count, bool)
    store = QdrantVectorStore("passages", client=client)
    return VectorStoreIndex.from_vector_store(store, embed_model=GivenVectors(dim=dim))


def status(name: str) -> int:
    """Return an entry of /proc/self/status, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure(store: str, count: int, dim: int, directory: str | None) -> dict[str, Any]:
    """Fill a store, read it, and say how far the peak of resident memory rose."""
    started = time.perf_counter()
    index = {"Faiss": faiss_index, "Qdrant": qdrant_index}[store](count, dim)
    opened_seconds = time.perf_counter() - started
    Path("/proc/self/clear_refs").write_text("5")
    opened = status("VmRSS")
    started = time.perf_counter()
    corpus = read_index(
        index, directory=directory, page_size=PAGE_SIZES[store], show_progress=False
    )
    seconds = time.perf_counter() - started
    growth = status("VmHWM") - opened
    assert len(corpus) == count
    return {
        "store": store,
        "vectors": count,
        "dimensions": dim,
        "similarity": corpus.similarity,
        "page_size": PAGE_SIZES[store],
        "opened_mib": round(opened / 2**20),
        "growth_mib": round(growth / 2**20),
        "fill_seconds": round(opened_seconds),
        "read_seconds": round(seconds),
        "within_limit": growth < LIMIT,
    }


def main() -> None:
    """Measure each store, print a line of JSON for it, and fail beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--stores", nargs="+", default=list(PAGE_SIZES), choices=list(PAGE_SIZES))
    parser.add_argument("--directory", help="where the temporary files go")
    options = parser.parse_args()
    if options.vectors % BLOCK:
        parser.error(f"--vectors must be a multiple of {BLOCK}")
    results = []
    for store in options.stores:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            arguments = store, options.vectors, options.dimensions, options.directory
            results.append(pool.apply(measure, arguments))
        print(json.dumps(results[-1]), flush=True)
    if not all(result["within_limit"] for result in results):
        raise SystemExit(f"Reading took more than {LIMIT / 2**20:.0f} MiB beyond the opened store.")


if __name__ == "__main__":
    main()
