"""An index, or a vector store, with what belongs to it: where reading begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.storage.docstore.types import BaseDocumentStore

from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.index.pages import Reading, require_reading
from llama_index_adapters.index.registry import reader_for
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.identity import checked_model


@dataclass(frozen=True)
class IndexSource:
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
    ) -> IndexSource:
        """Return the store of an index, or a store, with what was handed in beside it.

        Args:
            index: a ``VectorStoreIndex`` or a vector store.
            embed_model: the model that it was built with.
            docstore: where its nodes are, when the store keeps no texts.
            own_model: whether to take the model that an index holds where none is given.

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


def _base_of(embed_model: BaseEmbedding) -> BaseEmbedding:
    """Return the model under an adapter: queries are learned from as the base embeds them.

    Of an index that was rewritten, it is the adapter that gives its vectors.
    """
    if not isinstance(embed_model, AdapterEmbeddingModel) or embed_model.maps_passages:
        return embed_model
    if embed_model.base_embed_model is None:
        raise InvalidOptionError(
            "embed_model is an adapted model without a base_embed_model, so the vectors of the "
            "index cannot be checked. Read it with read_index(index, check_model=False)."
        )
    return _base_of(embed_model.base_embed_model)
