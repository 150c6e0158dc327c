"""Copy an index into an empty store, its vectors mapped by an adapter; nothing is embedded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llama_index.core import StorageContext
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import BaseNode, ImageNode, IndexNode, MetadataMode
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStore
from numpy.typing import NDArray

from llama_index_adapters.adapters.served.base import unit
from llama_index_adapters.checks import require_whole
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    ModelMismatchError,
    UnsupportedStoreError,
)
from llama_index_adapters.index.corpus import IndexCorpus, node_of
from llama_index_adapters.index.nodes import NewNodes, NodesRead
from llama_index_adapters.index.pages import Reading, require_reading
from llama_index_adapters.index.read import PAGE_SIZE, read_index
from llama_index_adapters.index.registry import reader_for
from llama_index_adapters.index.same_model import SAME_COSINE
from llama_index_adapters.index.source import IndexSource
from llama_index_adapters.retrieval.ranking import Similarity, unit_rows
from llama_index_adapters.services.errors import Failure
from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.serving.model import AdapterEmbeddingModel

logger = logging.getLogger(__name__)


def rewrite_index(
    index: VectorStoreIndex | BasePydanticVectorStore | VectorStore,
    adapter: AdapterEmbeddingModel,
    into: BasePydanticVectorStore | VectorStore,
    *,
    docstore: BaseDocumentStore | None = None,
    resume: bool = False,
    page_size: int = PAGE_SIZE,
    show_progress: bool = True,
) -> VectorStoreIndex:
    """Copy an index into an empty vector store, with its vectors mapped by an adapter.

    Nodes are the old ones but for the vector: ids, texts, metadata and relationships. They are
    read and written a page at a time. Nothing is embedded, and nothing is written to the old index.
    A vector keeps its length; where the old store compares by cosine and the new one does not,
    vectors are written at length one, so that both rank alike.

    Args:
        index: the index to copy, or its vector store.
        adapter: the adapter, of a training with ``target_dim``. It is the model of the new index.
        into: an empty vector store of a kind that :func:`llama_index_adapters.read_index` reads.
        docstore: where the nodes of ``index`` are, when it is a store that keeps no texts.
        resume: go on after a run that was killed. What ``into`` holds is compared with what would
            be written, and left there.
        page_size: how many nodes to copy at a time.
        show_progress: show a progress bar.

    Returns:
        The new index. Where its store keeps no texts they are in its docstore, in memory; then
        ``index.storage_context.persist(directory)`` writes it.

    Raises:
        InvalidOptionError: for an adapter that maps no passages, a store that is not empty, or one
            that cannot be resumed.
        UnsupportedStoreError: before the first page, for what the store cannot carry: vectors of
            another dimension, another similarity, sparse vectors, codes; later, when it refuses
            a node.
        ModelMismatchError: when the index has vectors of another dimension than the adapter takes.
        InvalidDatasetError: for an empty index, a node that is not to be found, or when the new
            store holds another number of nodes at the end.
        InvalidVectorsError: for stored vectors that are not finite.

    Example:
        >>> adapted = engine.get_finetuned_model()  # of an engine with target_dim=128
        >>> smaller = rewrite_index(index, adapted, QdrantVectorStore("small", client=client))
        >>> retriever = smaller.as_retriever()
    """
    require_whole(page_size, "page_size")
    _require_mapping(adapter)
    source = IndexSource.of(index, None, docstore, own_model=False)
    if into is source.store:
        raise InvalidOptionError("into is the store of the index itself; give an empty one.")
    reading = source.reading(page_size)
    destination = _reading_of(into, page_size)
    _require_carried(source.name, reading, into, destination, adapter)
    at_length_one = reading.similarity == "cosine" != destination.similarity
    copy = _Copy(adapter, into, source.docstore, at_length_one=at_length_one)
    held = _held(into, destination, resume=resume, page_size=page_size)
    nodes = NodesRead(source.node_of_id if reading.mapped_ids else None, None)
    with progress_bar(
        desc=f"Rewriting {source.name}", unit="vector", disable=not show_progress
    ) as bar:
        for page in reading.pages:
            copy.write(held.without(nodes.take(page), copy))
            bar.update(len(page.ids))
    if not nodes.ids:
        raise InvalidDatasetError(f"The {source.name} has no vectors; there is nothing to copy.")
    _require_count(into, len(nodes.ids), page_size)
    logger.info("Copied %d nodes to %s.", len(nodes.ids), type(into).__name__)
    return copy.index()


@dataclass
class _Copy:
    """Writes nodes to a store.

    Attributes:
        adapter: maps their vectors.
        store: the store.
        docstore: where nodes are that the old store keeps no text of.
        at_length_one: whether vectors are written at length one.
    """

    adapter: AdapterEmbeddingModel
    store: Any
    docstore: BaseDocumentStore | None
    at_length_one: bool
    context: StorageContext = field(init=False)
    struct: IndexDict = field(default_factory=IndexDict)

    def __post_init__(self) -> None:
        self.context = StorageContext.from_defaults(vector_store=self.store)

    def mapped(self, new: NewNodes) -> NDArray[np.float32]:
        """Return the vectors that are to be written, ``(n, passage_dim)``."""
        vectors = self.adapter.transform_passages(new.vectors)
        return unit(vectors) if self.at_length_one else vectors

    def write(self, new: NewNodes) -> None:
        """Write nodes.

        Raises:
            UnsupportedStoreError: when the store refuses one.
            InvalidDatasetError: when one is not to be found.
        """
        if not new.ids:
            return
        nodes = []
        for node_id, record, vector in zip(new.ids, new.records, self.mapped(new), strict=True):
            node = self._node(node_id, record)
            node.embedding = vector.tolist()
            nodes.append(node)
        name = type(self.store).__name__
        try:
            stored_ids = self.store.add(nodes)
        except Exception as error:
            # Metadata may be nested, or of other keys than those of the first page.
            said = Failure.of(error, self.store, _texts_of(nodes))
            raise UnsupportedStoreError(
                f"{name} did not take the {len(nodes)} nodes from {new.ids[0]!r} on "
                f"({said.text}). What was written before is there: go on with resume=True, or "
                "give another store."
            ) from said.cause
        for node, stored_id in zip(nodes, stored_ids, strict=True):
            # As VectorStoreIndex does it for nodes that are inserted.
            if not self.store.stores_text or isinstance(node, ImageNode | IndexNode):
                node.embedding = None
                self.struct.add_node(node, text_id=stored_id)
                self.context.docstore.add_documents([node], allow_update=True)

    def index(self) -> VectorStoreIndex:
        """Return the index of what was written."""
        self.context.index_store.add_index_struct(self.struct)
        return VectorStoreIndex(
            index_struct=self.struct, storage_context=self.context, embed_model=self.adapter
        )

    def _node(self, node_id: str, record: str) -> BaseNode:
        node = node_of(node_id, record, self.docstore)
        if node is None:
            raise InvalidDatasetError(
                f"Node {node_id!r} has a vector, but neither the store nor the docstore has the "
                "node itself. Give the docstore that holds it, or delete it from the index."
            )
        # A docstore hands out its own object, which stays as it is.
        return node.model_copy()


@dataclass(frozen=True)
class _Held:
    """What a run that was killed left in the store.

    Attributes:
        corpus: what was read from it; None where it is empty.
        rows: the row of each node.
    """

    corpus: IndexCorpus | None = None
    rows: Mapping[str, int] = field(default_factory=dict)

    def without(self, new: NewNodes, copy: _Copy) -> NewNodes:
        """Return the nodes that are not there yet.

        Raises:
            InvalidOptionError: when one has another vector there.
        """
        there = [row for row, node_id in enumerate(new.ids) if node_id in self.rows]
        if self.corpus is None or not there:
            return new
        expected = copy.mapped(_some(new, there))
        found = self.corpus.vectors[[self.rows[new.ids[row]] for row in there]]
        cosines = (unit_rows(expected) * unit_rows(found)).sum(axis=1)
        other = np.flatnonzero((cosines < SAME_COSINE) & expected.any(axis=1))
        if other.size:
            raise InvalidOptionError(
                f"{self.corpus.store} has other vectors than this adapter gives, such as that of "
                f"node {new.ids[there[other[0]]]!r}, so it is not what a killed run left. Give an "
                "empty store."
            )
        left = sorted(set(range(len(new.ids))) - set(there))
        return _some(new, left)


def _texts_of(nodes: Sequence[BaseNode]) -> Iterator[str]:
    for node in nodes:
        yield node.get_content(metadata_mode=MetadataMode.NONE)
        yield from map(str, node.metadata.values())


def _some(new: NewNodes, rows: list[int]) -> NewNodes:
    return NewNodes(
        [new.ids[row] for row in rows], new.vectors[rows], [new.records[row] for row in rows]
    )


def _held(store: Any, reading: Reading, *, resume: bool, page_size: int) -> _Held:
    """Return what is in the store already.

    Raises:
        InvalidOptionError: when there is something, and there should not be.
    """
    name = type(store).__name__
    if not any(len(page.ids) for page in reading.pages):
        return _Held()
    if not resume:
        raise InvalidOptionError(
            f"The {name} given as into is not empty. Give an empty one, or resume=True when a "
            "rewriting of this index was interrupted."
        )
    if not store.stores_text:
        raise InvalidOptionError(
            f"A {name} keeps no texts, so a rewriting that was interrupted left no nodes beside "
            "its vectors. Give an empty one."
        )
    corpus = read_index(store, check_model=False, page_size=page_size, show_progress=False)
    return _Held(corpus, {node_id: row for row, node_id in enumerate(corpus.node_ids)})


def _reading_of(store: Any, page_size: int) -> Reading:
    reading = reader_for(store)(store, page_size)
    require_reading(reading, type(store).__name__)
    return reading


def _require_mapping(adapter: object) -> None:
    if not isinstance(adapter, AdapterEmbeddingModel):
        raise InvalidOptionError(
            f"adapter is a {type(adapter).__name__}; give what engine.get_finetuned_model() "
            "returns, of an engine with target_dim."
        )
    if not adapter.maps_passages:
        raise InvalidOptionError(
            f"The adapter at {adapter.adapter_path} changes queries alone, so the index it serves "
            "needs no rewriting. Train with target_dim to map passages too."
        )


def _require_carried(
    source: str, reading: Reading, store: Any, destination: Reading, adapter: AdapterEmbeddingModel
) -> None:
    """Refuse what the new store cannot carry, before anything is written.

    Raises:
        UnsupportedStoreError: saying what.
        ModelMismatchError: when the old store was made for other vectors than the adapter takes.
    """
    name = type(store).__name__
    for where, found in ((source, reading), (name, destination)):
        if found.sparse:
            raise UnsupportedStoreError(
                f"The {where} keeps sparse vectors, which no adapter maps. Rewrite a store of "
                "dense vectors into one of dense vectors."
            )
        if not found.exact:
            raise UnsupportedStoreError(
                f"The {where} keeps codes instead of vectors, so that nodes would not come through "
                "as they are. Use an index that keeps vectors, and add codes to it afterwards."
            )
    if not getattr(getattr(store, "client", None), "is_trained", True):
        raise UnsupportedStoreError(
            f"The Faiss index of the {name} is not trained, and takes no vectors before that. "
            "Train it on adapter.transform_passages(read_index(index).vectors), or use a flat one."
        )
    if destination.dimension not in (None, adapter.dimension):
        raise UnsupportedStoreError(
            f"The {name} is made for vectors of {destination.dimension} dimensions, and the "
            f"adapter gives {adapter.dimension}. Make one of {adapter.dimension} dimensions."
        )
    if reading.dimension not in (None, adapter.metadata.query_dim):
        raise ModelMismatchError(
            f"The {source} has vectors of {reading.dimension} dimensions, and the adapter maps "
            f"those of {adapter.metadata.query_dim}. Give the index that the adapter was trained "
            "for; one that was rewritten is served as it is."
        )
    _require_similarity(source, reading.similarity, name, destination.similarity)


def _require_similarity(source: str, old: Similarity, name: str, new: Similarity) -> None:
    if old in ("cosine", new):
        return  # at length one, all three rank as cosine does
    raise UnsupportedStoreError(
        f"The {source} compares by {old} and the {name} by {new}, which ranks otherwise. Make one "
        f"that compares by {old}."
    )


def _require_count(store: Any, expected: int, page_size: int) -> None:
    found = sum(len(page.ids) for page in _reading_of(store, page_size).pages)
    if found != expected:
        raise InvalidDatasetError(
            f"{expected:,} nodes were copied, but the {type(store).__name__} holds {found:,}. It "
            "was not empty, or somebody wrote to it or to the index meanwhile. Start again with an "
            "empty store."
        )
