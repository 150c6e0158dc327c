"""Texts are embedded once, in the right role, and nothing that was paid for is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tenacity
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.embeddings.openai import OpenAIEmbedding

import llama_index_adapters.vectors.store as store_module
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidDatasetError,
    InvalidOptionError,
    UnwritableFileError,
)
from llama_index_adapters.services import retries
from llama_index_adapters.vectors.ask import DEFAULT_WORKERS, workers_of
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.fill import PROBE_TEXTS
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import AsyncEmbedding, CountingEmbedding

TEXTS = [f"{'word ' * (n % 7)}text {n}" for n in range(25)]
PREFIX = "Represent the question: "


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_WAIT", tenacity.wait_none())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddingStore]:
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        yield store


def embed(model: BaseEmbedding, texts: list[str], role: Any, store: EmbeddingStore) -> Any:
    return Embedder(model, store, show_progress=False).texts(texts, role).vectors


def expected(model: CountingEmbedding, texts: list[str], prefix: str = "") -> Any:
    return np.array([model.vector(prefix + text) for text in texts], dtype=np.float32)


def kinds(model: CountingEmbedding) -> dict[str, int]:
    """How many texts were sent in each kind of call."""
    sent: dict[str, int] = {}
    for kind, texts in model.calls:
        sent[kind] = sent.get(kind, 0) + len(texts)
    return sent


@pytest.mark.parametrize("kind", [CountingEmbedding, AsyncEmbedding])
@pytest.mark.parametrize("instruction", ["", PREFIX])
@pytest.mark.parametrize("role", ["query", "passage"])
def test_a_second_run_embeds_nothing(
    store: EmbeddingStore, kind: type[CountingEmbedding], instruction: str, role: str
) -> None:
    model = kind(query_instruction=instruction)
    first = embed(model, TEXTS, role, store)
    np.testing.assert_array_equal(
        first, expected(model, TEXTS, instruction if role == "query" else "")
    )
    again = kind(query_instruction=instruction, embed_batch_size=3)
    second = embed(again, TEXTS[::-1], role, store)
    assert again.calls == []
    np.testing.assert_array_equal(second, first[::-1])


def test_a_symmetric_models_queries_go_through_the_batch_call(store: EmbeddingStore) -> None:
    model = CountingEmbedding(embed_batch_size=4)
    embed(model, TEXTS, "query", store)
    assert kinds(model) == {"query": PROBE_TEXTS, "batch": len(TEXTS)}
    assert max(len(texts) for _, texts in model.calls) == 4
    assert store.symmetric(IdentifiedModel(model).identity) is True
    embed(model, TEXTS, "passage", store)
    assert len(model.texts) == len(TEXTS) + PROBE_TEXTS


def test_an_asymmetric_models_queries_are_never_batched(store: EmbeddingStore) -> None:
    model = CountingEmbedding(query_instruction=PREFIX)
    queries = embed(model, TEXTS, "query", store)
    np.testing.assert_array_equal(queries, expected(model, TEXTS, PREFIX))
    assert kinds(model) == {"query": len(TEXTS), "batch": PROBE_TEXTS}
    assert store.symmetric(IdentifiedModel(model).identity) is False
    # The probe's passage vectors were kept, the queries' are not taken for passages.
    passages = embed(model, TEXTS, "passage", store)
    np.testing.assert_array_equal(passages, expected(model, TEXTS))
    assert kinds(model) == {"query": len(TEXTS), "batch": len(TEXTS)}


@pytest.mark.parametrize("instruction", ["", PREFIX])
def test_a_model_is_probed_once(store: EmbeddingStore, instruction: str) -> None:
    embed(CountingEmbedding(query_instruction=instruction), TEXTS, "query", store)
    model = CountingEmbedding(query_instruction=instruction)
    more = [f"another {n}" for n in range(10)]
    np.testing.assert_array_equal(
        embed(model, more, "query", store), expected(model, more, instruction)
    )
    assert kinds(model) == {"query" if instruction else "batch": 10}


def test_a_few_queries_are_not_worth_a_probe(store: EmbeddingStore) -> None:
    model = CountingEmbedding()
    embed(model, TEXTS[:PROBE_TEXTS], "query", store)
    assert kinds(model) == {"query": PROBE_TEXTS}
    assert store.symmetric(IdentifiedModel(model).identity) is None


@pytest.mark.parametrize(("cosine", "symmetric"), [(0.99995, True), (0.9998, False)])
def test_vectors_count_as_equal_from_cosine_0_9999(
    store: EmbeddingStore, cosine: float, symmetric: bool
) -> None:
    class Jittery(CountingEmbedding):
        def respond(self, kind: str, texts: list[str]) -> Any:
            vectors = super().respond(kind, texts)
            if kind != "query":
                return vectors
            turned = []
            for vector in np.array(vectors):
                aside = np.roll(vector, 1)
                aside -= vector * (aside @ vector) / (vector @ vector)
                aside *= np.linalg.norm(vector) / np.linalg.norm(aside)
                turned.append((cosine * vector + (1 - cosine**2) ** 0.5 * aside).tolist())
            return turned

    model = Jittery()
    embed(model, TEXTS, "query", store)
    assert store.symmetric(IdentifiedModel(model).identity) is symmetric


def test_one_text_that_differs_makes_a_model_asymmetric(store: EmbeddingStore) -> None:
    class Truncating(CountingEmbedding):
        """Cuts long queries, as models with a shorter limit for queries do."""

        def respond(self, kind: str, texts: list[str]) -> Any:
            return super().respond(kind, [t[:30] for t in texts] if kind == "query" else texts)

    model = Truncating()
    queries = embed(model, TEXTS, "query", store)
    assert store.symmetric(IdentifiedModel(model).identity) is False
    np.testing.assert_array_equal(queries, expected(model, [text[:30] for text in TEXTS]))


def test_llamaindexs_cache_cannot_mix_roles(store: EmbeddingStore) -> None:
    model = CountingEmbedding(query_instruction=PREFIX, embeddings_cache=SimpleKVStore())
    for _ in range(2):
        passages = embed(model, TEXTS, "passage", store)
        queries = embed(model, TEXTS, "query", store)
        np.testing.assert_array_equal(passages, expected(model, TEXTS))
        np.testing.assert_array_equal(queries, expected(model, TEXTS, PREFIX))
    assert len(model.texts) == 2 * len(TEXTS)


def test_a_symmetric_models_own_cache_is_used(store: EmbeddingStore) -> None:
    model = CountingEmbedding(embeddings_cache=SimpleKVStore())
    model.get_text_embedding_batch(TEXTS)
    model.calls.clear()
    embed(model, TEXTS, "query", store)
    assert len(model.texts) == 2 * PROBE_TEXTS


def test_rate_limiter_and_events_keep_working(store: EmbeddingStore) -> None:
    class Limiter(BaseRateLimiter):
        acquired = 0

        def acquire(self, num_tokens: int = 0) -> None:
            self.acquired += 1

        async def async_acquire(self, num_tokens: int = 0) -> None:
            raise AssertionError("the synchronous calls are used")

    limiter = Limiter()
    counter = TokenCountingHandler(tokenizer=str.split)
    model = AsyncEmbedding(
        embed_batch_size=5, rate_limiter=limiter, callback_manager=CallbackManager([counter])
    )
    embed(model, TEXTS, "passage", store)
    assert limiter.acquired == 5
    assert counter.total_embedding_token_count == sum(len(text.split()) for text in TEXTS)


def test_a_text_that_occurs_twice_is_embedded_once(store: EmbeddingStore) -> None:
    model = CountingEmbedding()
    vectors = embed(model, ["a", "b", "a"], "passage", store)
    assert sorted(model.texts) == ["a", "b"]
    np.testing.assert_array_equal(vectors, expected(model, ["a", "b", "a"]))


def test_a_local_model_gets_batches_of_texts_of_similar_length(store: EmbeddingStore) -> None:
    model = CountingEmbedding(embed_batch_size=4)
    embed(model, TEXTS, "passage", store)
    lengths = [len(text) for text in model.texts]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(texts) for _, texts in model.calls] == [4, 4, 4, 4, 4, 4, 1]


def test_a_service_gets_texts_in_the_order_given(store: EmbeddingStore) -> None:
    model = AsyncEmbedding(embed_batch_size=4, num_workers=1)
    embed(model, TEXTS, "passage", store)
    assert model.texts == TEXTS


def test_a_service_is_asked_concurrently(store: EmbeddingStore) -> None:
    model = AsyncEmbedding(embed_batch_size=5, num_workers=5, together=5)
    embed(model, TEXTS, "passage", store)  # the barrier breaks unless five calls overlap
    assert len(model.calls) == 5


def test_an_asymmetric_services_queries_go_one_by_one_concurrently(store: EmbeddingStore) -> None:
    store.set_symmetric(IdentifiedModel(AsyncEmbedding(query_instruction=PREFIX)).identity, False)
    model = AsyncEmbedding(query_instruction=PREFIX, num_workers=5, together=5)
    queries = embed(model, TEXTS, "query", store)
    assert kinds(model) == {"query": len(TEXTS)}
    np.testing.assert_array_equal(queries, expected(model, TEXTS, PREFIX))


def test_no_more_requests_than_workers_are_under_way(store: EmbeddingStore) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    class Watched(AsyncEmbedding):
        def respond(self, kind: str, texts: list[str]) -> Any:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            try:
                return super().respond(kind, texts)
            finally:
                with lock:
                    under_way -= 1

    embed(Watched(embed_batch_size=1, num_workers=5, together=5), TEXTS, "passage", store)
    assert most == 5


async def test_it_works_inside_a_running_event_loop(store: EmbeddingStore) -> None:
    model = AsyncEmbedding(embed_batch_size=5, num_workers=5, together=5)
    np.testing.assert_array_equal(embed(model, TEXTS, "passage", store), expected(model, TEXTS))


def test_who_counts_as_asynchronous() -> None:
    class HuggingFaceEmbedding(AsyncEmbedding):
        """The real one's name; its asynchronous methods only move work to a thread."""

    class Wrapper(AsyncEmbedding):
        base: BaseEmbedding = Field(exclude=True)

    assert workers_of(CountingEmbedding(num_workers=4)) is None
    assert workers_of(HuggingFaceEmbedding()) is None
    assert workers_of(Wrapper(base=CountingEmbedding())) is None
    assert workers_of(Wrapper(base=AsyncEmbedding())) == DEFAULT_WORKERS
    assert workers_of(AsyncEmbedding()) == DEFAULT_WORKERS
    assert workers_of(AsyncEmbedding(num_workers=3)) == 3
    assert workers_of(OpenAIEmbedding(api_key="none")) == DEFAULT_WORKERS


def test_a_failure_keeps_what_came_before_and_says_how_to_go_on(store: EmbeddingStore) -> None:
    def fail_on_third(texts: list[str], vectors: list[list[float]]) -> Any:
        if len(model.calls) == 3:
            raise RuntimeError("no answer")
        return vectors

    model = CountingEmbedding(embed_batch_size=10, answer=fail_on_third)
    with pytest.raises(EmbeddingError) as caught:
        embed(model, TEXTS, "passage", store)
    assert "model counting failed. RuntimeError: no answer. 20 of 25" in str(caught.value)
    assert "20 of 25 passage texts are stored in" in str(caught.value)
    assert "the same call continues with the rest" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    again = CountingEmbedding(embed_batch_size=10)
    np.testing.assert_array_equal(embed(again, TEXTS, "passage", store), expected(again, TEXTS))
    assert len(again.texts) == 5


def test_a_failure_of_one_request_keeps_those_under_way(store: EmbeddingStore) -> None:
    def fail_on_first_text(texts: list[str], vectors: list[list[float]]) -> Any:
        if TEXTS[0] in texts:
            raise RuntimeError("no answer")
        return vectors

    model = AsyncEmbedding(embed_batch_size=5, num_workers=5, together=5, answer=fail_on_first_text)
    with pytest.raises(EmbeddingError, match="20 of 25"):
        embed(model, TEXTS, "passage", store)
    assert store.missing(IdentifiedModel(model).identity, "passage", TEXTS) == TEXTS[:5]


def test_after_a_failure_no_further_request_is_made(store: EmbeddingStore) -> None:
    def fail(texts: list[str], vectors: list[list[float]]) -> Any:
        raise PermissionError("wrong key")

    for model in (
        CountingEmbedding(embed_batch_size=1, answer=fail),
        AsyncEmbedding(embed_batch_size=1, num_workers=1, answer=fail),
    ):
        with pytest.raises(EmbeddingError, match=r"PermissionError: wrong key\. 0 of 25"):
            embed(model, TEXTS, "passage", store)
        assert len(model.calls) == 1


@pytest.mark.parametrize("kind", [CountingEmbedding, AsyncEmbedding])
def test_an_interrupted_run_continues_with_the_same_batches(
    tmp_path: Path, kind: type[CountingEmbedding]
) -> None:
    whole = kind(embed_batch_size=4, num_workers=1)
    with EmbeddingStore(tmp_path / "whole.sqlite3") as store:
        vectors = embed(whole, TEXTS, "query", store)
    for after in range(1, len(whole.calls)):
        interrupted = kind(embed_batch_size=4, num_workers=1)

        def interrupt(texts: list[str], vectors: list[list[float]]) -> Any:
            if len(interrupted.calls) > after:  # noqa: B023
                interrupted.calls.pop()  # noqa: B023
                raise KeyboardInterrupt
            return vectors

        interrupted._answer = interrupt
        with EmbeddingStore(tmp_path / f"{after}.sqlite3") as store:
            with pytest.raises(KeyboardInterrupt):
                embed(interrupted, TEXTS, "query", store)
            resumed = kind(embed_batch_size=4, num_workers=1)
            np.testing.assert_array_equal(embed(resumed, TEXTS, "query", store), vectors)
        assert interrupted.calls + resumed.calls == whole.calls


@pytest.mark.parametrize("kind", [CountingEmbedding, AsyncEmbedding])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda vectors: vectors[:-1], "returned 3 vectors for 4 texts"),
        (lambda vectors: [*vectors, vectors[0]], "returned 5 vectors for 4 texts"),
        (lambda vectors: [], "returned 0 vectors for 4 texts"),
        (lambda vectors: [[float("nan")] * 8, *vectors[1:]], "NaN or infinity in 1 of 4"),
        (lambda vectors: [[float("inf")] * 8, *vectors[1:]], "NaN or infinity in 1 of 4"),
        (lambda vectors: [[0.0] * 8, *vectors[1:]], "1 zero vectors"),
        (lambda vectors: [vectors[0][:3], *vectors[1:]], "found dimensions 3, 8"),
        (lambda vectors: [vector[:3] for vector in vectors], "3 dimensions.*have 8"),
    ],
)
def test_a_wrong_answer_is_not_stored(
    store: EmbeddingStore, kind: type[CountingEmbedding], wrong: Any, message: str
) -> None:
    def answer(texts: list[str], vectors: list[list[float]]) -> Any:
        return wrong(vectors) if len(model.calls) > 1 else vectors

    model = kind(embed_batch_size=4, num_workers=1, answer=answer)
    with pytest.raises(EmbeddingError, match=f"(?s){message}.*4 of 8 passage texts are stored"):
        embed(model, TEXTS[:8], "passage", store)
    model_id = IdentifiedModel(model).identity
    vectors, found = store.get(model_id, "passage", TEXTS[:8])
    assert found.sum() == 4
    np.testing.assert_array_equal(vectors[found], expected(model, TEXTS[:8])[found])


@pytest.mark.parametrize("convert", [np.array, np.float32, tuple, lambda v: list(np.array(v))])
def test_a_model_may_return_arrays(store: EmbeddingStore, convert: Any) -> None:
    model = CountingEmbedding(answer=lambda texts, vectors: convert(vectors))
    np.testing.assert_array_equal(embed(model, TEXTS, "passage", store), expected(model, TEXTS))


def test_a_full_disk_is_the_stores_error_not_the_models(store: EmbeddingStore) -> None:
    pages = store._connected().execute("PRAGMA page_count").fetchone()[0]
    store._connected().execute(f"PRAGMA max_page_count = {pages}")
    model = CountingEmbedding(dimension=4_000)
    with pytest.raises(UnwritableFileError, match="disk is full"):
        embed(model, TEXTS, "passage", store)
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "texts is one str"),
        (["a", 1, None], r"2 texts are not str, the first at \[1, 2\] \(int\)"),
        (["a", " \n"], r"1 texts are empty, the first at \[1\]"),
        (["a", "half \ud83d"], r"1 texts hold half of a surrogate pair.*, the first at \[1\]"),
    ],
)
def test_what_is_not_text_is_refused(store: EmbeddingStore, texts: Any, message: str) -> None:
    with pytest.raises(InvalidDatasetError, match=message):
        embed(CountingEmbedding(), texts, "passage", store)


def test_no_texts_give_no_vectors(store: EmbeddingStore) -> None:
    model = CountingEmbedding()
    assert embed(model, [], "query", store).shape == (0, 0)
    embed(model, ["a"], "passage", store)
    assert embed(model, [], "query", store).shape == (0, 8)


def test_wrong_options_are_refused(store: EmbeddingStore) -> None:
    with pytest.raises(InvalidOptionError, match="role is 'document'; use one of query, passage"):
        embed(CountingEmbedding(), TEXTS, "document", store)
    with pytest.raises(InvalidOptionError, match="embed_model is str"):
        embed("local", TEXTS, "query", store)  # type: ignore[arg-type]


def test_the_progress_bar_counts_texts_and_can_be_turned_off(
    store: EmbeddingStore, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(CountingEmbedding(), TEXTS[:10], "passage", store)
    assert capsys.readouterr() == ("", "")
    Embedder(CountingEmbedding(), store).texts(TEXTS, "passage")
    out, err = capsys.readouterr()
    assert out == ""
    assert "Embedding passages" in err
    assert "15/15" in err
    Embedder(CountingEmbedding(), store).texts(TEXTS, "passage")
    assert capsys.readouterr() == ("", "")


class TestDataset:
    questions: ClassVar[dict[str, Any]] = {
        "corpus": {f"n{n}": f"passage {n}" for n in range(6)},
        "queries": {f"q{n}": f"question {n}" for n in range(5)},
        "relevant_docs": {f"q{n}": [f"n{n + 1}", f"n{n}"] for n in range(5)},
    }

    def test_it_becomes_arrays(self, store: EmbeddingStore) -> None:
        model = CountingEmbedding(query_instruction=PREFIX)
        embedded = Embedder(model, store, show_progress=False).dataset(
            self.questions, similarity="dot_product"
        )
        data = embedded.data
        assert data.query_ids == ("q0", "q1", "q2", "q3", "q4")
        assert data.passage_ids == ("n0", "n1", "n2", "n3", "n4", "n5")
        assert [rows.tolist() for rows in data.relevance] == [[n + 1, n] for n in range(5)]
        assert data.similarity == "dot_product"
        np.testing.assert_array_equal(
            data.queries, expected(model, list(self.questions["queries"].values()), PREFIX)
        )
        np.testing.assert_array_equal(
            data.passages, expected(model, list(self.questions["corpus"].values()))
        )
        assert embedded.cost.texts == len(model.texts) == 6 + 5 + PROBE_TEXTS
        assert embedded.cost.seconds > 0
        store.count()  # a store that was handed in stays open

    def test_a_second_run_embeds_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite3"
        first = Embedder(CountingEmbedding(), path, show_progress=False).dataset(self.questions)
        model = CountingEmbedding()
        second = Embedder(model, str(path), show_progress=False).dataset(self.questions)
        assert (second.cost.texts, model.calls) == (0, [])
        assert second.data.fingerprint() == first.data.fingerprint()

    def test_the_default_store_is_the_users(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "cache_directory", lambda: tmp_path / "cache")
        Embedder(CountingEmbedding(), show_progress=False).dataset(self.questions)
        with EmbeddingStore() as store:
            assert store.count() == 11

    def test_any_object_with_the_mappings_is_accepted(self, store: EmbeddingStore) -> None:
        plain = type("Questions", (), self.questions)()
        embedded = Embedder(CountingEmbedding(), store, show_progress=False).dataset(plain)
        assert embedded.data.passages.shape == (6, 8)

    def test_wrong_arguments_cost_nothing(self, store: EmbeddingStore) -> None:
        model = CountingEmbedding()
        with pytest.raises(InvalidOptionError, match="similarity is 'l2'; use one of cosine"):
            Embedder(model, store).dataset(self.questions, similarity="l2")  # type: ignore[arg-type]
        with pytest.raises(InvalidOptionError, match="embed_model is NoneType"):
            Embedder(None, store).dataset(self.questions)  # type: ignore[arg-type]
        with pytest.raises(InvalidDatasetError):
            Embedder(model, store).dataset({**self.questions, "corpus": {}})
        assert model.calls == []
