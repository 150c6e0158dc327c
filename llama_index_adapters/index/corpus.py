"""A corpus that was read from an index: stored vectors, and their nodes when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, Literal, get_args

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from numpy.typing import NDArray

from llama_index_adapters.checks import as_path, require_one_of, require_whole, seeded_generator
from llama_index_adapters.display.html import facts
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.index.corpus_files import CorpusFiles
from llama_index_adapters.index.store_search import StoreSearch
from llama_index_adapters.questions.labels import Judgements, as_judgements
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.embed import EmbeddedDataset, EmbeddingCost
from llama_index_adapters.vectors.query_models import QueryEmbedder, QueryModels, sampled_rows
from llama_index_adapters.vectors.store import EmbeddingStore

# A mapping may hold grades too: {query: {node id: grade}}.
Labels = Questions | str | PathLike[str]
UnknownNodes = Literal["refuse", "drop"]


@dataclass(frozen=True, repr=False)
class IndexCorpus:
    """The stored vectors of an index, on disk.

    Attributes:
        node_ids: the node of each vector.
        vectors: ``(n, dim)`` float32, memory-mapped.
        similarity: how the vector store compares a query with them.
        store: the class of the vector store.
        exact: False when the store keeps codes that give its vectors back approximately.
        duplicates: how many further vectors of a node that was read already were left out.
        embed_model: the model the index was built with; None when none was given.
        texts_embedded: how many passages were embedded again to check that.
        files: where vectors and texts are on disk.
        docstore: where the nodes are, when the store keeps no texts.
        vector_store: the store that was read.
        node_of_id: the node of each id of the store; None when its ids are the nodes'.
    """

    node_ids: tuple[str, ...]
    vectors: NDArray[np.float32] = field(repr=False)
    similarity: Similarity
    store: str
    exact: bool
    duplicates: int
    embed_model: BaseEmbedding | None = field(repr=False)
    texts_embedded: int
    files: CorpusFiles = field(repr=False, compare=False)
    docstore: BaseDocumentStore | None = field(repr=False, compare=False)
    vector_store: Any = field(repr=False, compare=False)
    node_of_id: Mapping[str, str] | None = field(repr=False, compare=False)

    @property
    def model_was_checked(self) -> bool:
        """Whether passages were embedded again, to see that the vectors are the model's."""
        return self.texts_embedded > 0

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.node_ids)

    def __repr__(self) -> str:
        """Say what was read, without ids and vectors."""
        return f"IndexCorpus({self})"

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook."""
        return facts(
            "IndexCorpus",
            {
                "vectors": f"{len(self):,} x {self.vectors.shape[1]}",
                "store": self.store if self.exact else f"{self.store}, approximate",
                "similarity": self.similarity,
                "duplicates left out": self.duplicates,
                "model": "checked" if self.model_was_checked else "not checked",
            },
        )

    def __str__(self) -> str:
        """Say what was read, in one line."""
        approximate = "" if self.exact else ", approximate"
        repeated = f", {self.duplicates:,} duplicates left out" if self.duplicates else ""
        return (
            f"{len(self):,} vectors of {self.vectors.shape[1]} dimensions from {self.store}, "
            f"compared by {self.similarity}{approximate}{repeated}"
        )

    def nodes(self, count: int | None = None, *, seed: int = 0) -> list[BaseNode]:
        """Return nodes with their text and metadata, to generate questions from.

        Args:
            count: how many, drawn at random; all when left out, which takes their memory.
            seed: the same seed draws the same nodes.

        Returns:
            The nodes in the order of the index. One that neither the store nor the docstore
            has is left out.

        Raises:
            InvalidOptionError: for a count that is no whole number from 1 on, or a seed that is
                none.
        """
        if count is not None:
            require_whole(count, "count", otherwise=", or leave it out")
        random = seeded_generator(seed)
        rows = np.arange(len(self))
        if count is not None and count < len(self):
            rows = np.sort(random.choice(rows, count, replace=False))
        return list(self.nodes_of(rows.tolist()))

    def nodes_of(self, rows: Sequence[int]) -> Iterator[BaseNode]:
        """Yield the nodes of some rows; one that is not to be found is left out."""
        for row in rows:
            node = node_of(self.node_ids[row], self.files.line(row), self.docstore)
            if node is not None:
                yield node

    def dataset(
        self,
        labels: Labels,
        *,
        unknown_nodes: UnknownNodes = "refuse",
        search_store: bool = False,
        query_embed_models: Sequence[BaseEmbedding] | None = None,
        store: EmbeddingStore | str | PathLike[str] | None = None,
        show_progress: bool = True,
    ) -> VectorDataset:
        """Return something the engine trains on: only the queries are embedded.

        With ``query_embed_models``, each of those embeds the queries, and those that are not the
        index's own embed a sample of at most a thousand passages too.

        Args:
            labels: which nodes answer which query: a question set whose passages are nodes of
                the index, ``{query: [node ids]}`` or ``{query: {node id: grade}}``, or the path of
                a file: a question set in JSON, or in JSONL or CSV feedback as
                :func:`read_feedback` reads it, or grades as :func:`read_grades` does, in a column
                named ``grade``.
            unknown_nodes: what to do about nodes that the index does not have (any more):
                ``"refuse"`` the labels, or ``"drop"`` them with the queries that only they
                answer.
            search_store: let the training option ``mined`` ask the vector store for the nodes
                near each query, one request a query, instead of ranking all vectors. Worth it
                for a large index with an approximate search of its own.
            query_embed_models: the models that embed queries, as the engine is given them; the
                model that the index was read with when left out.
            store: the store of vectors for the queries, or its path; the one in the user's cache
                directory when left out.
            show_progress: show a progress bar.

        Returns:
            The vectors; queries of the same text are one.

        Raises:
            InvalidDatasetError: for labels that cannot be used, or about unknown nodes.
            InvalidFileError: for a file that is not what it should be.
            InvalidOptionError: without an embedding model, or for an unknown option.
            EmbeddingError: when the embedding model fails; what it gave before is stored.
        """
        return self.embedded(
            labels,
            unknown_nodes=unknown_nodes,
            search_store=search_store,
            query_embed_models=query_embed_models,
            store=store,
            show_progress=show_progress,
        ).data

    def embedded(
        self,
        labels: Labels,
        *,
        unknown_nodes: UnknownNodes = "refuse",
        search_store: bool = False,
        query_embed_models: Sequence[BaseEmbedding] | None = None,
        store: EmbeddingStore | str | PathLike[str] | None = None,
        show_progress: bool = True,
    ) -> EmbeddedDataset:
        """Return what :meth:`dataset` gives, with what embedding took; arguments are the same."""
        require_one_of(unknown_nodes, "unknown_nodes", get_args(UnknownNodes))
        judgements = self._known(as_judgements(labels), drop=unknown_nodes == "drop")
        texts = list(judgements.relevant)
        queries = self._embedder(query_embed_models, store, show_progress=show_progress)
        embedded = queries.each(texts)
        relevance = Relevance.from_rows(
            [[self._rows[node_id] for node_id in ids] for ids in judgements.relevant.values()],
            [list(grades.values()) for grades in judgements.relevant.values()],
        )
        data = VectorDataset(
            embedded.rows(self.vectors),
            self.vectors,
            relevance,
            similarity=self.similarity,
            query_ids=tuple(judgements.query_ids[text] for text in texts),
            passage_ids=self.node_ids,
            search=self._search(show_progress=show_progress) if search_store else None,
            blocks=embedded.blocks,
        )
        data, cost = self._with_samples(data, queries)
        return EmbeddedDataset(data, embedded.cost + cost)

    def _with_samples(
        self, data: VectorDataset, queries: QueryEmbedder
    ) -> tuple[VectorDataset, EmbeddingCost]:
        """Let models that are not the index's own embed some passages."""
        if queries.models.is_base_alone:
            return data, EmbeddingCost()
        texts, stored = self.sample()
        return queries.with_samples(data, texts, stored) if texts else (data, EmbeddingCost())

    def sample(self, *, seed: int = 0) -> tuple[list[str], NDArray[np.float32]]:
        """Return at most a thousand passages: their texts, as they were embedded, and vectors.

        Args:
            seed: the same seed draws the same passages.

        Returns:
            Texts and ``(n, dim)`` vectors; a node that has no text (any more) is left out.
        """
        nodes: dict[int, str] = {}
        for row in sampled_rows(len(self), seed).tolist():
            for node in self.nodes_of([row]):
                # The form that VectorStoreIndex embeds.
                text = node.get_content(metadata_mode=MetadataMode.EMBED)
                if text.strip() and is_encodable(text):
                    nodes[row] = text
        return list(nodes.values()), np.array(self.vectors[list(nodes)])

    def _embedder(
        self,
        query_embed_models: Sequence[BaseEmbedding] | None,
        store: EmbeddingStore | str | PathLike[str] | None,
        *,
        show_progress: bool,
    ) -> QueryEmbedder:
        if self.embed_model is None and query_embed_models is None:
            raise InvalidOptionError(
                "Queries have to be embedded, and no embed_model was given. Read the index with "
                "read_index(index, embed_model), with the model it was built with, or give "
                "query_embed_models=[another]."
            )
        if store is not None and not isinstance(store, EmbeddingStore):
            store = as_path(store, "store")
        models = QueryModels.of(self.embed_model, query_embed_models)
        return QueryEmbedder(models, store, show_progress=show_progress)

    def embed_queries(
        self,
        texts: Sequence[str],
        *,
        store: EmbeddingStore | str | PathLike[str] | None = None,
        show_progress: bool = True,
    ) -> NDArray[np.float32]:
        """Return the base model's vectors of queries, ``(n_queries, dim)``.

        Raises:
            InvalidOptionError: without an embedding model.
            EmbeddingError: when the embedding model fails; what it gave before is stored.
        """
        embedder = self._embedder(None, store, show_progress=show_progress)
        return embedder.each(texts).vectors[0]

    def _search(self, *, show_progress: bool) -> StoreSearch:
        return StoreSearch(
            self.vector_store, self._rows, self.node_of_id, show_progress=show_progress
        )

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {node_id: row for row, node_id in enumerate(self.node_ids)}

    def _known(self, judgements: Judgements, *, drop: bool) -> Judgements:
        """Return the judgements about nodes of the index."""
        unknown = dict.fromkeys(
            node_id
            for ids in judgements.relevant.values()
            for node_id in ids
            if node_id not in self._rows
        )
        if not unknown:
            return judgements
        named = ", ".join(map(repr, list(unknown)[:3])) + (" …" if len(unknown) > 3 else "")
        problem = f"{len(unknown)} node ids of the labels are not in the index ({named})"
        if not drop:
            raise InvalidDatasetError(
                f"{problem}, which has {len(self):,} nodes such as {self.node_ids[0]!r}. Labels "
                "have to name nodes of this index; when these were deleted from it, give "
                "unknown_nodes='drop'."
            )
        known = judgements.without(unknown)
        if not known.relevant:
            raise InvalidDatasetError(f"{problem}, and no query has another.")
        return known


def node_record(text: str | None, metadata: Mapping[str, object] | None) -> str:
    """Return one line of JSON from which :func:`node_of` makes the node again."""
    metadata = metadata or {}
    # The rest of what LlamaIndex stores repeats the node's own content.
    own = {name: metadata[name] for name in ("_node_content", "_node_type") if name in metadata}
    return json.dumps([text, own or dict(metadata)], default=str)


def node_of(node_id: str, line: str, docstore: BaseDocumentStore | None) -> BaseNode | None:
    """Return the node of a record, from the docstore where the store keeps no text.

    Returns:
        None when there is neither a text nor a node in the docstore.
    """
    text, metadata = json.loads(line)
    if docstore is not None and not text and "_node_content" not in metadata:
        return docstore.get_document(node_id, raise_error=False)
    if "_node_content" in metadata:
        return metadata_dict_to_node(metadata, text=text or None)
    return None if text is None else TextNode(id_=node_id, text=text, metadata=metadata)
