"""Maps of both sides to fewer dimensions: learned, judged, saved, served and compared."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from scipy.stats import ortho_group

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    Relevance,
    VectorDataset,
    compare_adapters,
    evaluate,
    read_index,
    rewrite_index,
)
from llama_index_adapters.adapters.disk.read import read_adapter
from llama_index_adapters.adapters.learned.base import load_adapter
from llama_index_adapters.errors import (
    InvalidAdapterError,
    InvalidOptionError,
    ModelMismatchError,
)
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.training.both_sides import BothMaps
from llama_index_adapters.training.closed_form import truncated_pca
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import TrainingResult
from llama_index_adapters.training.search.dimensions import reduce_dimensions
from llama_index_adapters.training.validation import judge
from tests.fakes import CountingEmbedding
from tests.rewriting import DIM, SMALL, halved

QUIET, LOUD = 6, 10
FAST = TrainingOptions(batch_size=32)


def quiet_signal(n: int = 120, seed: int = 0) -> VectorDataset:
    """What queries share with their passages is in directions that passages use least."""
    random = np.random.default_rng(seed)
    signal = random.standard_normal((n, QUIET))
    turned = ortho_group.rvs(QUIET + LOUD, random_state=3)
    passages, queries = (
        np.concatenate([signal, 1.1 * random.standard_normal((n, LOUD))], axis=1) @ turned
        for _ in range(2)
    )
    relevance = Relevance.from_rows([[row] for row in range(n)])
    return VectorDataset(queries, passages, relevance)


def chance(n: int = 80) -> VectorDataset:
    """Queries that have nothing to do with their passages."""
    random = np.random.default_rng(5)
    queries, passages = random.standard_normal((2, n, QUIET + LOUD))
    return VectorDataset(queries, passages, Relevance.from_rows([[row] for row in range(n)]))


@pytest.fixture(scope="module")
def learned() -> TrainingResult:
    return reduce_dimensions(quiet_signal(), None, QUIET, FAST)


def maps_of(result: TrainingResult) -> BothMaps:
    assert result.passages is not None
    arrays = (adapter.arrays()["linear.weight"] for adapter in (result.adapter, result.passages))
    return BothMaps(*arrays)


class TestTruncatedPca:
    def test_keeps_the_directions_that_passages_use_most(self):
        passages = np.random.default_rng(0).standard_normal((300, 6)) * [1, 5, 2, 4, 1, 3]
        weight = truncated_pca(passages.astype(np.float32), 3)
        expected = np.linalg.svd(unit_rows(passages), full_matrices=False)[2][:3]
        np.testing.assert_allclose(np.abs((weight * expected).sum(axis=1)), 1, atol=1e-4)
        np.testing.assert_allclose(weight @ weight.T, np.eye(3), atol=1e-5)

    def test_at_all_dimensions_it_ranks_as_the_base(self):
        data = quiet_signal()
        weight = truncated_pca(data.passages, data.passages.shape[1])
        np.testing.assert_array_equal(
            BothMaps(weight, weight).judged(data)["ndcg@10"],
            judge(data.queries, data)["ndcg@10"],
        )


class TestLearning:
    def test_finds_what_truncated_pca_cuts_off(self, learned):
        """Also for questions and passages that nobody trained on."""
        reduced = learned.reduced
        assert reduced.kept
        assert reduced.low > 0
        other = quiet_signal(seed=1)
        weight = truncated_pca(other.passages, QUIET)
        scores = {
            "pca": BothMaps(weight, weight).judged(other)["ndcg@10"].mean(),
            "learned": maps_of(learned).judged(other)["ndcg@10"].mean(),
        }
        assert scores["learned"] > scores["pca"] + 0.1
        assert "gains +" in str(reduced)

    def test_what_is_judged_is_judged_by_held_out_questions(self, learned):
        """All three figures are of the same questions; the base has all dimensions."""
        data = quiet_signal()
        sizes = {len(m["ndcg@10"]) for m in (learned.base, learned.adapted)}
        assert sizes == {learned.reduced.queries} == {len(data.queries)}
        full = judge(data.queries, data)["ndcg@10"]
        np.testing.assert_allclose(np.sort(learned.base["ndcg@10"]), np.sort(full))

    def test_keeps_truncated_pca_where_nothing_is_certain(self):
        data = chance()
        result = reduce_dimensions(data, None, QUIET, FAST)
        assert not result.reduced.kept
        assert "truncated PCA is kept" in str(result.reduced)
        expected = truncated_pca(data.passages, QUIET)
        for adapter in (result.adapter, result.passages):
            np.testing.assert_array_equal(adapter.arrays()["linear.weight"], expected)
        np.testing.assert_array_equal(
            result.adapted["ndcg@10"], result.reduced.truncated_pca["ndcg@10"]
        )

    def test_the_same_seed_gives_the_same_bytes(self, learned):
        again = maps_of(reduce_dimensions(quiet_signal(), None, QUIET, FAST))
        other = maps_of(reduce_dimensions(quiet_signal(), None, QUIET, replace(FAST, seed=1)))
        first = maps_of(learned)
        assert again.queries.tobytes() == first.queries.tobytes()
        assert again.passages.tobytes() == first.passages.tobytes()
        assert other.queries.tobytes() != first.queries.tobytes()

    def test_a_sample_of_negatives_learns_it_too(self):
        few = replace(FAST, negatives=50)
        assert reduce_dimensions(quiet_signal(), None, QUIET, few).reduced.kept


def vectors_of(model: CountingEmbedding, data: VectorDataset) -> dict[str, list[float]]:
    queries = {f"query {row}": vector.tolist() for row, vector in enumerate(data.queries)}
    return queries | {f"text {row}": vector.tolist() for row, vector in enumerate(data.passages)}


@pytest.fixture(scope="module")
def model() -> CountingEmbedding:
    known = vectors_of(CountingEmbedding(), quiet_signal())
    return CountingEmbedding(
        dimension=QUIET + LOUD, answer=lambda texts, _: [known[text] for text in texts]
    )


@pytest.fixture(scope="module")
def index(model) -> VectorStoreIndex:
    nodes = [TextNode(id_=f"n{row}", text=f"text {row}") for row in range(120)]
    context = StorageContext.from_defaults(vector_store=SimpleVectorStore())
    return VectorStoreIndex(nodes, storage_context=context, embed_model=model)


LABELS = {f"query {row}": [f"n{row}"] for row in range(120)}


@pytest.fixture(scope="module")
def small(model, index, tmp_path_factory):
    """A model that was trained on an index, its result and the data."""
    directory = tmp_path_factory.mktemp("small")
    data = read_index(index, show_progress=False).dataset(
        LABELS, store=directory / "store.sqlite3", show_progress=False
    )
    engine = EmbeddingAdapterFinetuneEngine(
        data,
        model,
        target_dim=QUIET,
        model_output_path=directory / "adapter",
        show_progress=False,
    )
    return engine.finetune(), engine.get_finetuned_model(), data


class TestAnIndexWithFewerDimensions:
    def test_the_way_from_an_index_to_a_smaller_one(self, small, index, model):
        result, adapted, data = small
        assert adapted.dimension == QUIET
        assert result.comparison.base == pytest.approx(
            {name: values.mean() for name, values in result.trained.base.items()}
        )
        assert result.over_truncated_pca.gains["ndcg@10"].low > 0
        assert "over truncated PCA" in str(result)
        smaller = rewrite_index(index, adapted, SimpleVectorStore(), show_progress=False)
        retriever = smaller.as_retriever(similarity_top_k=1)
        found = [retriever.retrieve(query)[0].node.node_id for query in list(LABELS)[:20]]
        scores = (
            adapted.transform_queries(data.queries[:20])
            @ unit_rows(adapted.transform_passages(data.passages)).T
        )
        assert found == [data.passage_ids[row] for row in scores.argmax(axis=1)]

    def test_texts_are_mapped_however_they_are_embedded(self, small, model):
        _, adapted, data = small
        texts = [f"text {row}" for row in range(3)]
        expected = adapted.transform_passages(data.passages[:3])
        np.testing.assert_allclose(
            np.linalg.norm(expected, axis=1), np.linalg.norm(data.passages[:3], axis=1), rtol=1e-5
        )
        ways = [
            adapted.get_text_embedding_batch(texts),
            [adapted.get_text_embedding(text) for text in texts],
            asyncio.run(adapted.aget_text_embedding_batch(texts)),
            [asyncio.run(adapted.aget_text_embedding(text)) for text in texts],
        ]
        for vectors in ways:
            np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
        query = adapted.get_query_embedding("query 0")
        np.testing.assert_allclose(
            query, adapted.transform_queries(data.queries[:1])[0], rtol=1e-5, atol=1e-7
        )

    def test_evaluation_maps_both_sides(self, small):
        _, adapted, data = small
        measured = evaluate(adapted, data).comparison
        both = BothMaps(
            *(
                read_adapter(adapted.adapter_path).parts[part]["linear.weight"]
                for part in ("queries", "passages")
            )
        )
        assert measured.base["ndcg@10"] == judge(data.queries, data)["ndcg@10"].mean()
        assert measured.adapted["ndcg@10"] == pytest.approx(both.judged(data)["ndcg@10"].mean())
        itself = compare_adapters(adapted, adapted, data).comparison
        assert itself.base == itself.adapted == measured.adapted

    def test_the_directory_says_what_it_is(self, small):
        result, adapted, _ = small
        card = (result.path / "README.md").read_text()
        assert "for both sides of `counting`" in card
        assert "rewrite_index(index, embed_model, empty_vector_store)" in card
        assert adapted.metadata.training["target_dim"] == QUIET
        assert adapted.metadata.passage_dim == QUIET
        assert set(adapted.metadata.metrics) >= {"base", "adapted", "truncated_pca"}

    def test_an_index_of_other_dimensions_is_refused_with_the_way_out(self, small, index):
        _, adapted, _ = small
        with pytest.raises(ModelMismatchError, match=r"rewrite_index copies the index for this"):
            read_index(index, adapted, show_progress=False)

    def test_what_it_is_trained_further_on_is_refused(self, small):
        with pytest.raises(InvalidAdapterError, match="training goes on from a map of queries"):
            load_adapter(small[0].path)


def test_the_map_of_passages_is_part_of_the_fingerprint(tmp_path):
    base = CountingEmbedding()
    first = halved(tmp_path / "one", base)
    from tests.rewriting import linear, save_adapter

    weights = read_adapter(tmp_path / "one").parts["queries"]["linear.weight"]
    save_adapter(
        tmp_path / "other", linear(weights), passages=linear(np.ones((SMALL, DIM), np.float32))
    )
    other = AdapterEmbeddingModel(base, tmp_path / "other")
    assert first.get_query_embedding("a") == other.get_query_embedding("a")
    assert first.fingerprint != other.fingerprint


def test_queries_that_stay_as_they_are_do_not_fit_a_smaller_index(tmp_path):
    path = halved(tmp_path / "one", CountingEmbedding()).adapter_path
    with pytest.raises(InvalidOptionError, match="transform_query=False leaves queries"):
        AdapterEmbeddingModel(CountingEmbedding(), path, transform_query=False)


def test_a_text_without_a_vector_stays_at_zero(tmp_path):
    blank = CountingEmbedding(answer=lambda texts, vectors: [[0.0] * DIM for _ in texts])
    assert halved(tmp_path / "one", blank).get_text_embedding("") == [0.0] * SMALL
