"""The wrapper as LlamaIndex uses it: queries adapted, everything else the base model's."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_index.core import Settings, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingStartEvent
from llama_index.core.rate_limiter import BaseRateLimiter, TokenBucketRateLimiter
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.embeddings.openai import OpenAIEmbedding

import llama_index_adapters
from llama_index_adapters import AdapterEmbeddingModel, LinearAdapterEmbeddingModel
from llama_index_adapters.adapters.disk.config import QueryModel
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter, LinearLayer
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidAdapterError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    ModelMismatchError,
    UnknownOptionError,
)
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.vectors.identity import IdentifiedModel
from tests.fakes import AsyncEmbedding, CountingEmbedding

DIM = 8
TEXTS = [f"text {number}" for number in range(11)]


class Flip(BaseAdapter):
    """A user's own adapter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.signs = torch.nn.Parameter(-torch.ones(dim))

    def forward(self, embed):
        return embed * self.signs

    def get_config_dict(self):
        return {"dim": len(self.signs)}


class CountingLimiter(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, num_tokens: int = 0) -> None:
        self.acquired += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.acquired += 1


def randomised(adapter: BaseAdapter, seed: int = 0) -> BaseAdapter:
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return adapter


def save(
    path: Path,
    adapter: BaseAdapter | None = None,
    base_model: str | None = None,
    base_model_identity: str | None = None,
) -> Path:
    adapter = adapter or randomised(LinearAdapter(DIM))
    model = QueryModel(name=base_model, identity=base_model_identity)
    save_adapter(path, adapter, metadata=AdapterMetadata(query_models=(model,)))
    return path


def expected(base: CountingEmbedding, path: Path, query: str) -> np.ndarray:
    """The adapted query, computed without the wrapper."""
    saved = load_saved(path)
    vector = np.array([base.vector(query)], dtype=np.float32)
    return adapt(saved.transform, vector, unit_input=saved.unit_input)[0]


def nodes() -> list[TextNode]:
    return [TextNode(id_=text, text=text) for text in TEXTS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "adapter", base_model="counting")


@pytest.fixture
def base() -> CountingEmbedding:
    return CountingEmbedding(embed_batch_size=4)


@pytest.fixture
def model(base: CountingEmbedding, path: Path) -> AdapterEmbeddingModel:
    return AdapterEmbeddingModel(base, path)


class TestQueries:
    def test_are_adapted_and_keep_their_length(self, model, base, path):
        found = model.get_query_embedding("q")
        assert isinstance(found, list)
        assert {type(value) for value in found} == {float}
        np.testing.assert_allclose(found, expected(base, path, "q"), rtol=1e-5)
        assert not np.allclose(found, base.vector("q"), atol=0.1)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(base.vector("q")), rel=1e-5)
        assert base.calls == [("query", ["q"])]

    async def test_async(self, model, base):
        assert await model.aget_query_embedding("q") == model.get_query_embedding("q")

    async def test_async_calls_wait_for_the_model_s_async_calls(self, path):
        class Service(CountingEmbedding):
            def respond(self, kind, texts):
                raise AssertionError("a blocking call in the event loop")

            async def _aget_query_embedding(self, query):
                return self.vector(query)

            _aget_text_embedding = _aget_query_embedding

            async def _aget_text_embeddings(self, texts):
                return [self.vector(text) for text in texts]

        base = CountingEmbedding()
        model = AdapterEmbeddingModel(Service(), path)
        np.testing.assert_allclose(
            await model.aget_query_embedding("q"), expected(base, path, "q"), rtol=1e-5
        )
        assert await model.aget_text_embedding("t") == base.vector("t")
        assert await model.aget_text_embedding_batch(["t"]) == [base.vector("t")]

    async def test_many_async_queries_wait_for_the_model_together(self, path):
        class Service(CountingEmbedding):
            async def _aget_query_embedding(self, query):
                waiting.append(query)
                if len(waiting) == 20:
                    ready.set()
                await ready.wait()
                return self.vector(query)

        waiting, ready = [], asyncio.Event()
        model = AdapterEmbeddingModel(Service(), path)
        queries = [f"q{number}" for number in range(20)]
        found = await asyncio.wait_for(
            asyncio.gather(*(model.aget_query_embedding(query) for query in queries)), 20
        )
        for query, vector in zip(queries, found, strict=True):
            np.testing.assert_allclose(
                vector, expected(CountingEmbedding(), path, query), rtol=1e-5
            )

    def test_aggregates_go_through_the_adapter(self, model, base, path):
        found = model.get_agg_embedding_from_queries(["a", "b"])
        mean = (expected(base, path, "a") + expected(base, path, "b")) / 2
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)

    def test_pass_through_with_transform_query_false(self, base, path):
        model = AdapterEmbeddingModel(base, path, transform_query=False)
        assert model.get_query_embedding("q") == base.vector("q")
        vectors = np.ones((2, DIM), np.float32)
        np.testing.assert_array_equal(model.transform_queries(vectors), vectors)

    def test_the_identity_changes_no_bit(self, base, tmp_path):
        model = AdapterEmbeddingModel(base, save(tmp_path / "a", IdentityAdapter(DIM)))
        assert model.get_query_embedding("q") == base.vector("q")
        vectors = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)
        np.testing.assert_array_equal(model.transform_queries(vectors), vectors)

    @pytest.mark.parametrize("unit_input", [True, False])
    def test_many_vectors_at_once(self, base, path, unit_input):
        adapter = randomised(LinearAdapter(DIM, bias=True))
        adapter.unit_input = unit_input
        save_adapter(path, adapter)
        model = AdapterEmbeddingModel(base, path)
        queries = ["a", "b", "c"]
        found = model.transform_queries([base.vector(query) for query in queries])
        assert found.dtype == np.float32
        single = [model.get_query_embedding(query) for query in queries]
        np.testing.assert_allclose(found, single, rtol=1e-4, atol=1e-6)
        with pytest.raises(InvalidVectorsError, match="NaN"):
            model.transform_queries([[np.nan] * DIM])
        with pytest.raises(ModelMismatchError, match="8 dimensions, but 'counting' gave one of 3"):
            model.transform_queries([[1.0, 2.0, 3.0]])

    def test_another_passage_dimension(self, base, tmp_path):
        adapter = randomised(TwoLayerAdapter(DIM, out_features=5))
        model = AdapterEmbeddingModel(base, save(tmp_path / "a", adapter))
        found = model.get_query_embedding("q")
        assert len(found) == 5
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(base.vector("q")), rel=1e-5)
        assert len(model.get_text_embedding("t")) == DIM

    def test_an_adapter_of_one_s_own(self, base, tmp_path):
        path = save(tmp_path / "a", Flip(DIM))
        with pytest.raises(InvalidAdapterError, match=r"\(Flip\).*pass it as adapter_cls"):
            AdapterEmbeddingModel(base, path)
        model = AdapterEmbeddingModel(base, path, Flip, device="cpu")
        np.testing.assert_allclose(
            model.get_query_embedding("q"), -np.array(base.vector("q")), rtol=1e-5
        )
        assert type(pickle.loads(pickle.dumps(model))) is AdapterEmbeddingModel

    @pytest.mark.filterwarnings("ignore:overflow")
    def test_something_that_is_not_a_vector(self, path, subtests):
        for answer in (
            None,
            ["a"] * DIM,
            [[1.0] * DIM],
            [float("nan")] * DIM,
            [float("inf")] * DIM,
            [1e30] * DIM,
            3.0,
        ):
            with subtests.test(answer=answer):

                class Raw(CountingEmbedding):
                    def get_query_embedding(self, query, answer=answer):
                        return answer

                model = AdapterEmbeddingModel(Raw(), path)
                with pytest.raises((EmbeddingError, ModelMismatchError), match=r"counting.* gave"):
                    model.get_query_embedding("q")

    @pytest.mark.parametrize("kind", [np.float32, np.float64])
    def test_a_model_that_gives_numpy(self, base, path, kind):
        class Numpy(CountingEmbedding):
            def get_query_embedding(self, query):
                return np.array(self.vector(query), dtype=kind)

        found = AdapterEmbeddingModel(Numpy(), path).get_query_embedding("q")
        assert {type(value) for value in found} == {float}
        np.testing.assert_allclose(found, expected(base, path, "q"), rtol=1e-5)

    def test_zero_is_refused(self, path):
        base = CountingEmbedding(answer=lambda texts, vectors: [[0.0] * DIM])
        model = AdapterEmbeddingModel(base, path)
        for served in (
            lambda: model.get_query_embedding("q"),
            lambda: model.transform_queries(np.zeros((2, DIM), np.float32)),
        ):
            with pytest.raises(EmbeddingError, match="gave a query vector that is zero, or"):
                served()

    def test_an_adapter_that_gives_zero_is_refused(self, tmp_path):
        adapter = LinearAdapter(DIM)
        torch.nn.init.zeros_(adapter.linear.weight)
        adapter.save(tmp_path / "zero")
        model = AdapterEmbeddingModel(CountingEmbedding(), tmp_path / "zero")
        for served in (
            lambda: model.get_query_embedding("q"),
            lambda: model.transform_queries(np.ones((2, DIM), np.float32)),
        ):
            with pytest.raises(InvalidAdapterError, match="one that is zero or not finite"):
                served()


class TestTexts:
    def test_pass_through(self, model, base):
        assert model.get_text_embedding("t") == base.vector("t")
        assert model.get_text_embedding_batch(TEXTS) == [base.vector(text) for text in TEXTS]

    async def test_pass_through_async(self, path):
        base = AsyncEmbedding(embed_batch_size=4)
        model = AdapterEmbeddingModel(base, path)
        assert await model.aget_text_embedding("t") == base.vector("t")
        found = await model.aget_text_embedding_batch(TEXTS)
        assert found == [base.vector(text) for text in TEXTS]
        assert [len(texts) for kind, texts in base.calls if kind == "batch"] == [4, 4, 3]

    @pytest.mark.parametrize("wanted", [None, 1, 10])
    def test_in_the_base_s_batches(self, base, path, wanted):
        model = AdapterEmbeddingModel(base, path, embed_batch_size=wanted)
        model.get_text_embedding_batch(TEXTS)
        assert [len(texts) for _, texts in base.calls] == [4, 4, 3]
        assert base.texts == TEXTS

    def test_a_batch_size_that_cannot_be(self, base, path, subtests):
        for wanted in (0, -1, 4096, "10", True):
            with (
                subtests.test(wanted=wanted),
                pytest.raises(InvalidOptionError, match=r"embed_batch_size is .*from 1 to 2,048"),
            ):
                AdapterEmbeddingModel(base, path, embed_batch_size=wanted)

    @pytest.mark.parametrize(("own", "expected"), [(None, 2), (1, 1), (5, 5)])
    async def test_concurrency_is_the_base_s_or_its_own(self, path, own, expected):
        class Service(CountingEmbedding):
            async def _aget_text_embeddings(self, texts):
                under_way.append(1)
                most.append(sum(under_way))
                await asyncio.sleep(0)
                under_way.append(-1)
                return self.respond("batch", texts)

        under_way, most = [], []
        base = Service(embed_batch_size=1, num_workers=2)
        model = AdapterEmbeddingModel(base, path, num_workers=own)
        assert await model.aget_text_embedding_batch(TEXTS) == [base.vector(t) for t in TEXTS]
        assert max(most) == expected


class TestInLlamaIndex:
    def test_an_existing_index_is_searched_with_adapted_queries(self, base, model, path):
        index = VectorStoreIndex(nodes(), embed_model=base)
        before = copy.deepcopy(index.vector_store.data.embedding_dict)
        requests = len(base.calls)
        bundle = QueryBundle("which?")
        found = index.as_retriever(embed_model=model, similarity_top_k=3).retrieve(bundle)
        assert base.calls[requests:] == [("query", ["which?"])]
        np.testing.assert_allclose(bundle.embedding, expected(base, path, "which?"), rtol=1e-5)

        passages = np.array([base.vector(text) for text in TEXTS])
        scores = passages @ expected(base, path, "which?") / np.linalg.norm(passages, axis=1)
        best = np.argsort(-scores)[:3]
        assert [node.node_id for node in found] == [TEXTS[row] for row in best]
        plain = index.as_retriever(similarity_top_k=3).retrieve(QueryBundle("which?"))
        assert [node.node_id for node in plain] != [node.node_id for node in found]
        assert index.vector_store.data.embedding_dict == before

    async def test_async_retrieval(self, base, model):
        index = VectorStoreIndex(nodes(), embed_model=base)
        retriever = index.as_retriever(embed_model=model)
        sync = retriever.retrieve(QueryBundle("which?"))
        later = await retriever.aretrieve(QueryBundle("which?"))
        assert [(n.node_id, n.score) for n in sync] == [(n.node_id, n.score) for n in later]

    def test_a_stored_index_is_loaded_and_extended_with_it(self, base, model, tmp_path):
        VectorStoreIndex(nodes(), embed_model=base).storage_context.persist(tmp_path / "index")
        del base.calls[:]
        context = StorageContext.from_defaults(persist_dir=str(tmp_path / "index"))
        index = load_index_from_storage(context, embed_model=model)
        assert base.calls == []
        index.insert_nodes([TextNode(id_="new", text="new")])
        assert index.vector_store.data.embedding_dict["new"] == base.vector("new")

    @pytest.mark.parametrize("use_async", [False, True])
    def test_building_an_index_takes_as_many_requests_as_the_base_alone(self, path, use_async):
        def requests(wrap):
            base = AsyncEmbedding(embed_batch_size=4)
            model = AdapterEmbeddingModel(base, path) if wrap else base
            index = VectorStoreIndex(nodes(), embed_model=model, use_async=use_async)
            return base.calls, index.vector_store.data.embedding_dict

        assert requests(wrap=True) == requests(wrap=False)
        assert [len(texts) for _, texts in requests(wrap=True)[0]] == [4, 4, 3]

    def test_callbacks_of_the_index_and_of_the_base(self, base, model):
        inner, outer = (
            LlamaDebugHandler(print_trace_on_end=False),
            LlamaDebugHandler(print_trace_on_end=False),
        )
        base.callback_manager = CallbackManager([inner])
        index = VectorStoreIndex(
            nodes(), embed_model=model, callback_manager=CallbackManager([outer])
        )
        index.as_retriever().retrieve("which?")
        for handler in (inner, outer):
            pairs = handler.get_event_pairs(CBEventType.EMBEDDING)
            assert len(pairs) == 4
            assert pairs[-1][1].payload["chunks"] == ["which?"]

    def test_an_empty_model_is_not_taken_for_none(self, model):
        assert bool(model)
        assert not hasattr(model, "__len__")


class TestBaseFeatures:
    def test_the_base_s_cache_is_used(self, base, path):
        base.embeddings_cache = SimpleKVStore()
        model = AdapterEmbeddingModel(base, path)
        first = model.get_query_embedding("q")
        assert model.get_query_embedding("q") == first
        assert base.calls == [("query", ["q"])]
        np.testing.assert_allclose(first, expected(base, path, "q"), rtol=1e-5)
        model.get_text_embedding_batch(TEXTS)
        model.get_text_embedding_batch(TEXTS)
        assert len(base.texts) == 1 + len(TEXTS)

    def test_a_cache_of_its_own_is_refused(self, model):
        with pytest.raises(InvalidOptionError, match="Set it on the base model"):
            model.embeddings_cache = SimpleKVStore()
        assert model.embeddings_cache is None
        model.embeddings_cache = None

    async def test_the_base_s_rate_limiter_is_asked_once_a_request(self, path):
        base = AsyncEmbedding(embed_batch_size=4, rate_limiter=CountingLimiter())
        model = AdapterEmbeddingModel(base, path)
        model.get_query_embedding("q")
        await model.aget_query_embedding("q")
        model.get_text_embedding("t")
        await model.aget_text_embedding("t")
        assert base.rate_limiter.acquired == 4
        model.get_text_embedding_batch(TEXTS)
        await model.aget_text_embedding_batch(TEXTS)
        assert base.rate_limiter.acquired == 10

    def test_payloads_name_the_base_model_and_hold_no_key(self, path):
        class Service(CountingEmbedding):
            api_key: str = "sk-secret"

        class Handler(BaseEventHandler):
            def handle(self, event, **kwargs):
                if isinstance(event, EmbeddingStartEvent):
                    payloads.append(event.model_dict)

        payloads: list[dict[str, Any]] = []
        dispatcher, handler = get_dispatcher(), Handler()
        dispatcher.add_event_handler(handler)
        try:
            AdapterEmbeddingModel(Service(), path).get_query_embedding("q")
        finally:
            dispatcher.event_handlers.remove(handler)
        assert [payload["model_name"] for payload in payloads] == ["counting"]
        assert "secret" not in json.dumps(payloads)


class TestFingerprint:
    def test_tells_apart_what_gives_other_vectors(self, base, path, tmp_path):
        other = save(tmp_path / "other", randomised(LinearAdapter(DIM), seed=1))
        custom = save(tmp_path / "custom", Flip(DIM))

        class FlipTwice(Flip):
            pass

        models = [
            AdapterEmbeddingModel(base, path),
            AdapterEmbeddingModel(base, other),
            AdapterEmbeddingModel(base, path, transform_query=False),
            AdapterEmbeddingModel(CountingEmbedding(query_instruction="Q: "), path),
            AdapterEmbeddingModel(base, custom, Flip),
            AdapterEmbeddingModel(base, custom, FlipTwice),
        ]
        assert len({model.fingerprint for model in models}) == len(models)
        assert len({IdentifiedModel(model).identity for model in models}) == len(models)

    def test_is_the_same_for_the_same(self, model, path, tmp_path):
        moved = path.rename(tmp_path / "moved")
        again = AdapterEmbeddingModel(CountingEmbedding(embed_batch_size=7), moved)
        assert again.fingerprint == model.fingerprint
        assert IdentifiedModel(again).identity == IdentifiedModel(model).identity

    def test_cannot_be_changed_by_hand(self, model):
        for name in ("fingerprint", "transform_query", "adapter_path", "base_embed_model"):
            with pytest.raises(ValueError, match="frozen"):
                setattr(model, name, getattr(model, name))

    def test_two_adapters_share_no_ingestion_cache_entry(self, base, path):
        cache = IngestionCache()

        def ingest(model):
            pipeline = IngestionPipeline(transformations=[model], cache=cache)
            return pipeline.run(nodes=[TextNode(id_="a", text="a")])

        ingest(AdapterEmbeddingModel(base, path))
        ingest(AdapterEmbeddingModel(base, path))
        assert len(base.calls) == 1
        save(path, randomised(LinearAdapter(DIM), seed=1))
        found = ingest(AdapterEmbeddingModel(base, path))
        assert len(base.calls) == 2
        assert found[0].embedding == base.vector("a")


class TestCopies:
    @pytest.mark.parametrize("transform_query", [True, False])
    def test_answer_as_the_original(self, base, path, transform_query):
        model = AdapterEmbeddingModel(base, path, transform_query=transform_query)
        copies = (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model))
        for copied in copies:
            assert copied.get_query_embedding("q") == model.get_query_embedding("q")
            assert copied.get_text_embedding_batch(TEXTS) == model.get_text_embedding_batch(TEXTS)
            assert copied.to_dict() == model.to_dict()

    def test_a_pickle_needs_no_directory(self, model, path):
        first, pickled = model.get_query_embedding("q"), pickle.dumps(model)
        for file in path.iterdir():
            file.unlink()
        assert pickle.loads(pickled).get_query_embedding("q") == first

    def test_a_model_in_use_can_be_copied(self, tmp_path):
        base = OpenAIEmbedding(
            api_key="sk-secret", rate_limiter=TokenBucketRateLimiter(requests_per_minute=9)
        )
        base._get_client()
        path = save(tmp_path / "a", LinearAdapter(1536), base_model=base.model_name)
        handler = LlamaDebugHandler(print_trace_on_end=False)
        model = AdapterEmbeddingModel(base, path, callback_manager=CallbackManager([handler]))
        model.rate_limiter = base.rate_limiter
        pickled = pickle.loads(pickle.dumps(model))
        assert pickled.base_embed_model.api_key == "sk-secret"
        assert pickled.fingerprint == model.fingerprint
        assert pickled.callback_manager.handlers == []
        copied = copy.deepcopy(model)
        assert copied.base_embed_model is base
        # What pickle cannot hold is still there in the living objects.
        assert base.rate_limiter is model.rate_limiter is not None
        assert base._client is not None
        assert model.callback_manager.handlers == [handler]

    def test_a_handler_in_settings_does_not_travel(self, base, path, monkeypatch):
        handler = LlamaDebugHandler(print_trace_on_end=False)
        handler.lock = threading.Lock()  # which no pickle holds
        monkeypatch.setattr(Settings, "_callback_manager", CallbackManager([handler]))
        model = AdapterEmbeddingModel(base, path)
        assert model.callback_manager.handlers == [handler]
        pickled = pickle.dumps(model)
        monkeypatch.undo()
        assert pickle.loads(pickled).callback_manager.handlers == []

    def test_pipelines_run_it_in_other_processes(self, base, path):
        pipeline = IngestionPipeline(
            transformations=[AdapterEmbeddingModel(base, path)], disable_cache=True
        )
        found = pipeline.run(nodes=nodes(), num_workers=2)
        vectors = {node.text: node.embedding for node in found}
        assert vectors == {text: base.vector(text) for text in TEXTS}


class TestDict:
    def test_holds_no_credentials(self, tmp_path):
        base = OpenAIEmbedding(api_key="sk-secret", default_headers={"auth": "sk-secret"})
        model = AdapterEmbeddingModel(base, save(tmp_path / "a", LinearAdapter(1536)))
        for text in (json.dumps(model.to_dict()), model.to_json(), repr(model), str(model)):
            assert "secret" not in text

    def test_round_trip(self, base, model, path):
        for again in (
            AdapterEmbeddingModel.from_dict(model.to_dict(), base_embed_model=base),
            AdapterEmbeddingModel.from_json(model.to_json(), base_embed_model=base),
        ):
            assert again.to_dict() == model.to_dict()
            assert again.get_query_embedding("q") == model.get_query_embedding("q")
        plain = AdapterEmbeddingModel(base, path, transform_query=False, num_workers=3)
        again = AdapterEmbeddingModel.from_dict(plain.to_dict(), base_embed_model=base)
        assert again.to_dict() == plain.to_dict()

    def test_needs_the_base_model(self, model):
        with pytest.raises(InvalidOptionError, match=r"from_dict\(data, base_embed_model="):
            AdapterEmbeddingModel.from_dict(model.to_dict())

    def test_an_unknown_option_names_the_closest(self, base, model):
        with pytest.raises(UnknownOptionError, match="Did you mean 'adapter_cls'"):
            AdapterEmbeddingModel.from_dict(model.to_dict(), base_embed_model=base, adapter_class=1)

    def test_refuses_an_adapter_that_was_replaced(self, base, model, path):
        data = model.to_dict()
        save(path, randomised(LinearAdapter(DIM), seed=1))
        with pytest.raises(ModelMismatchError, match="fingerprints differ"):
            AdapterEmbeddingModel.from_dict(data, base_embed_model=base)
        data.pop("fingerprint")
        AdapterEmbeddingModel.from_dict(data, base_embed_model=base)


class TestBaseModel:
    def test_another_name_is_refused_saying_both(self, path):
        base = CountingEmbedding(model_name="other")
        with pytest.raises(
            ModelMismatchError,
            match=r"trained on 'counting', but the base model is 'other'.*check_model_name=False",
        ):
            AdapterEmbeddingModel(base, path)
        model = AdapterEmbeddingModel(base, path, check_model_name=False)
        assert model.model_name == "Adapter for other"
        assert len(model.get_query_embedding("q")) == DIM

    @pytest.mark.parametrize("check", [True, False])
    def test_another_dimension_is_refused_saying_both(self, path, check):
        base = CountingEmbedding(dimension=5)
        model = AdapterEmbeddingModel(base, path, check_model_name=check)
        with pytest.raises(
            ModelMismatchError,
            match=r"takes query vectors of 8 dimensions, but 'counting' gave one of 5.*'counting'",
        ):
            model.get_query_embedding("q")

    def test_the_identity_minds_the_dimension_too(self, base, tmp_path):
        model = AdapterEmbeddingModel(base, save(tmp_path / "a", IdentityAdapter(5)))
        with pytest.raises(ModelMismatchError, match="of 5 dimensions, but 'counting' gave"):
            model.get_query_embedding("q")

    def test_other_settings_under_the_same_name_are_refused(self, tmp_path, caplog):
        identity = IdentifiedModel(CountingEmbedding()).identity
        path = save(tmp_path / "a", base_model="counting", base_model_identity=identity)
        changed = CountingEmbedding(query_instruction="Q: ")
        with caplog.at_level(logging.WARNING):
            AdapterEmbeddingModel(CountingEmbedding(embed_batch_size=3), path)
            with pytest.raises(ModelMismatchError, match="with other settings"):
                AdapterEmbeddingModel(changed, path)
            AdapterEmbeddingModel(changed, path, check_model_name=False)
            assert not caplog.records
            by_earlier_rules = save(
                tmp_path / "b", base_model="counting", base_model_identity="0" * 64
            )
            AdapterEmbeddingModel(changed, by_earlier_rules)
        assert "by earlier rules" in caplog.text

    def test_nothing_to_compare_with(self, tmp_path):
        AdapterEmbeddingModel(CountingEmbedding(model_name="any"), save(tmp_path / "a"))

    def test_something_that_is_no_model(self, path, subtests):
        for given, message in (
            ("local", "expected a LlamaIndex embedding"),
            (object(), "expected a LlamaIndex embedding"),
            (None, "nothing embeds queries"),
        ):
            with (
                subtests.test(given=given),
                pytest.raises(InvalidOptionError, match=message),
            ):
                AdapterEmbeddingModel(given, path)

    def test_no_adapter(self, base, tmp_path):
        with pytest.raises(MissingFileError, match="expected the directory of a saved adapter"):
            AdapterEmbeddingModel(base, tmp_path / "gone")

    def test_adapters_can_be_stacked(self, model, path, base, tmp_path):
        label = "Adapter for counting"
        second = save(tmp_path / "b", randomised(LinearAdapter(DIM), 5), base_model=label)
        stacked = AdapterEmbeddingModel(model, second)
        inner = model.get_query_embedding("q")
        np.testing.assert_allclose(
            stacked.get_query_embedding("q"),
            AdapterEmbeddingModel(base, second, check_model_name=False).transform_queries([inner])[
                0
            ],
            rtol=1e-4,
        )


class TestLlamaIndexNames:
    def test_classes(self):
        assert LinearAdapterEmbeddingModel is AdapterEmbeddingModel
        assert llama_index_adapters.LinearLayer is LinearAdapter
        assert AdapterEmbeddingModel.class_name() == "AdapterEmbeddingModel"

    def test_positional_arguments_in_llamaindex_s_order(self, base, path):
        manager = CallbackManager([])
        model = LinearAdapterEmbeddingModel(base, str(path), LinearLayer, True, "cpu", 4, manager)
        assert model.model_name == "Adapter for counting"
        assert model.callback_manager is manager

    @pytest.mark.parametrize("cls", [LinearLayer, TwoLayerNN, None])
    def test_directories_it_wrote(self, base, tmp_path, cls):
        adapter = TwoLayerNN(DIM, 5, DIM) if cls is TwoLayerNN else LinearLayer(DIM, DIM, True)
        randomised(adapter)
        config = adapter.get_config_dict()
        config.pop("rank", None)
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "config.json").write_text(json.dumps(config))
        torch.save(adapter.state_dict(), tmp_path / "old" / "pytorch_model.bin")
        model = AdapterEmbeddingModel(base, str(tmp_path / "old"), cls)
        found = np.array(model.get_query_embedding("q"))
        # LlamaIndex: the module applied to the vector as it came; here of the query's length.
        vector = np.array(base.vector("q"))
        with torch.no_grad():
            theirs = adapter(torch.tensor(vector, dtype=torch.float32)).numpy()
        theirs *= np.linalg.norm(vector) / np.linalg.norm(theirs)
        np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)


def test_serving_imports_no_torch(base, tmp_path):
    """A fresh interpreter in which torch cannot be imported answers from a stored index."""
    for name, adapter in {
        "linear": LinearAdapter(DIM, bias=True),
        "low-rank": LinearAdapter(DIM, rank=2),
        "two-layer": TwoLayerAdapter(DIM),
        "two-layer-nn": TwoLayerNN(DIM, 5, DIM),
        "identity": IdentityAdapter(DIM),
    }.items():
        save(tmp_path / "adapters" / name, randomised(adapter), base_model="counting")
    VectorStoreIndex(nodes(), embed_model=base).storage_context.persist(tmp_path / "index")
    code = """
        import sys
        from pathlib import Path

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "torch":
                    raise ImportError("torch was imported")

        sys.meta_path.insert(0, NoTorch())
        from llama_index.core import Settings, StorageContext, load_index_from_storage
        from llama_index_adapters import AdapterEmbeddingModel
        from tests.fakes import CountingEmbedding

        folder = Path(sys.argv[1])
        base = CountingEmbedding()
        context = StorageContext.from_defaults(persist_dir=str(folder / "index"))
        index = load_index_from_storage(context, embed_model=base)
        for path in sorted((folder / "adapters").iterdir()):
            model = AdapterEmbeddingModel(base, path)
            assert len(index.as_retriever(embed_model=model).retrieve("which?")) == 2
            print(path.name, model.get_query_embedding("q")[0])
        assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.split() for line in done.stdout.splitlines())
    for name, first in printed.items():
        here = AdapterEmbeddingModel(base, tmp_path / "adapters" / name)
        assert here.get_query_embedding("q")[0] == pytest.approx(float(first), rel=1e-5)
    assert len(printed) == 5
