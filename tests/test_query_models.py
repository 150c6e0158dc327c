"""Queries of several models, or of another than the index's, from training to serving."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.schema import TextNode

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    compare_adapters,
    evaluate,
    read_index,
)
from llama_index_adapters.adapters.disk.read import read_adapter
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidOptionError,
    ModelMismatchError,
)
from llama_index_adapters.retrieval.query_blocks import QueryBlock, block_of, side_by_side
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.query_models import QueryModels
from tests.fakes import CountingEmbedding

TOPICS = 60
LATENT = 12


class TopicEmbedding(CountingEmbedding):
    """Sees the topic of a text through a map of its own, and noise of its own.

    ``blind`` of the topic's directions are hidden from it, so that two models know more than one.
    """

    seed: int = 0
    blind: int = 0
    noise: float = 0.25
    fails: bool = False

    def vector(self, text: str) -> list[float]:
        if self.fails:
            raise RuntimeError("the service is gone")
        topic = int(re.search(r"\d+", text).group())
        latent = np.random.default_rng(topic).standard_normal(LATENT)
        latent[self.seed % 2 * self.blind : (self.seed % 2 + 1) * self.blind] = 0
        mapping = np.random.default_rng(1000 + self.seed).standard_normal((self.dimension, LATENT))
        own = np.asarray(super().vector(f"{self.seed} {text}"))
        return (mapping @ latent + self.noise * np.sqrt(LATENT) * own).tolist()


def base_model(**fields):
    return TopicEmbedding(model_name="old", dimension=16, blind=4, **fields)


def other_model(**fields):
    return TopicEmbedding(**{"model_name": "new", "dimension": 24, "seed": 1, "blind": 4, **fields})


def questions(start: int = 0, per_topic: int = 3) -> EmbeddingQAFinetuneDataset:
    topics = range(TOPICS)
    queries = {
        f"q{topic}-{number}": f"what is {topic}? ({number})"
        for topic in topics
        for number in range(start, start + per_topic)
    }
    corpus = {f"n{topic}": f"{topic} is this" for topic in topics}
    return EmbeddingQAFinetuneDataset(
        queries=queries,
        corpus=corpus,
        relevant_docs={query: [f"n{query[1:].split('-')[0]}"] for query in queries},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(folder: Path, name: str, embed_model, query_embed_models, **options):
    engine = EmbeddingAdapterFinetuneEngine(
        questions(),
        embed_model,
        query_embed_models=query_embed_models,
        model_output_path=folder / name,
        store=folder / "store.sqlite",
        show_progress=False,
        epochs=4,
        **options,
    )
    return engine, engine.finetune()


@pytest.fixture(scope="module")
def both(folder):
    models = [base_model(), other_model()]
    engine, result = trained(folder, "both", models[0], models)
    return engine.get_finetuned_model(), result


@pytest.fixture(scope="module")
def alone(folder):
    """The result of the index's own model alone, saved as ``alone``."""
    return trained(folder, "alone", base_model(), None)[1]


@pytest.fixture(scope="module")
def gone(folder, index_of_gone_model):
    """The model and result of another model, whose index was read without its own."""
    corpus = read_index(
        index_of_gone_model, check_model=False, show_progress=False, directory=folder
    )
    other = other_model()
    train = corpus.dataset(questions(), query_embed_models=[other], store=folder / "store.sqlite")
    engine = EmbeddingAdapterFinetuneEngine(
        train,
        None,
        query_embed_models=[other],
        model_output_path=folder / "gone",
        show_progress=False,
        epochs=4,
    )
    result = engine.finetune()
    return engine.get_finetuned_model(), result


@pytest.fixture(scope="module")
def index_of_gone_model():
    nodes = [TextNode(id_=id_, text=text) for id_, text in questions().corpus.items()]
    return VectorStoreIndex(nodes, embed_model=base_model())


def opened(path, models):
    """An adapter with models of other settings than those of its training."""
    return AdapterEmbeddingModel(models[0], path, query_embed_models=models, check_model_name=False)


def measured(model, folder):
    return evaluate(model, questions(start=10), store=folder / "store.sqlite", show_progress=False)


class TestSideBySide:
    def test_a_block_is_the_model_s_own_vector(self):
        rng = np.random.default_rng(0)
        old, new = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(5, 3))
        lengths = np.linalg.norm(old, axis=1)
        rows = side_by_side([old, new.astype(np.float32)], lengths)
        blocks = (QueryBlock(4), QueryBlock(3, "other"))
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), lengths, rtol=1e-6)
        np.testing.assert_allclose(block_of(rows, blocks, 0), old, rtol=1e-5)

    def test_what_is_base_follows_from_the_model_and_not_from_dimensions(self):
        passages = np.eye(4, dtype=np.float32)
        relevance = Relevance.from_rows([[row] for row in range(4)])
        unsaid = VectorDataset(passages, passages, relevance)
        np.testing.assert_array_equal(unsaid.base_queries, passages)
        other = VectorDataset(passages, passages, relevance, blocks=(QueryBlock(4, "other"),))
        assert other.base_queries is None


class TestTraining:
    def test_both_models_beat_one(self, folder, both, alone):
        model, result = both
        assert result.base == pytest.approx(alone.base)  # the index's own model, in both
        single = AdapterEmbeddingModel(base_model(), folder / "alone")
        gained = measured(model, folder).comparison.adapted["ndcg@10"]
        assert gained > measured(single, folder).comparison.adapted["ndcg@10"]

    def test_another_model_samples_the_passages_and_embeds_queries(self, folder):
        models = [base_model(), other_model()]
        engine = EmbeddingAdapterFinetuneEngine(
            questions(per_topic=2),
            models[0],
            query_embed_models=models,
            model_output_path=folder / "counted",
            store=folder / "fresh.sqlite",
            show_progress=False,
            adapter="linear",
            epochs=1,
        )
        engine.finetune()
        for model in models:
            asked = Counter((kind, text) for kind, texts in model.calls for text in texts)
            assert max(asked.values()) == 1
            assert set(model.texts) >= set(questions(per_topic=2).queries.values())

    @pytest.mark.parametrize("name", ["linear", "two-layer"])
    def test_one_adapter_starts_as_the_map_without_labels(self, folder, index_of_gone_model, name):
        """Also where both models have as many dimensions: equal numbers do not make one space."""
        for other in (other_model(), other_model(dimension=16)):
            corpus = read_index(index_of_gone_model, check_model=False, show_progress=False)
            engine = EmbeddingAdapterFinetuneEngine(
                corpus.dataset(questions(), query_embed_models=[other], store=folder / "store.db"),
                None,
                query_embed_models=[other],
                model_output_path=folder / "started",
                show_progress=False,
                adapter=name,
                epochs=1,
            )
            if name == "two-layer" and other.dimension == 16:
                with pytest.raises(InvalidOptionError, match="adds to the query's own vector"):
                    engine.finetune()
            else:
                result = engine.finetune()
                assert result.history[0].validation > 0.5  # by chance 0.1

    def test_an_index_whose_model_is_gone(self, gone, index_of_gone_model):
        model, result = gone
        assert result.base["ndcg@10"] > 0.3  # the map without labels; chance is 0.08
        assert result.adapted["ndcg@10"] >= result.base["ndcg@10"]
        assert model.base_embed_model is None
        retriever = index_of_gone_model.as_retriever(embed_model=model, similarity_top_k=3)
        found = [
            {hit.node.node_id for hit in retriever.retrieve(f"what is {topic}? (20)")}
            for topic in range(TOPICS)
        ]
        hits = [f"n{topic}" in ids for topic, ids in enumerate(found)]
        assert np.mean(hits) > 0.5

    def test_a_result_of_another_model_has_the_length_of_the_passages(self, folder, gone):
        """So that a dot product and a cutoff stay in their range."""
        model = AdapterEmbeddingModel(None, folder / "gone", query_embed_models=[other_model()])
        length = read_adapter(folder / "gone").config.queries.result_length
        assert np.linalg.norm(model.get_query_embedding("what is 3?")) == pytest.approx(length)
        passages = [base_model().vector(text) for text in questions().corpus.values()]
        assert length == pytest.approx(np.median(np.linalg.norm(passages, axis=1)), rel=1e-4)

    def test_vectors_of_other_models_are_refused(self, folder, index_of_gone_model):
        corpus = read_index(
            index_of_gone_model, base_model(), show_progress=False, directory=folder
        )
        train = corpus.dataset(questions(), store=folder / "store.sqlite", show_progress=False)
        models = [base_model(), other_model()]
        with pytest.raises(ModelMismatchError, match=r"query_embed_models=\[...\]"):
            EmbeddingAdapterFinetuneEngine(train, models[0], query_embed_models=models)
        turned = corpus.dataset(
            questions(), query_embed_models=models[::-1], store=folder / "store.sqlite"
        )
        with pytest.raises(ModelMismatchError, match="in this order"):
            EmbeddingAdapterFinetuneEngine(turned, models[0], query_embed_models=models)


class TestServing:
    def test_one_and_asynchronous_and_many_agree(self, both, folder):
        model, _ = both
        texts = ["what is 5? (7)", "what is 9? (7)"]
        one = np.array([model.get_query_embedding(text) for text in texts])
        again = np.array([asyncio.run(model.aget_query_embedding(text)) for text in texts])
        np.testing.assert_array_equal(one, again)
        vectors = [
            np.array([m.vector(text) for text in texts], np.float32)
            for m in model.query_embed_models
        ]
        rows = side_by_side(vectors, np.linalg.norm(vectors[0], axis=1))
        np.testing.assert_allclose(model.transform_queries(rows), one, rtol=2e-5)
        np.testing.assert_allclose(
            np.linalg.norm(one, axis=1), np.linalg.norm(vectors[0], axis=1), rtol=1e-5
        )

    def test_the_asynchronous_method_asks_all_at_once(self, both, folder):
        started, release = [], asyncio.Event()

        class Waiting(TopicEmbedding):
            async def _aget_query_embedding(self, query):
                started.append(self.model_name)
                if len(started) == 2:
                    release.set()
                await release.wait()
                return self._get_query_embedding(query)

        models = [
            Waiting(model_name="old", dimension=16, blind=4),
            Waiting(model_name="new", dimension=24, seed=1, blind=4),
        ]
        model = opened(folder / "both", models)
        asyncio.run(asyncio.wait_for(model.aget_query_embedding("what is 3?"), 20))
        assert started == ["old", "new"]

    def test_texts_go_to_the_index_s_model_alone(self, both):
        model, _ = both
        before = len(model.query_embed_models[1].calls)
        assert model.get_text_embedding("4 is this") == model.base_embed_model.vector("4 is this")
        assert len(model.query_embed_models[1].calls) == before

    def test_without_a_base_there_are_no_texts_and_no_untransformed_queries(self, folder, gone):
        model = AdapterEmbeddingModel(None, folder / "gone", query_embed_models=[other_model()])
        with pytest.raises(InvalidOptionError, match="texts cannot be embedded"):
            model.get_text_embedding("4 is this")
        with pytest.raises(InvalidOptionError, match="transform_query=False"):
            AdapterEmbeddingModel(
                None, folder / "gone", query_embed_models=[other_model()], transform_query=False
            )

    @pytest.mark.parametrize("ask", ["one", "asynchronous"])
    def test_a_model_that_fails_is_named(self, folder, both, ask):
        models = [base_model(), other_model(fails=True)]
        model = opened(folder / "both", models)
        message = r"new failed .*RuntimeError.* beside old"

        def asked():
            if ask == "one":
                return model.get_query_embedding("what is 3?")
            return asyncio.run(model.aget_query_embedding("what is 3?"))

        with pytest.raises(EmbeddingError, match=message) as error:
            asked()
        assert "gone" in str(error.value.__cause__)

    def test_other_models_or_another_order_are_refused(self, folder, both, subtests):
        old, new = base_model(), other_model()
        third = TopicEmbedding(model_name="third", dimension=24)
        for name, base, models, message in (
            ("none", old, None, r"takes the query vectors of old .*given is base_embed_model"),
            ("order", old, [new, old], "in this order"),
            ("missing", old, [old], "given is base_embed_model alone"),
            ("another", old, [old, third], "trained on 'new'"),
            ("no base", None, [old, new], "none of them the index's own"),
        ):
            with (
                subtests.test(name),
                pytest.raises(ModelMismatchError, match=message),
            ):
                AdapterEmbeddingModel(base, folder / "both", query_embed_models=models)

    def test_copies_and_pickles_give_the_same(self, both):
        model, _ = both
        expected = model.get_query_embedding("what is 3?")
        for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert made.get_query_embedding("what is 3?") == expected
            assert made.fingerprint == model.fingerprint
        rebuilt = AdapterEmbeddingModel.from_dict(
            model.to_dict(),
            base_embed_model=model.base_embed_model,
            query_embed_models=list(model.query_embed_models),
        )
        assert rebuilt.get_query_embedding("what is 3?") == expected
        assert "query_embed_models" not in model.to_dict()

    def test_each_model_s_tokens_are_counted_once(self, folder, both):
        counter = TokenCountingHandler(tokenizer=str.split)
        manager = CallbackManager([counter])
        models = [base_model(callback_manager=manager), other_model()]
        model = AdapterEmbeddingModel(
            models[0], folder / "both", query_embed_models=models, callback_manager=manager
        )
        model.get_query_embedding("what is 3?")
        assert counter.total_embedding_token_count == 2 * 3

    def test_the_card_shows_how_to_open_it(self, folder, both, gone):
        for name, call in (
            ("both", "(base_embed_model, .*, query_embed_models=[base_embed_model, other])"),
            ("gone", "(None, .*, query_embed_models=[other])"),
        ):
            card = (folder / name / "README.md").read_text()
            before, _, after = call.partition(".*")
            line = next(line for line in card.splitlines() if before in line)
            assert line.endswith(after)
            assert "`other` is new" in card

    def test_fingerprints_tell_models_apart(self, folder, both):
        models = [base_model(), other_model(noise=0.5)]
        changed = opened(folder / "both", models)
        assert changed.fingerprint != both[0].fingerprint


def test_evaluation_embeds_queries_with_each_model(both, alone, folder):
    found = measured(both[0], folder)
    single = evaluate(
        AdapterEmbeddingModel(base_model(), folder / "alone"),
        questions(start=10),
        store=folder / "store.sqlite",
        show_progress=False,
    )
    assert found.comparison.base == single.comparison.base
    replacement = compare_adapters(
        AdapterEmbeddingModel(base_model(), folder / "alone"),
        both[0],
        questions(start=10),
        store=folder / "store.sqlite",
        show_progress=False,
    )
    assert replacement.comparison.base == single.comparison.adapted
    assert replacement.comparison.adapted == found.comparison.adapted


class TestNames:
    def test_the_base_alone(self):
        base = base_model()
        assert QueryModels.of(base).is_base_alone
        assert QueryModels.of(base, [base_model()]).is_base_alone  # the same settings

    def test_what_cannot_be_asked(self, subtests):
        base = base_model()
        for given, message in (
            (other_model(), "give a list of"),
            ([], "is empty"),
            ([base, base_model()], "names old twice"),
            (["local"], "expected a LlamaIndex embedding"),
        ):
            with subtests.test(message), pytest.raises(InvalidOptionError, match=message):
                QueryModels.of(base, given)
