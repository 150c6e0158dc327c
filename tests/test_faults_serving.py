"""A service that fails while it is served from: sync and async, one text and many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.embeddings.openai import OpenAIEmbedding

from llama_index_adapters import AdapterEmbeddingModel
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.errors import EmbeddingError, ModelMismatchError
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.faulty_openai import (
    BROKEN,
    DIMENSION,
    STATUSES,
    WRONG_VECTORS,
    FaultyOpenAI,
    model_of,
    vector_of,
)

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_waits")]

TEXTS = [f"text number {number}" for number in range(6)]
QUERY = "a question"
MATRIX = np.roll(np.eye(DIMENSION, dtype=np.float32), 1, axis=0)

Ask = Callable[[Any], Any]
QUERIES: dict[str, Ask] = {
    "sync query": lambda model: model.get_query_embedding(QUERY),
    "async query": lambda model: asyncio.run(model.aget_query_embedding(QUERY)),
}
SINGLE: dict[str, Ask] = {
    "sync text": lambda model: model.get_text_embedding(TEXTS[0]),
    "async text": lambda model: asyncio.run(model.aget_text_embedding(TEXTS[0])),
}
BATCHES: dict[str, Ask] = {
    "sync batch": lambda model: model.get_text_embedding_batch(TEXTS),
    "async batch": lambda model: asyncio.run(model.aget_text_embedding_batch(TEXTS)),
}
REFUSED = (*STATUSES, *BROKEN, "none")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that turns the dimensions of a query round."""
    adapter = LinearAdapter(DIMENSION)
    adapter.load_arrays({"linear.weight": MATRIX})
    directory = tmp_path_factory.mktemp("adapter") / "adapter"
    save_adapter(directory, adapter)
    return directory


def served(
    server: FaultyOpenAI, path: Path, fault: str = ""
) -> tuple[AdapterEmbeddingModel, OpenAIEmbedding]:
    base = model_of(server, fault, reuse_client=False)  # every asyncio.run has a loop of its own
    return AdapterEmbeddingModel(base, path), base


def right(way: str) -> Any:
    if way in QUERIES:
        return MATRIX @ np.float32(vector_of(QUERY))
    texts = TEXTS[:1] if way in SINGLE else TEXTS
    vectors = np.float32([vector_of(text) for text in texts])
    return vectors[0] if way in SINGLE else vectors


ALL = {**QUERIES, **SINGLE, **BATCHES}
# Every fault once, every way of asking twice: the faults reach the caller the same way.
MET = [(way, REFUSED[first :: len(ALL)]) for first, way in enumerate(ALL)]


@pytest.mark.parametrize(("way", "faults"), MET, ids=ALL)
def test_a_failure_reaches_the_caller_and_the_next_call_is_right(
    server: FaultyOpenAI,
    path: Path,
    subtests: pytest.Subtests,
    way: str,
    faults: tuple[str, ...],
) -> None:
    for fault in faults:
        with subtests.test(fault=fault):
            model, _ = served(server, path, fault)
            server.plan(fault)
            with pytest.raises(Exception) as caught:  # noqa: PT011  the integration's own
                ALL[way](model)
            assert type(caught.value).__module__.partition(".")[0] != "llama_index_adapters"
            assert server.injected == [fault]
            np.testing.assert_allclose(ALL[way](model), right(way), rtol=1e-5)


@pytest.mark.parametrize("way", QUERIES)
def test_a_query_never_comes_out_wrong(
    server: FaultyOpenAI, path: Path, subtests: pytest.Subtests, way: str
) -> None:
    model, _ = served(server, path)
    errors = {"nan": EmbeddingError, "infinity": EmbeddingError, "zero": EmbeddingError}
    errors["other dimension"] = ModelMismatchError
    for fault in WRONG_VECTORS:
        with subtests.test(fault=fault):
            server.plan(fault)
            if fault == "too many":  # the first is the query's
                np.testing.assert_allclose(QUERIES[way](model), right(way), rtol=1e-5)
            else:
                with pytest.raises(errors.get(fault, ValueError)):
                    QUERIES[way](model)
            assert server.injected == [fault]
            np.testing.assert_allclose(QUERIES[way](model), right(way), rtol=1e-5)


@pytest.mark.parametrize(("way", "fault"), list(zip(BATCHES, ["too few", "too many"], strict=True)))
def test_no_text_gets_the_vector_of_another(
    server: FaultyOpenAI, path: Path, fault: str, way: str
) -> None:
    model, base = served(server, path)
    server.plan(fault)
    with pytest.raises(EmbeddingError, match=r"gave \d+ vectors for \d+ texts; expected one"):
        BATCHES[way](model)
    server.plan(fault)
    assert len(BATCHES[way](base)) != len(TEXTS)  # LlamaIndex takes it
    np.testing.assert_allclose(BATCHES[way](model), right(way), rtol=1e-5)


@pytest.mark.parametrize("fault", ["429", "timeout", "nan", "out of order"])
async def test_texts_are_embedded_inside_a_loop_that_goes_on_using_the_model(
    server: FaultyOpenAI, tmp_path: Path, fault: str
) -> None:
    """Embedding makes its own calls in threads; the model's connections stay the caller's."""
    model = model_of(server, fault, num_workers=2)
    server.plan()
    assert await model.aget_query_embedding(QUERY) == pytest.approx(vector_of(QUERY))
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        Embedder(model, store, show_progress=False).texts(TEXTS[:1], "passage")
        server.plan(fault)
        found = Embedder(model, store, show_progress=False).texts(TEXTS, "passage").vectors
    assert server.injected == [fault]
    np.testing.assert_array_equal(found, np.float32([vector_of(text) for text in TEXTS]))
    batch = await model.aget_text_embedding_batch(TEXTS)
    np.testing.assert_allclose(batch, found, rtol=1e-5)
