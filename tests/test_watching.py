"""A query is reported to whoever watches, and to nobody otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from llama_index.core.base.embeddings import base as core
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import NullEventHandler, NullSpanHandler, get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.rate_limiter import BaseRateLimiter

from llama_index_adapters import AdapterEmbeddingModel, LinearAdapter
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.serving.watching import dispatchers_of, is_watched
from tests.fakes import AsyncEmbedding

MODULE = "llama_index_adapters.serving.model"
NAMES = ("root", core.__name__, MODULE)


class Events(BaseEventHandler):
    seen: list

    def handle(self, event, **kwargs):
        self.seen.append(event)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    """Whoever an earlier test left listening does not listen here."""
    for dispatcher in dispatchers_of(*NAMES[1:]):
        monkeypatch.setattr(dispatcher, "event_handlers", [NullEventHandler()])
        monkeypatch.setattr(dispatcher, "span_handlers", [NullSpanHandler()])


@pytest.fixture
def model(tmp_path):
    adapter = LinearAdapter(8)
    adapter.load_arrays({"linear.weight": np.eye(8, dtype=np.float32)[::-1].copy()})
    save_adapter(tmp_path / "adapter", adapter)
    return AdapterEmbeddingModel(AsyncEmbedding(), tmp_path / "adapter")


@pytest.fixture
def made(monkeypatch):
    """Which models LlamaIndex made events for, whether or not anybody receives them."""
    names = []

    class Counted(core.EmbeddingStartEvent):
        def __init__(self, **fields):
            names.append(fields["model_dict"]["model_name"])
            super().__init__(**fields)

    monkeypatch.setattr(core, "EmbeddingStartEvent", Counted)
    return names


@pytest.fixture(params=["sync", "async"])
def ask(request, model):
    async def asked(text):
        if request.param == "sync":
            return model.get_query_embedding(text)
        return await model.aget_query_embedding(text)

    return asked


async def test_nobody_watches_and_nothing_is_made(ask, made):
    await ask("q")
    assert made == ["counting"]


@pytest.mark.parametrize("name", NAMES)
async def test_an_event_handler_receives_both_models_and_the_same_vector(ask, made, name):
    before = await ask("q")
    dispatcher, handler = get_dispatcher(name), Events(seen=[])
    dispatcher.add_event_handler(handler)
    made.clear()
    try:
        assert await ask("q") == before
    finally:
        dispatcher.event_handlers.remove(handler)
    assert made == ["Adapter for counting", "counting"]
    if name != MODULE:
        ends = [event for event in handler.seen if isinstance(event, EmbeddingEndEvent)]
        assert [end.embeddings[0] == before for end in ends] == [False, True]
    assert not is_watched(dispatchers_of(core.__name__, MODULE))


async def test_a_span_handler_receives_the_span_of_the_adapter_around_that_of_the_base(ask):
    dispatcher, handler = get_dispatcher(), SimpleSpanHandler()
    dispatcher.add_span_handler(handler)
    try:
        await ask("q")
    finally:
        dispatcher.span_handlers.remove(handler)
    spans = {span.id_: span for span in handler.completed_spans}
    (of_base,) = (
        span
        for span in spans.values()
        if span.id_.split("-")[0].endswith("Embedding.get_query_embedding")
        or span.id_.split("-")[0].endswith("Embedding.aget_query_embedding")
    )
    around = []
    while of_base.parent_id:
        of_base = spans[of_base.parent_id]
        around.append(of_base.id_.split("-")[0])
    assert [name.split(".")[0] for name in around] == ["AdapterEmbeddingModel"] * 2


async def test_a_callback_handler_receives_both_models(ask, model):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    model.callback_manager = CallbackManager([handler])
    await ask("q")
    assert len(handler.get_event_pairs(CBEventType.EMBEDDING)) == 1


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
