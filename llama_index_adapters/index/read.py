"""Read an index: every stored vector once, checked against the model it should come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStore,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from numpy.typing import NDArray

from llama_index_adapters.checks import require_seed, require_whole
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    InvalidVectorsError,
)
from llama_index_adapters.index.corpus import IndexCorpus, node_of, node_record
from llama_index_adapters.index.corpus_files import CorpusFiles
from llama_index_adapters.index.pages import (
    Page,
    Reading,
    require_ids,
    require_page,
    require_reading,
)
from llama_index_adapters.index.registry import reader_for
from llama_index_adapters.index.same_model import require_same_model
from llama_index_adapters.retrieval.vector_dataset import as_matrix
from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.identity import checked_model

logger = logging.getLogger(__name__)

PAGE_SIZE = 1000


def read_index(
    index: VectorStoreIndex | BasePydanticVectorStore | VectorStore,
    embed_model: BaseEmbedding | None = None,
    *,
    docstore: BaseDocumentStore | None = None,
    filters: MetadataFilters | None = None,
    check_model: bool = True,
    directory: str | PathLike[str] | None = None,
    page_size: int = PAGE_SIZE,
    seed: int = 0,
    show_progress: bool = True,
) -> IndexCorpus:
    """Read the stored vectors of an index, to train on them without embedding a passage again.

    Vectors go to a memory-mapped file and texts to another, a page at a time. Nothing is
    written to the store. Three passages are embedded again, to see that the model is the one
    the index was built with.

    Args:
        index: a ``VectorStoreIndex``, or a vector store that keeps texts or comes with a
            docstore.
        embed_model: the model the index was built with; an index's own when left out. Of an
            :class:`~llama_index_adapters.AdapterEmbeddingModel`, its base model. A store alone
            is read without one, and without the check; queries cannot be embedded then.
        docstore: where the nodes are, when the store keeps no texts; an index's own when left
            out.
        filters: take only nodes whose metadata pass. No filters, and an empty set of them,
            mean all.
        check_model: embed three passages again and compare. With False nothing is embedded, and
            an index whose model is gone is read without one; ``corpus.model_was_checked`` says so.
        directory: where to make the temporary files; the system's place when left out.
        page_size: how many vectors to read at a time.
        seed: of the choice of the passages that are checked.
        show_progress: show a progress bar.

    Returns:
        The corpus; ``corpus.dataset(labels)`` is what the engine trains on.

    Raises:
        UnsupportedStoreError: for a store without a reader; it shows how to write one.
        ModelMismatchError: when the stored vectors do not come from the model.
        EmbeddingError: when the model fails.
        InvalidDatasetError: for an empty index, or filters that nothing passes.
        InvalidVectorsError: for stored vectors that are not finite or of several dimensions.
        InvalidOptionError: for a value that cannot be used.
    """
    require_whole(page_size, "page_size")
    require_seed(seed)
    _require_type(filters, MetadataFilters, "filters", "llama_index.core's MetadataFilters")
    _require_type(docstore, BaseDocumentStore, "docstore", "a docstore of LlamaIndex")
    source = _Source.of(index, embed_model, docstore, own_model=check_model)
    reading = source.reading(page_size)
    nodes = _Nodes(
        CorpusFiles(directory),
        source.node_of_id if reading.mapped_ids else None,
        _filter(filters, source.docstore),
    )
    try:
        with progress_bar(
            desc=f"Reading {source.name}", unit="vector", disable=not show_progress
        ) as bar:
            for page in reading.pages:
                nodes.take(page)
                bar.update(len(page.ids))
        if not nodes.ids:
            raise InvalidDatasetError(
                f"The {source.name} has no vectors{' that pass the filters' if filters else ''}; "
                "there is nothing to train on."
            )
        corpus = source.corpus(reading, nodes)
        if source.embed_model is not None and check_model:
            embedded = require_same_model(corpus, source.embed_model, seed)
            corpus = replace(corpus, texts_embedded=embedded)
    except BaseException:
        nodes.files.remove()
        raise
    logger.info("Read %s.", corpus)
    return corpus


@dataclass(frozen=True)
class _Source:
    """A vector store with what belongs to it.

    Attributes:
        store: the vector store.
        embed_model: the base model that its vectors come from; None when nobody said.
        docstore: where its nodes are, when it keeps no texts.
        node_of_id: the node of each of its ids, when an index knows them.
    """

    store: Any
    embed_model: BaseEmbedding | None
    docstore: BaseDocumentStore | None
    node_of_id: Mapping[str, str] | None

    @classmethod
    def of(
        cls,
        index: object,
        embed_model: BaseEmbedding | None,
        docstore: BaseDocumentStore | None,
        *,
        own_model: bool,
    ) -> _Source:
        """Return the store of an index, or a store, with what was handed in beside it.

        Without ``own_model``, the model that an index holds is not taken for its own: it may be
        anything, such as the default of ``Settings``.
        """
        store, node_of_id = index, None
        if isinstance(index, VectorStoreIndex):
            store, node_of_id = index.vector_store, index.index_struct.nodes_dict
            docstore = index.docstore if docstore is None else docstore
            if embed_model is None and own_model:
                embed_model = index._embed_model
        if embed_model is not None:
            embed_model = _base_of(checked_model(embed_model))
        return cls(store, embed_model, docstore, node_of_id)

    @property
    def name(self) -> str:
        """The store's class."""
        return type(self.store).__name__

    def reading(self, page_size: int) -> Reading:
        """Open the store.

        Raises:
            UnsupportedStoreError: when there is no reader for it.
            InvalidOptionError: when only its index knows its nodes, and it is not here.
        """
        reading = reader_for(self.store)(self.store, page_size)
        require_reading(reading, self.name)
        if reading.mapped_ids and self.node_of_id is None:
            raise InvalidOptionError(
                f"A {self.name} knows its rows, not their nodes. Give the VectorStoreIndex, as "
                "load_index_from_storage(storage_context) returns it."
            )
        return reading

    def corpus(self, reading: Reading, nodes: _Nodes) -> IndexCorpus:
        """Return what was read."""
        return IndexCorpus(
            node_ids=tuple(nodes.ids),
            vectors=nodes.files.vectors(),
            similarity=reading.similarity,
            store=self.name,
            exact=reading.exact,
            duplicates=nodes.duplicates,
            embed_model=self.embed_model,
            texts_embedded=0,
            files=nodes.files,
            docstore=self.docstore,
            vector_store=self.store,
            node_of_id=nodes.node_of_id,
        )


def _require_type(value: object, kind: type, name: str, expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidOptionError(f"{name} is of type {type(value).__name__}; give {expected}.")


def _base_of(embed_model: BaseEmbedding) -> BaseEmbedding:
    """Return the model under an adapter: queries are learned from as the base embeds them."""
    if not isinstance(embed_model, AdapterEmbeddingModel):
        return embed_model
    if embed_model.base_embed_model is None:
        raise InvalidOptionError(
            "embed_model is an adapted model without a base_embed_model, so the vectors of the "
            "index cannot be checked. Read it with read_index(index, check_model=False)."
        )
    return _base_of(embed_model.base_embed_model)


# Whether a node is taken, by its id and its record.
_Passes = Callable[[str, str], bool]


def _filter(filters: MetadataFilters | None, docstore: BaseDocumentStore | None) -> _Passes | None:
    if filters is None or not filters.filters:
        return None

    def passes(node_id: str, record: str) -> bool:
        node = node_of(node_id, record, docstore)
        if node is None:
            return False
        try:
            return bool(build_metadata_filter_fn(lambda _: node.metadata, filters)(node_id))
        except (TypeError, ValueError) as error:
            raise InvalidOptionError(
                f"filters cannot be applied to node {node_id!r} ({error})."
            ) from error

    return passes


@dataclass
class _Nodes:
    """The nodes that were read so far, on disk.

    Attributes:
        files: where vectors and records go.
        node_of_id: the node of each id of the store; None when its ids are the nodes'.
        passes: which nodes are taken; all when None.
        ids: the nodes in the order of their vectors.
        duplicates: how many further vectors of a node that was there already were left out.
    """

    files: CorpusFiles
    node_of_id: Mapping[str, str] | None
    passes: _Passes | None
    ids: dict[str, None] = field(default_factory=dict)
    duplicates: int = 0

    def take(self, page: Page) -> None:
        """Write the page's new nodes to the files.

        Raises:
            InvalidDatasetError: when the parts of the page do not belong together.
            InvalidVectorsError: for vectors that cannot be used.
        """
        require_page(page)
        if not len(page.ids):
            return
        vectors = self._vectors(page)
        rows: list[int] = []
        records: list[str] = []
        for row, stored_id in enumerate(page.ids):
            # A row that the index does not know any more belongs to a deleted node.
            node_id = stored_id if self.node_of_id is None else self.node_of_id.get(stored_id)
            if node_id is None:
                continue
            if node_id in self.ids:
                self.duplicates += 1
                continue
            record = node_record(
                None if page.texts is None else page.texts[row],
                None if page.metadata is None else page.metadata[row],
            )
            if self.passes is not None and not self.passes(node_id, record):
                continue
            self.ids[node_id] = None
            rows.append(row)
            records.append(record)
        if rows:
            self.files.append(vectors if len(rows) == len(vectors) else vectors[rows], records)

    def _vectors(self, page: Page) -> NDArray[Any]:
        first = page.ids[0]
        try:
            vectors = as_matrix(page.vectors, "The page")
        except InvalidVectorsError as error:
            raise InvalidVectorsError(
                f"Stored vectors from node {first!r} on cannot be used. {error}"
            ) from error
        require_ids(page.ids, len(vectors))
        if len(self.files) and vectors.shape[1] != self.files.dimension:
            raise InvalidVectorsError(
                f"Stored vectors have {self.files.dimension} dimensions, and {vectors.shape[1]} "
                f"from node {first!r} on. One index holds vectors of one model."
            )
        return vectors
