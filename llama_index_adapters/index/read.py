"""Read an index: every stored vector once, checked against the model it should come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import MetadataMode
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from tqdm.auto import tqdm

from llama_index_adapters.checks import require_seed, seeded_generator
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    InvalidVectorsError,
    ModelMismatchError,
)
from llama_index_adapters.files.text import is_encodable
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
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.vector_dataset import as_matrix
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.identity import IdentifiedModel, checked_model
from llama_index_adapters.vectors.request import ask_passages

logger = logging.getLogger(__name__)

PAGE_SIZE = 1000
# How many stored passages are embedded again, to see that the model is the index's.
CHECKED_PASSAGES = 3
# The least cosine between a stored vector and the same text embedded again. Services answer
# slightly differently from call to call, and a store may round to half precision; another
# model of the same dimension is near 0. Codes of a quantised index are further away.
SAME_COSINE = 0.99
SAME_COSINE_OF_CODES = 0.7
_TRIED_FOR_TEXTS = 30


def read_index(
    index: object,
    embed_model: BaseEmbedding | None = None,
    *,
    docstore: BaseDocumentStore | None = None,
    filters: MetadataFilters | None = None,
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
    if type(page_size) is not int or page_size < 1:
        raise InvalidOptionError(f"page_size is {page_size!r}; give a whole number from 1 on.")
    require_seed(seed)
    _require(filters, MetadataFilters, "filters", "llama_index.core's MetadataFilters")
    _require(docstore, BaseDocumentStore, "docstore", "a docstore of LlamaIndex")
    node_of_id: Mapping[str, str] = {}
    store = index
    if isinstance(index, VectorStoreIndex):
        store, node_of_id = index.vector_store, index.index_struct.nodes_dict
        docstore = index.docstore if docstore is None else docstore
        embed_model = index._embed_model if embed_model is None else embed_model
    if embed_model is not None:
        embed_model = _base_of(checked_model(embed_model))
    name = type(store).__name__
    reading = reader_for(store)(store, page_size)
    require_reading(reading, name)
    if reading.mapped_ids and not isinstance(index, VectorStoreIndex):
        raise InvalidOptionError(
            f"A {name} knows its rows, not their nodes. Give the VectorStoreIndex, as "
            "load_index_from_storage(storage_context) returns it."
        )
    files = CorpusFiles(directory)
    ids: dict[str, None] = {}
    duplicates = 0
    passes = _filter(filters, docstore)
    try:
        with tqdm(desc=f"Reading {name}", unit="vector", disable=not show_progress) as bar:
            for page in reading.pages:
                duplicates += _append(page, reading, node_of_id, passes, ids, files)
                bar.update(len(page.ids))
        if not ids:
            raise InvalidDatasetError(
                f"The {name} has no vectors{' that pass the filters' if filters else ''}; there "
                "is nothing to train on."
            )
        corpus = IndexCorpus(
            node_ids=tuple(ids),
            vectors=files.vectors(),
            similarity=reading.similarity,
            store=name,
            exact=reading.exact,
            duplicates=duplicates,
            embed_model=embed_model,
            texts_embedded=0,
            files=files,
            docstore=docstore,
            vector_store=store,
            node_of_id=node_of_id if reading.mapped_ids else None,
        )
        if embed_model is not None:
            checked = _require_same_model(corpus, embed_model, seed)
            corpus = replace(corpus, texts_embedded=checked)
    except BaseException:
        files.remove()
        raise
    logger.info("Read %s.", corpus)
    return corpus


# Whether a node is taken, by its id and its record.
_Passes = Callable[[str, str], bool]


def _require(given: object, kind: type, name: str, expected: str) -> None:
    if given is not None and not isinstance(given, kind):
        raise InvalidOptionError(f"{name} is of type {type(given).__name__}; give {expected}.")


def _base_of(embed_model: BaseEmbedding) -> BaseEmbedding:
    """Return the model under an adapter: queries are learned from as the base embeds them."""
    if isinstance(embed_model, AdapterEmbeddingModel):
        return _base_of(embed_model.base_embed_model)
    return embed_model


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


def _append(
    page: Page,
    reading: Reading,
    node_of_id: Mapping[str, str],
    passes: _Passes | None,
    ids: dict[str, None],
    files: CorpusFiles,
) -> int:
    """Write the page's new nodes to the files; return how many were there already."""
    require_page(page)
    if not len(page.ids):
        return 0
    try:
        vectors = as_matrix(page.vectors, "The page")
    except InvalidVectorsError as error:
        raise InvalidVectorsError(
            f"Stored vectors from node {page.ids[0]!r} on cannot be used. {error}"
        ) from error
    require_ids(page.ids, len(vectors))
    if len(files) and vectors.shape[1] != files.dimension:
        raise InvalidVectorsError(
            f"Stored vectors have {files.dimension} dimensions, and {vectors.shape[1]} from node "
            f"{page.ids[0]!r} on. One index holds vectors of one model."
        )
    rows: list[int] = []
    records: list[str] = []
    duplicates = 0
    for row, stored_id in enumerate(page.ids):
        # A row that the index does not know any more belongs to a deleted node.
        node_id = node_of_id.get(stored_id) if reading.mapped_ids else stored_id
        if node_id is None:
            continue
        if node_id in ids:
            duplicates += 1
            continue
        record = node_record(
            None if page.texts is None else page.texts[row],
            None if page.metadata is None else page.metadata[row],
        )
        if passes is not None and not passes(node_id, record):
            continue
        ids[node_id] = None
        rows.append(row)
        records.append(record)
    if rows:
        files.append(vectors if len(rows) == len(vectors) else vectors[rows], records)
    return duplicates


def _require_same_model(corpus: IndexCorpus, embed_model: BaseEmbedding, seed: int) -> int:
    """Refuse a model that the stored vectors do not come from.

    Returns:
        How many passages were embedded.

    Raises:
        ModelMismatchError: for another dimension, or other vectors of the same texts.
        InvalidDatasetError: when there are no texts to check with.
    """
    count = min(_TRIED_FOR_TEXTS, len(corpus))
    rows = seeded_generator(seed).choice(len(corpus), count, replace=False)
    stored: list[int] = []
    texts: list[str] = []
    for row in rows.tolist():
        for node in corpus.nodes_of([row]):
            # The form that VectorStoreIndex embeds.
            text = node.get_content(metadata_mode=MetadataMode.EMBED)
            if text.strip() and is_encodable(text):
                stored.append(row)
                texts.append(text)
        if len(texts) == CHECKED_PASSAGES:
            break
    if not texts:
        raise InvalidDatasetError(
            f"{count} nodes of the {corpus.store} have no text, so that it cannot be checked which "
            "model their vectors come from. Give the docstore that holds them."
        )
    name = IdentifiedModel(embed_model).label
    found = ask_passages(embed_model, texts)
    if found.shape[1] != corpus.vectors.shape[1]:
        raise ModelMismatchError(
            f"The stored vectors have {corpus.vectors.shape[1]} dimensions, those of {name} "
            f"{found.shape[1]}. Give the model that the index was built with."
        )
    cosines = (unit_rows(found) * unit_rows(corpus.vectors[stored])).sum(axis=1)
    least = SAME_COSINE if corpus.exact else SAME_COSINE_OF_CODES
    apart = [
        f"{corpus.node_ids[row]!r}: {cosine:.3f}"
        for row, cosine in zip(stored, cosines.tolist(), strict=True)
        if cosine < least
    ]
    if apart:
        raise ModelMismatchError(
            f"{len(apart)} of {len(texts)} stored vectors are not what {name} gives for their "
            f"texts (cosine of {', '.join(apart)}; expected {least} or more). Give the model that "
            "the index was built with; if it is, insert the nodes whose texts have changed again."
        )
    return len(texts)
