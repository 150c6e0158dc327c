"""Who hears of a call: each text is counted once, and nothing is made that nobody receives."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.embeddings import base as core
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.instrumentation import NullEventHandler, NullSpanHandler, get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import TextNode

from llama_index_adapters import AdapterEmbeddingModel, LinearAdapter
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.serving.watching import dispatchers_of, receives_spans
from tests.fakes import AsyncEmbedding

MODULE = "llama_index_adapters.serving.forwarding"
TEXTS = ["the first text", "a second", "and a third one"]
QUERIES = ["which one", "why"]


def nodes() -> list[TextNode]:
    return [TextNode(id_=text, text=text) for text in TEXTS]


# Every way to have texts embedded, with the texts that are paid for.
CALLS = {
    "query": (lambda model: model.get_query_embedding("which one"), QUERIES[:1]),
    "async query": (lambda model: model.aget_query_embedding("which one"), QUERIES[:1]),
    "queries": (lambda model: model.get_agg_embedding_from_queries(QUERIES), QUERIES),
    "async queries": (lambda model: model.aget_agg_embedding_from_queries(QUERIES), QUERIES),
    "text": (lambda model: model.get_text_embedding("a second"), TEXTS[1:2]),
    "async text": (lambda model: model.aget_text_embedding("a second"), TEXTS[1:2]),
    "batch": (lambda model: model.get_text_embedding_batch(TEXTS), TEXTS),
    "async batch": (lambda model: model.aget_text_embedding_batch(TEXTS), TEXTS),
    "nodes": (lambda model: model(nodes()), TEXTS),
    "async nodes": (lambda model: model.acall(nodes()), TEXTS),
}


class Events(BaseEventHandler):
    seen: list

    def handle(self, event, **kwargs):
        self.seen.append(event)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    """Whoever an earlier test left listening does not listen here."""
    for dispatcher in (get_dispatcher(), get_dispatcher(core.__name__), get_dispatcher(MODULE)):
        monkeypatch.setattr(dispatcher, "event_handlers", [NullEventHandler()])
        monkeypatch.setattr(dispatcher, "span_handlers", [NullSpanHandler()])


@pytest.fixture
def adapter(tmp_path):
    adapter = LinearAdapter(8)
    adapter.load_arrays({"linear.weight": np.eye(8, dtype=np.float32)[::-1].copy()})
    save_adapter(tmp_path / "adapter", adapter)
    return tmp_path / "adapter"


@pytest.fixture
def model(adapter):
    return AdapterEmbeddingModel(AsyncEmbedding(embed_batch_size=2), adapter)


@pytest.fixture(params=["sync", "async"])
def ask(request, model):
    async def asked(text):
        if request.param == "sync":
            return model.get_query_embedding(text)
        return await model.aget_query_embedding(text)

    return asked


def token_counter() -> TokenCountingHandler:
    return TokenCountingHandler(tokenizer=str.split)


async def run(call, model) -> None:
    result = call(model)
    if inspect.isawaitable(result):
        await result


def counted(counter: TokenCountingHandler) -> list[str]:
    """The texts that were counted, in order, once each time they were counted."""
    texts = sorted(event.prompt for event in counter.embedding_token_counts)
    assert counter.total_embedding_token_count == sum(len(text.split()) for text in texts)
    counter.reset_counts()
    return texts


class TestTokens:
    """A real token counter adds up what a model is paid for, wherever it listens."""

    async def require_counted_once(self, model, *counters):
        for name, (call, texts) in CALLS.items():
            await run(call, model)
            for counter in counters:
                assert counted(counter) == sorted(texts), name

    async def test_with_a_counter_in_settings(self, adapter, monkeypatch):
        counter = token_counter()
        monkeypatch.setattr(Settings, "_callback_manager", CallbackManager([counter]))
        model = AdapterEmbeddingModel(AsyncEmbedding(embed_batch_size=2), adapter)
        assert counter in model.callback_manager.handlers
        assert counter in model.base_embed_model.callback_manager.handlers
        await self.require_counted_once(model, counter)

    @pytest.mark.parametrize("places", [("model",), ("base",), ("model", "base")])
    async def test_with_one_counter_on(self, model, places):
        counter = token_counter()
        holders = {"model": model, "base": model.base_embed_model}
        for place in places:
            holders[place].callback_manager = CallbackManager([counter])
        await self.require_counted_once(model, counter)

    async def test_with_a_counter_each_and_one_in_common(self, model):
        ours, theirs, common = token_counter(), token_counter(), token_counter()
        model.callback_manager = CallbackManager([ours, common])
        model.base_embed_model.callback_manager = CallbackManager([common, theirs])
        await self.require_counted_once(model, ours, theirs, common)
        assert model.callback_manager.handlers == [ours, common]

    async def test_with_an_adapter_on_top_of_another(self, model, adapter):
        outermost, innermost = token_counter(), token_counter()
        stacked = AdapterEmbeddingModel(model, adapter)
        stacked.callback_manager = CallbackManager([outermost, innermost])
        model.base_embed_model.callback_manager = CallbackManager([innermost])
        await self.require_counted_once(stacked, outermost, innermost)

    async def test_with_a_listener_to_events(self, model):
        dispatcher, handler = get_dispatcher(), Events(seen=[])
        dispatcher.add_event_handler(handler)
        for name, (call, texts) in CALLS.items():
            handler.seen.clear()
            await run(call, model)
            ends = [event for event in handler.seen if isinstance(event, EmbeddingEndEvent)]
            assert sorted(text for end in ends for text in end.chunks) == sorted(texts), name

    async def test_of_an_index_and_its_retrievers(self, adapter, monkeypatch):
        counter = token_counter()
        monkeypatch.setattr(Settings, "_callback_manager", CallbackManager([counter]))
        monkeypatch.setattr(Settings, "_embed_model", None)
        base = AsyncEmbedding(embed_batch_size=2)
        Settings.embed_model = model = AdapterEmbeddingModel(base, adapter)
        for options in ({}, {"embed_model": model}, {"embed_model": base}, {"use_async": True}):
            index = VectorStoreIndex(nodes(), **options)
            assert counted(counter) == sorted(TEXTS)
            index.as_retriever(embed_model=model).retrieve("which one")
            await index.as_retriever().aretrieve("which one")
            assert counted(counter) == ["which one"] * 2

    def test_of_a_failed_request_are_not_counted(self, model):
        counter = token_counter()
        model.callback_manager = CallbackManager([counter])
        model.base_embed_model.callback_manager = CallbackManager([counter])
        model.base_embed_model._answer = lambda texts, vectors: 1 / 0
        with pytest.raises(ZeroDivisionError):
            model.get_query_embedding("which one")
        assert counted(counter) == []


async def test_an_event_names_the_base_model_and_holds_its_vector(ask, model):
    before, handler = await ask("q"), Events(seen=[])
    get_dispatcher().add_event_handler(handler)
    assert await ask("q") == before
    start, end = handler.seen
    assert start.model_dict["model_name"] == "counting"
    assert end.embeddings == [model.base_embed_model.vector("q")] != [before]


@pytest.mark.parametrize("name", ["root", MODULE])
async def test_a_span_handler_receives_the_span_of_the_adapter(ask, name):
    dispatcher, handler = get_dispatcher(name), SimpleSpanHandler()
    before = await ask("q")
    dispatcher.add_span_handler(handler)
    assert await ask("q") == before
    spans = {span.id_: span for span in handler.completed_spans}
    (ours,) = (span for id_, span in spans.items() if id_.startswith("AdapterEmbeddingModel."))
    assert ours.id_.split("-")[0].endswith("get_query_embedding")
    if name == "root":
        (of_base,) = (
            span
            for id_, span in spans.items()
            if id_.startswith("AsyncEmbedding.") and "get_query_embedding" in id_.split("._")[0]
        )
        assert of_base.parent_id == ours.id_


async def test_nobody_receives_spans_and_none_is_made(ask, monkeypatch):
    entered = []
    monkeypatch.setattr(
        type(get_dispatcher()), "span_enter", lambda self, id_, **_: entered.append(id_)
    )
    await ask("q")
    assert entered
    assert not [id_ for id_ in entered if id_.startswith("AdapterEmbeddingModel")]
    assert not receives_spans(dispatchers_of(MODULE))


async def test_a_callback_handler_of_its_own_receives_the_adapted_vector(ask, model):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    model.callback_manager = CallbackManager([handler])
    vector = await ask("q")
    ((start, end),) = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert start.payload["serialized"]["model_name"] == "Adapter for counting"
    assert end.payload == {"chunks": ["q"], "embeddings": [vector]}


async def test_a_rate_limiter_of_its_own_is_asked(ask, model):
    class Limiter(BaseRateLimiter):
        acquired: int = 0

        def acquire(self):
            self.acquired += 1

        async def async_acquire(self):
            self.acquire()

    model.rate_limiter = Limiter()
    await ask("q")
    assert model.rate_limiter.acquired == 1


async def test_a_subclass_changes_what_a_query_gives(model):
    class Doubled(AdapterEmbeddingModel):
        def _get_query_embedding(self, query):
            return [2 * value for value in super()._get_query_embedding(query)]

    doubled = Doubled(model.base_embed_model, model.adapter_path)
    assert doubled.get_query_embedding("q") == [2 * x for x in model.get_query_embedding("q")]
