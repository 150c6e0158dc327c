"""Read an index: every stored vector once, checked against the model it should come from."""

from __future__ import annotations

import logging
from dataclasses import replace
from os import PathLike

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStore,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_adapters.checks import require_seed, require_whole
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
)
from llama_index_adapters.index.corpus import IndexCorpus, node_of
from llama_index_adapters.index.corpus_files import CorpusFiles
from llama_index_adapters.index.nodes import NodesRead, Passes
from llama_index_adapters.index.pages import (
    Reading,
)
from llama_index_adapters.index.same_model import require_same_model
from llama_index_adapters.index.source import IndexSource
from llama_index_adapters.services.progress import progress_bar

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
            :class:`~llama_index_adapters.AdapterEmbeddingModel`, its base model, unless it maps
            passages too, as for a rewritten index. A store alone is read without one, and
            without the check; queries cannot be embedded then.
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
    source = IndexSource.of(index, embed_model, docstore, own_model=check_model)
    reading = source.reading(page_size)
    files = CorpusFiles(directory)
    nodes = NodesRead(
        source.node_of_id if reading.mapped_ids else None,
        _filter(filters, source.docstore),
    )
    try:
        with progress_bar(
            desc=f"Reading {source.name}", unit="vector", disable=not show_progress
        ) as bar:
            for page in reading.pages:
                new = nodes.take(page)
                if new.ids:
                    files.append(new.vectors, new.records)
                bar.update(len(page.ids))
        if not nodes.ids:
            raise InvalidDatasetError(
                f"The {source.name} has no vectors{' that pass the filters' if filters else ''}; "
                "there is nothing to train on."
            )
        corpus = _corpus(source, reading, nodes, files)
        if source.embed_model is not None and check_model:
            embedded = require_same_model(corpus, source.embed_model, seed)
            corpus = replace(corpus, texts_embedded=embedded)
    except BaseException:
        files.remove()
        raise
    logger.info("Read %s.", corpus)
    return corpus


def _corpus(
    source: IndexSource, reading: Reading, nodes: NodesRead, files: CorpusFiles
) -> IndexCorpus:
    """Return what was read."""
    return IndexCorpus(
        node_ids=tuple(nodes.ids),
        vectors=files.vectors(),
        similarity=reading.similarity,
        store=source.name,
        exact=reading.exact,
        duplicates=nodes.duplicates,
        embed_model=source.embed_model,
        texts_embedded=0,
        files=files,
        docstore=source.docstore,
        vector_store=source.store,
        node_of_id=nodes.node_of_id,
    )


def _require_type(value: object, kind: type, name: str, expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidOptionError(f"{name} is of type {type(value).__name__}; give {expected}.")


def _filter(filters: MetadataFilters | None, docstore: BaseDocumentStore | None) -> Passes | None:
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
