"""What read_index makes of indexes, stores, and of what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import numpy as np
import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore

from llama_index_adapters import (
    Page,
    Reading,
    finetune_without_labels,
    generate_qa_embedding_pairs,
    local_embedding,
    read_index,
    register_reader,
)
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    InvalidVectorsError,
    ModelMismatchError,
    UnsupportedStoreError,
    UnwritableFileError,
)
from llama_index_adapters.index import registry
from tests.fakes import CountingEmbedding

DIM = 8


def make_nodes(count=20):
    return [TextNode(id_=f"n{number}", text=f"passage {number}") for number in range(count)]


@pytest.fixture
def model():
    return CountingEmbedding()


@pytest.fixture
def index(model):
    return VectorStoreIndex(make_nodes(), embed_model=model)


def read(source, embed_model=None, **options):
    return read_index(source, embed_model, show_progress=False, **options)


class OwnStore:
    """A vector store that nobody knows."""

    def __init__(self, rows):
        self.rows = rows


def own_reader(store, page_size):
    def pages():
        for start in range(0, len(store.rows), page_size):
            rows = store.rows[start : start + page_size]
            yield Page([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])

    return Reading("dot_product", pages())


@pytest.fixture
def own(monkeypatch, model):
    monkeypatch.setattr(registry, "_registered", {})
    register_reader(OwnStore, own_reader)
    return OwnStore([(f"n{row}", model.vector(f"text {row}"), f"text {row}") for row in range(9)])


class TestReaders:
    def test_a_store_without_one_is_refused_with_a_reader_that_runs(self, model):
        with pytest.raises(UnsupportedStoreError, match=r"no reader for OwnStore; .* Milvus") as e:
            read(OwnStore([]), model)
        shown = str(e.value).partition("\n\n")[2]
        compile("\n".join(line[4:] for line in shown.splitlines()), "shown", "exec")
        assert "register_reader(OwnStore, read)" in shown

    def test_one_of_your_own(self, own, model):
        class Derived(OwnStore):
            pass

        for store in (own, Derived(own.rows)):
            corpus = read(store, model, page_size=4)
            assert corpus.node_ids == tuple(row[0] for row in own.rows)
            assert corpus.similarity == "dot_product"
            assert [node.get_content() for node in corpus.nodes()] == [r[2] for r in own.rows]

    @pytest.mark.parametrize("wrong", [("OwnStore", own_reader), (OwnStore, "reader")])
    def test_what_cannot_be_registered(self, wrong):
        with pytest.raises(InvalidOptionError, match="register_reader got"):
            register_reader(*wrong)

    def test_no_store_is_imported_before_it_is_there(self):
        code = (
            "import sys, llama_index_adapters as a; a.read_index; a.register_reader\n"
            "print([n for n in sys.modules if n.split('.')[0] in "
            "('faiss', 'chromadb', 'qdrant_client', 'lancedb', 'pgvector', 'pymilvus', 'torch')])"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert shown.stdout.strip() == b"[]"


class TestFaiss:
    @pytest.fixture
    def faiss(self):
        import faiss

        return faiss

    def index(self, stored, nodes, model, store_class="FaissVectorStore"):
        from llama_index.vector_stores import faiss

        context = StorageContext.from_defaults(
            vector_store=getattr(faiss, store_class)(faiss_index=stored)
        )
        return VectorStoreIndex(nodes, storage_context=context, embed_model=model)

    def test_an_inverted_file_is_read_and_left_as_it_is(self, faiss, model):
        vectors = np.array([model.vector(f"passage {row}") for row in range(50)], np.float32)
        stored = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, 4, faiss.METRIC_INNER_PRODUCT)
        stored.train(vectors)
        index = self.index(stored, make_nodes(50), model)
        before = faiss.serialize_index(stored).tobytes()
        corpus = read(index, page_size=7)
        assert faiss.serialize_index(stored).tobytes() == before
        assert corpus.similarity == "dot_product"
        assert corpus.exact
        rows = [int(node_id[1:]) for node_id in corpus.node_ids]
        np.testing.assert_array_equal(corpus.vectors, vectors[rows])

    def test_codes_are_approximate_and_said_to_be(self, faiss, model):
        vectors = np.array([model.vector(f"passage {row}") for row in range(300)], np.float32)
        stored = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_4bit)
        stored.train(vectors)
        corpus = read(self.index(stored, make_nodes(300), model))
        assert not corpus.exact
        assert "approximate" in str(corpus)

    def test_a_map_store_forgets_deleted_nodes(self, faiss, model):
        stored = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
        index = self.index(stored, make_nodes(), model, "FaissMapVectorStore")
        index.vector_store.delete_nodes(["n3", "n7"])
        corpus = read(index, page_size=6)
        assert set(corpus.node_ids) == {f"n{row}" for row in range(20)} - {"n3", "n7"}
        for node_id, vector in zip(corpus.node_ids, corpus.vectors, strict=True):
            expected = model.vector(f"passage {node_id[1:]}")
            np.testing.assert_allclose(vector, expected, rtol=1e-6)

    def test_a_store_alone_does_not_know_its_nodes(self, faiss, model):
        index = self.index(faiss.IndexFlatL2(DIM), make_nodes(), model)
        with pytest.raises(InvalidOptionError, match="Give the VectorStoreIndex"):
            read(index.vector_store, model)

    def test_another_metric_is_refused(self, faiss, model):
        index = self.index(faiss.IndexFlat(DIM, faiss.METRIC_L1), make_nodes(), model)
        with pytest.raises(UnsupportedStoreError, match="only inner product"):
            read(index)


class TestSimilarity:
    @pytest.mark.parametrize(
        ("space", "similarity"), [("cosine", "cosine"), ("ip", "dot_product"), ("l2", "euclidean")]
    )
    @pytest.mark.parametrize("where", ["metadata", "configuration"])
    def test_of_a_chroma_collection(self, model, tmp_path, space, similarity, where):
        import chromadb
        from llama_index.vector_stores.chroma import ChromaVectorStore

        said = {
            "metadata": {"metadata": {"hnsw:space": space}},
            "configuration": {"configuration": {"hnsw": {"space": space}}},
        }[where]
        collection = chromadb.EphemeralClient().create_collection(f"{space}-{where}", **said)
        context = StorageContext.from_defaults(vector_store=ChromaVectorStore(collection))
        index = VectorStoreIndex(make_nodes(5), storage_context=context, embed_model=model)
        assert read(index).similarity == similarity

    def test_of_a_qdrant_collection(self, model, subtests):
        for distance, similarity in (("DOT", "dot_product"), ("EUCLID", "euclidean")):
            with subtests.test(distance=distance, similarity=similarity):
                from llama_index.vector_stores.qdrant import QdrantVectorStore
                from qdrant_client import QdrantClient, models

                config = models.VectorParams(size=DIM, distance=models.Distance[distance])
                store = QdrantVectorStore("c", client=QdrantClient(":memory:"), dense_config=config)
                nodes = [
                    TextNode(id_=str(uuid.UUID(int=row)), text=f"passage {row}") for row in range(5)
                ]
                context = StorageContext.from_defaults(vector_store=store)
                corpus = read(VectorStoreIndex(nodes, storage_context=context, embed_model=model))
                assert corpus.similarity == similarity
                np.testing.assert_allclose(corpus.vectors[2], model.vector("passage 2"), rtol=1e-6)

    def test_another_distance_is_refused(self):
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient, models

        client = QdrantClient(":memory:")
        config = models.VectorParams(size=DIM, distance=models.Distance.MANHATTAN)
        client.create_collection("c", vectors_config=config)
        with pytest.raises(UnsupportedStoreError, match="compares by Manhattan; only Cosine"):
            read(QdrantVectorStore("c", client=client))


class TestSources:
    def test_a_store_with_its_docstore(self, index, model):
        corpus = read(index.vector_store, model, docstore=index.docstore)
        assert corpus.store == "SimpleVectorStore"
        assert {node.get_content() for node in corpus.nodes()} == {
            node.text for node in make_nodes()
        }

    def test_without_texts_the_model_cannot_be_checked(self, index, model):
        with pytest.raises(InvalidDatasetError, match=r"have no text, .* Give the docstore"):
            read(index.vector_store, model)

    def test_without_a_model_vectors_are_read_and_nothing_is_embedded(self, index):
        corpus = read(index.vector_store)
        assert len(corpus) == 20
        assert corpus.texts_embedded == 0
        with pytest.raises(InvalidOptionError, match="no embed_model was given"):
            corpus.dataset({"q": ["n1"]})

    @pytest.mark.parametrize("page_size", [0, 2.5])
    def test_a_page_size_that_is_none(self, index, page_size):
        with pytest.raises(InvalidOptionError, match="page_size is"):
            read(index, page_size=page_size)

    def test_a_directory_that_is_not_there(self, index, tmp_path):
        with pytest.raises(UnwritableFileError, match="Name another directory"):
            read(index, directory=tmp_path / "missing")

    def test_files_go_with_the_corpus(self, index, tmp_path):
        corpus = read(index, directory=tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        del corpus
        assert not list(tmp_path.iterdir())


class TestVectors:
    def test_several_dimensions_are_refused(self, own, model):
        own.rows.append(("n9", [1.0] * (DIM + 1), "text 9"))
        with pytest.raises(InvalidVectorsError, match="8 dimensions, and 9 from node 'n9' on"):
            read(own, model, page_size=9)

    def test_not_a_number_is_refused(self, own, model):
        own.rows[5] = ("n5", [float("nan")] * DIM, "text 5")
        with pytest.raises(InvalidVectorsError, match=r"from node 'n4' on .* NaN"):
            read(own, model, page_size=4)

    def test_a_page_with_too_few_vectors_is_refused(self, own, model):
        register_reader(OwnStore, lambda store, size: Reading("cosine", [Page(["a"], [[1], [2]])]))
        with pytest.raises(InvalidDatasetError, match="1 ids and 2 vectors"):
            read(own, model)

    def test_one_changed_text_of_three_is_enough_to_refuse(self, own, model):
        own.rows[:] = own.rows[:3]
        own.rows[1] = ("n1", own.rows[1][1], "another text")
        with pytest.raises(ModelMismatchError, match=r"1 of 3 stored vectors .*'n1': -?0\.\d+"):
            read(own, model)

    def test_a_text_that_cannot_be_encoded_is_not_asked_for(self, own, model):
        own.rows[:] = own.rows[:3]
        own.rows[1] = ("n1", own.rows[1][1], "half \ud83d")
        read(own, model)
        assert len(model.texts) == 2


class TestLabels:
    def test_questions_generated_from_its_nodes(self, index, model, tmp_path):
        from tests.fakes import ScriptedLLM

        corpus = read(index)
        nodes = corpus.nodes(5, seed=1)
        assert [node.node_id for node in nodes] == [n.node_id for n in corpus.nodes(5, seed=1)]
        assert len({node.node_id for node in nodes}) == 5
        assert nodes != corpus.nodes(5, seed=2)
        generated = generate_qa_embedding_pairs(nodes, llm=ScriptedLLM(), verbose=False)
        model.calls.clear()
        data = corpus.dataset(generated, store=tmp_path / "store", show_progress=False)
        assert len(data.passages) == 20
        assert set(model.texts) == set(generated.queries.values())

    def test_unknown_nodes_are_refused_or_dropped(self, index, tmp_path):
        corpus = read(index)
        labels = {"one": ["n1", "gone"], "two": ["lost"], "three": ["n2"]}
        with pytest.raises(InvalidDatasetError, match=r"2 node ids .*'gone', 'lost'.*'drop'"):
            corpus.dataset(labels)
        data = corpus.dataset(
            labels, unknown_nodes="drop", store=tmp_path / "store", show_progress=False
        )
        assert data.query_ids == ("one", "three")
        assert [data.passage_ids[row] for row in data.relevance.passages] == ["n1", "n2"]
        with pytest.raises(InvalidDatasetError, match="no query has another"):
            corpus.dataset({"two": ["lost"]}, unknown_nodes="drop")
        with pytest.raises(InvalidOptionError, match="unknown_nodes is 'keep'"):
            corpus.dataset(labels, unknown_nodes="keep")


class TestWithoutLabels:
    def test_its_vectors_are_what_the_closed_form_takes(self, own, model, tmp_path):
        corpus = read(own, model)
        model.calls.clear()
        adapted = finetune_without_labels(
            corpus.vectors,
            corpus.embed_model,
            query_log=["one", "two", "three"],
            similarity=corpus.similarity,
            model_output_path=tmp_path / "adapter",
            store=tmp_path / "store",
            show_progress=False,
        )
        assert set(model.texts) == {"one", "two", "three"}
        config = json.loads((tmp_path / "adapter" / "config.json").read_text())
        assert config["training"]["similarity"] == "dot_product"
        assert config["data"]["passages"] == 9
        # A retriever with the adapter is read as the base model's index.
        assert read(own, adapted).embed_model is model


def test_an_empty_store_of_another_model_is_empty_first():
    with pytest.raises(InvalidDatasetError, match="SimpleVectorStore has no vectors"):
        read(SimpleVectorStore(), MockEmbedding(3))


@pytest.mark.local_model
def test_the_real_model_is_known_again_in_what_it_stored(tmp_path):
    model = local_embedding()
    nodes = [
        TextNode(text=text, metadata={"source": "shop"})
        for text in ("Goods may be sent back within 30 days.", "Defects are repaired.", "We ship.")
    ]
    index = VectorStoreIndex(nodes, embed_model=model)
    corpus = read(index)
    assert corpus.texts_embedded == 3
    data = corpus.dataset({"send it back": [nodes[0].node_id]}, store=tmp_path / "store")
    assert data.queries.shape == (1, 384)
    with pytest.raises(ModelMismatchError, match="3 of 3 stored vectors are not what counting"):
        read(index, CountingEmbedding(dimension=384))
