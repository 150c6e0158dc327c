"""The same cases over all seven vector stores, with the stores themselves.

A failure is named by its store: ``test_reads_every_vector_and_node[Milvus]``.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode, QueryBundle, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index_adapters import EmbeddingAdapterFinetuneEngine, read_index
from llama_index_adapters.errors import InvalidDatasetError, ModelMismatchError
from llama_index_adapters.retrieval.ranking import top_k, unit_rows
from llama_index_adapters.training.mining import mine
from tests import index_stores
from tests.fakes import CountingEmbedding

pytestmark = pytest.mark.server
DIM = 8
NODES = 40
names = map("passages_{}".format, itertools.count())


class Store(NamedTuple):
    """An empty store of one kind."""

    kind: index_stores.Kind
    name: str
    vector_store: Any


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[index_stores.Servers]:
    with index_stores.servers(tmp_path_factory.mktemp("stores")) as servers:
        yield servers


@pytest.fixture(params=index_stores.KINDS)
def store(request, running) -> Store:
    kind = index_stores.KINDS[request.param]
    return Store(kind, request.param, kind.make(running, next(names), DIM))


def make_nodes() -> list[TextNode]:
    return [
        TextNode(
            id_=str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))),
            text=f"passage {number} ☂",
            metadata={"year": 2000 + number % 4, "hidden": "not embedded"},
            excluded_embed_metadata_keys=["hidden"],
        )
        for number in range(NODES)
    ]


@pytest.fixture(scope="module")
def many() -> tuple[list[TextNode], np.ndarray]:
    """More nodes than some stores return to one request, with their vectors."""
    vectors = np.random.default_rng(0).standard_normal((10_050, DIM)).astype(np.float32)
    nodes = [
        TextNode(
            id_=str(uuid.uuid5(uuid.NAMESPACE_URL, str(row))),
            text=f"passage {row}",
            embedding=vector,
        )
        for row, vector in enumerate(vectors.tolist())
    ]
    return nodes, vectors


def index_of(store: Store, nodes: list[TextNode], model: CountingEmbedding) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store.vector_store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=model)


def embedded(node: TextNode, model: CountingEmbedding) -> list[float]:
    return model.vector(node.get_content(metadata_mode=MetadataMode.EMBED))


def read(index: VectorStoreIndex, **options: Any) -> Any:
    return read_index(index, show_progress=False, **options)


def test_reads_every_vector_and_node(store):
    model, nodes = CountingEmbedding(), make_nodes()
    corpus = read(index_of(store, nodes, model), page_size=7)
    assert corpus.similarity == store.kind.similarity
    assert corpus.similarity in str(corpus)
    assert sorted(corpus.node_ids) == sorted(node.node_id for node in nodes)
    by_id = {node.node_id: node for node in nodes}
    expected = np.array([embedded(by_id[node_id], model) for node_id in corpus.node_ids])
    if store.name == "Qdrant":  # keeps vectors that it compares by cosine at length one
        expected = unit_rows(expected)
    np.testing.assert_allclose(corpus.vectors, expected, rtol=2e-6, atol=1e-7)
    assert isinstance(corpus.vectors, np.memmap)
    for node_id, node in zip(corpus.node_ids, corpus.nodes(), strict=True):
        for mode in MetadataMode:
            assert node.get_content(mode) == by_id[node_id].get_content(mode)


def test_similarity_is_that_of_the_store(store):
    """What is read, ranked here, comes in the order in which the store retrieves it."""
    model = CountingEmbedding()
    index = index_of(store, make_nodes(), model)
    corpus = read(index)
    retriever = index.as_retriever(similarity_top_k=10)
    for text in ("one", "two", "three"):
        query = [model.vector(text)]
        found = top_k(query, corpus.vectors, 10, similarity=corpus.similarity)
        ranked = [corpus.node_ids[row] for row in found.passages[0]]
        assert [hit.node.node_id for hit in retriever.retrieve(QueryBundle(text))] == ranked


def test_training_embeds_three_passages_and_changes_nothing(store, tmp_path):
    model, nodes = CountingEmbedding(), make_nodes()
    index = index_of(store, nodes, model)
    before = store.kind.content(store.vector_store)
    model.calls.clear()
    labels = {f"query {node.node_id}": [node.node_id] for node in nodes}
    corpus = read(index)
    dataset = corpus.dataset(labels, store=tmp_path / "store.sqlite", show_progress=False)
    engine = EmbeddingAdapterFinetuneEngine(
        dataset,
        model,
        adapter="linear",
        epochs=2,
        model_output_path=tmp_path / "adapter",
        show_progress=False,
    )
    engine.finetune()
    passages = {node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}
    assert len([text for text in model.texts if text in passages]) == 3 == corpus.texts_embedded
    assert set(model.texts) - passages == set(labels)
    assert dataset.similarity == store.kind.similarity
    assert store.kind.content(store.vector_store) == before
    adapted = index.as_retriever(embed_model=engine.get_finetuned_model())
    assert adapted.retrieve("query")


def test_mining_can_ask_the_store(store, tmp_path):
    """The rows that the store finds are the rows that ranking every vector finds."""
    model, nodes = CountingEmbedding(), make_nodes()
    corpus = read(index_of(store, nodes, model))
    labels = {f"query {node.node_id}": [node.node_id] for node in nodes}
    options = {"store": tmp_path / "store.sqlite", "show_progress": False}
    ranking = corpus.dataset(labels, **options)
    asking = corpus.dataset(labels, search_store=True, **options)
    assert ranking.search is None
    none = np.zeros(0, np.int64)
    found, expected = (mine(data.queries, data, 5, none) for data in (asking, ranking))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("store", ["SimpleVectorStore"], indirect=True)
def test_another_model_is_refused(store):
    index = index_of(store, make_nodes(), CountingEmbedding())
    with pytest.raises(ModelMismatchError, match=f"have {DIM} dimensions, those of .* {DIM + 1}"):
        read(index, embed_model=CountingEmbedding(dimension=DIM + 1))
    other = CountingEmbedding(answer=lambda texts, vectors: [vector[::-1] for vector in vectors])
    with pytest.raises(ModelMismatchError, match="3 of 3 stored vectors are not what counting"):
        read(index, embed_model=other)


def test_a_node_that_is_inserted_twice_is_read_once(store):
    nodes = make_nodes()
    index = index_of(store, nodes, CountingEmbedding())
    index.insert_nodes(nodes[:5])
    corpus = read(index, page_size=7)
    assert sorted(corpus.node_ids) == sorted(node.node_id for node in nodes)
    assert len(corpus.vectors) == len(nodes)


def test_deleted_nodes_are_not_read(store):
    nodes = make_nodes()
    index = index_of(store, nodes, CountingEmbedding())
    gone, kept = nodes[:3], nodes[3:]
    store.kind.delete(index, [node.node_id for node in gone])
    corpus = read(index)
    assert sorted(corpus.node_ids) == sorted(node.node_id for node in kept)
    labels = {"asked before": [gone[0].node_id], "asked again": [gone[1].node_id, kept[0].node_id]}
    with pytest.raises(InvalidDatasetError, match="2 node ids of the labels are not in the index"):
        corpus.dataset(labels)


def test_an_empty_index_is_refused(store):
    index = index_of(store, [], CountingEmbedding())
    with pytest.raises(InvalidDatasetError, match=r"has no vectors; there is nothing to train on"):
        read(index)


def test_more_than_ten_thousand_vectors_are_read(store, many):
    nodes, vectors = many
    index = index_of(store, nodes, CountingEmbedding())
    stored = {node.text: node.embedding for node in nodes}
    model = CountingEmbedding(answer=lambda texts, _: [stored[text] for text in texts])
    # A store that keeps the texts is enough; an index is needed for the others.
    source = index.vector_store if index.vector_store.stores_text else index
    corpus = read_index(source, model, show_progress=False)
    row_of = {node.node_id: row for row, node in enumerate(nodes)}
    expected = vectors[[row_of[node_id] for node_id in corpus.node_ids]]
    assert len(set(corpus.node_ids)) == len(nodes)
    if store.name == "Qdrant":
        expected = unit_rows(expected)
    np.testing.assert_allclose(corpus.vectors, expected, rtol=2e-6, atol=1e-7)


def test_filters_choose_nodes(store):
    nodes = make_nodes()
    index = index_of(store, nodes, CountingEmbedding())
    of_2001 = MetadataFilters(filters=[MetadataFilter(key="year", value=2001)])
    corpus = read(index, filters=of_2001)
    expected = {node.node_id for node in nodes if node.metadata["year"] == 2001}
    assert set(corpus.node_ids) == expected
    assert set(read(index, filters=MetadataFilters(filters=[])).node_ids) > expected
    never = MetadataFilters(filters=[MetadataFilter(key="year", value=1900)])
    with pytest.raises(InvalidDatasetError, match="no vectors that pass the filters"):
        read(index, filters=never)
