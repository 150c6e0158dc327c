"""An index is copied with fewer dimensions: the nodes as they were, nothing embedded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import (
    IndexNode,
    MetadataMode,
    QueryBundle,
    TextNode,
)
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llama_index_adapters import AdapterEmbeddingModel, read_index, rewrite_index
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    ModelMismatchError,
    UnsupportedStoreError,
)
from llama_index_adapters.retrieval.ranking import unit_rows
from tests import index_stores
from tests.fakes import CountingEmbedding
from tests.rewriting import DIM, SMALL, halved, indexed_simply, make_nodes

names = map("rewritten_{}".format, itertools.count())

# Every kind is read once and written once; what compares by another measure than cosine goes to
# its like.
PAIRS = [
    ("SimpleVectorStore", "Postgres"),
    ("Postgres", "Milvus"),
    ("Milvus", "Milvus"),
    ("Qdrant", "SimpleVectorStore"),
    ("SimpleVectorStore", "Qdrant"),
    ("Chroma", "LanceDB"),
    ("LanceDB", "Faiss"),
    ("Faiss", "Chroma"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[index_stores.Servers]:
    with index_stores.servers(tmp_path_factory.mktemp("stores")) as servers:
        yield servers


@pytest.fixture
def adapter(tmp_path) -> AdapterEmbeddingModel:
    return halved(tmp_path / "adapter", CountingEmbedding())


def indexed(store: Any, nodes: list[TextNode], model: CountingEmbedding) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=model)


def qdrant(**options: Any) -> QdrantVectorStore:
    return QdrantVectorStore(next(names), client=QdrantClient(":memory:"), **options)


@pytest.mark.server
@pytest.mark.parametrize(("source", "destination"), PAIRS)
def test_nodes_are_the_old_ones_but_for_the_vector(source, destination, running, adapter):
    kinds = index_stores.KINDS
    if not {source, destination} <= set(kinds):
        pytest.skip("no server here")
    nodes = make_nodes()
    old = indexed(kinds[source].make(running, next(names), DIM), nodes, adapter.base_embed_model)
    before = kinds[source].content(old.vector_store)
    adapter.base_embed_model.calls.clear()
    into = kinds[destination].make(running, next(names), SMALL)
    new = rewrite_index(old, adapter, into, page_size=7, show_progress=False)
    assert not adapter.base_embed_model.calls
    assert kinds[source].content(old.vector_store) == before

    was, now = (read_index(one, check_model=False, show_progress=False) for one in (old, new))
    assert sorted(now.node_ids) == sorted(node.node_id for node in nodes)
    by_id = {node.node_id: node for node in was.nodes()}
    for node in now.nodes():
        expected = by_id[node.node_id]
        assert (node.text, node.metadata) == (expected.text, expected.metadata)
        assert node.relationships == expected.relationships
        assert node.get_content(MetadataMode.EMBED) == expected.get_content(MetadataMode.EMBED)
    rows = [was.node_ids.index(node_id) for node_id in now.node_ids]
    expected = adapter.transform_passages(was.vectors[rows])
    same = unit_rows(expected), unit_rows(now.vectors)
    np.testing.assert_allclose(*same, rtol=1e-5, atol=1e-6)

    # The adapter is the model of the new index: it checks out, and queries find their way.
    corpus = read_index(new, adapter, show_progress=False)
    assert corpus.model_was_checked
    assert corpus.vectors.shape == (len(nodes), SMALL)
    found = new.as_retriever(similarity_top_k=3).retrieve(QueryBundle("one"))
    query = np.array(adapter.get_query_embedding("one"))
    best = np.argsort(-(unit_rows(now.vectors) @ query))[:3]
    if kinds[destination].similarity == "cosine" or source in ("Qdrant", "Postgres"):
        assert [hit.node.node_id for hit in found] == [now.node_ids[row] for row in best]


def test_a_docstore_keeps_its_nodes_and_a_new_one_can_be_written(adapter, tmp_path):
    """Nodes of a docstore are copied, not shared; the new index is found again on disk."""
    nodes = make_nodes()
    old = indexed_simply(nodes)
    new = rewrite_index(old, adapter, SimpleVectorStore(), show_progress=False)
    assert all(old.docstore.get_document(node.node_id).embedding is None for node in nodes)
    new.storage_context.persist(str(tmp_path / "small"))
    context = StorageContext.from_defaults(persist_dir=str(tmp_path / "small"))
    again = load_index_from_storage(context, embed_model=adapter)
    assert [hit.node.text for hit in again.as_retriever().retrieve("two")] == [
        hit.node.text for hit in new.as_retriever().retrieve("two")
    ]
    # What is inserted later is mapped too.
    again.insert_nodes([TextNode(text="later", id_="later")])
    assert len(again.vector_store.get("later")) == SMALL


def test_an_index_node_keeps_what_it_leads_to(adapter):
    node = IndexNode(text="see there", index_id="elsewhere", id_=make_nodes()[0].node_id)
    new = rewrite_index(indexed_simply([node]), adapter, qdrant(), show_progress=False)
    (hit,) = new.as_retriever().retrieve("see")
    assert isinstance(hit.node, IndexNode)
    assert hit.node.index_id == "elsewhere"
    assert new.docstore.get_document(node.node_id).index_id == "elsewhere"


def test_a_faiss_store_with_ids_of_its_own(adapter):
    into = FaissMapVectorStore(faiss.IndexIDMap2(faiss.IndexFlatIP(SMALL)))
    new = rewrite_index(indexed_simply(), adapter, into, show_progress=False)
    corpus = read_index(new, adapter, show_progress=False)
    np.testing.assert_allclose(np.linalg.norm(corpus.vectors, axis=1), 1, rtol=1e-5)


def test_metadata_that_a_store_does_not_take_is_named_without_it(adapter, running):
    """Chroma takes no nested metadata; which nodes, but not what they hold, is said."""
    node = make_nodes()[0]
    node.metadata["nested"] = {"private": "a private word"}
    into = index_stores.KINDS["Chroma"].make(running, next(names), SMALL)
    with pytest.raises(UnsupportedStoreError, match=node.node_id) as caught:
        rewrite_index(indexed_simply([node]), adapter, into, show_progress=False)
    assert "a private word" not in str(caught.value)


class TestResuming:
    def test_goes_on_where_it_was_killed(self, adapter):
        """Two pages are written, the third fails; the second run writes the rest alone."""
        into, written = qdrant(), []

        class Dying:
            def __init__(self, store: Any) -> None:
                self.store, self.pages = store, 0

            def __call__(self, nodes: Any) -> Any:
                self.pages += 1
                if self.pages == 3:
                    raise KeyboardInterrupt
                written.append(len(nodes))
                return self.store.__class__.add(self.store, nodes)

        object.__setattr__(into, "add", Dying(into))
        with pytest.raises(KeyboardInterrupt):
            rewrite_index(indexed_simply(), adapter, into, page_size=7, show_progress=False)
        with pytest.raises(InvalidOptionError, match=r"not empty.*resume=True"):
            rewrite_index(indexed_simply(), adapter, into, page_size=7, show_progress=False)
        written.clear()
        into.add.pages = 10
        new = rewrite_index(
            indexed_simply(), adapter, into, resume=True, page_size=9, show_progress=False
        )
        assert sum(written) == len(make_nodes()) - 14
        assert len(read_index(new, adapter, show_progress=False)) == len(make_nodes())

    def test_refuses_what_another_adapter_wrote(self, adapter, tmp_path):
        into = qdrant()
        other = halved(tmp_path / "other", CountingEmbedding(), seed=1)
        rewrite_index(indexed_simply(), other, into, show_progress=False)
        with pytest.raises(InvalidOptionError, match="other vectors than this adapter gives"):
            rewrite_index(indexed_simply(), adapter, into, resume=True, show_progress=False)

    def test_refuses_what_holds_other_nodes(self, adapter):
        into = qdrant()
        rewrite_index(indexed_simply(), adapter, into, show_progress=False)
        with pytest.raises(InvalidDatasetError, match=r"7 nodes were copied.* holds 20"):
            rewrite_index(
                indexed_simply(make_nodes()[:7]), adapter, into, resume=True, show_progress=False
            )

    def test_refuses_a_store_that_keeps_no_texts(self, adapter):
        into = SimpleVectorStore()
        rewrite_index(indexed_simply(), adapter, into, show_progress=False)
        with pytest.raises(InvalidOptionError, match="keeps no texts"):
            rewrite_index(indexed_simply(), adapter, into, resume=True, show_progress=False)


class TestRefusedBeforeTheFirstPage:
    @pytest.mark.parametrize(
        ("into", "message"),
        [
            (
                lambda: FaissVectorStore(faiss.IndexFlatL2(DIM)),
                f"made for vectors of {DIM} dimensions, and the adapter gives {SMALL}",
            ),
            (
                lambda: FaissVectorStore(
                    faiss.IndexIVFFlat(faiss.IndexFlatL2(SMALL), SMALL, 2, faiss.METRIC_L2)
                ),
                "is not trained",
            ),
            (
                lambda: FaissVectorStore(faiss.IndexScalarQuantizer(SMALL, 0)),
                "keeps codes instead of vectors",
            ),
            (
                lambda: qdrant(
                    enable_hybrid=True, sparse_doc_fn=lambda x: x, sparse_query_fn=lambda x: x
                ),
                "keeps sparse vectors",
            ),
        ],
        ids=["dimension", "untrained", "codes", "sparse"],
    )
    def test_by_the_new_store(self, into, message, adapter):
        store = into()
        with pytest.raises(UnsupportedStoreError, match=message):
            rewrite_index(indexed_simply(), adapter, store, show_progress=False)

    def test_a_measure_that_ranks_otherwise(self, adapter):
        old = indexed(FaissVectorStore(faiss.IndexFlatIP(DIM)), make_nodes(), CountingEmbedding())
        into = SimpleVectorStore()
        with pytest.raises(UnsupportedStoreError, match=r"by dot_product and the .* by cosine"):
            rewrite_index(old, adapter, into, show_progress=False)
        assert not into.data.embedding_dict

    def test_an_index_of_other_dimensions(self, adapter):
        new = rewrite_index(indexed_simply(), adapter, qdrant(), show_progress=False)
        with pytest.raises(ModelMismatchError, match=r"one that was rewritten is served as it is"):
            rewrite_index(new, adapter, SimpleVectorStore(), show_progress=False)


def test_a_node_that_is_nowhere_is_refused(adapter):
    old = indexed_simply()
    old.docstore.delete_document(make_nodes()[3].node_id)
    with pytest.raises(InvalidDatasetError, match="neither the store nor the docstore"):
        rewrite_index(old, adapter, qdrant(), show_progress=False)
