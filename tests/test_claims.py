"""Runs that share a store pay for each text once, and none waits for one that is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.services.errors import LONGEST_WAIT
from llama_index_adapters.vectors import claims as claims_module
from llama_index_adapters.vectors.claims import CLAIM_SECONDS, Claims
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.fill import PROBE_TEXTS
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding

TEXTS = [f"text {number}" for number in range(120)]


def vectors_of(texts: list[str], prefix: str = "") -> Any:
    return np.float32([CountingEmbedding().vector(prefix + text) for text in texts])


def _embed_all(path: str, log: str, prefix: str, role: Any, barrier: Any) -> None:
    def answer(texts: list[str], vectors: list[list[float]]) -> Any:
        time.sleep(0.01)
        with Path(log).open("a") as file:  # one write each
            file.write("".join(f"{model.calls[-1][0]} {text}\n" for text in texts))
        return vectors

    model = CountingEmbedding(embed_batch_size=10, query_instruction=prefix, answer=answer)
    barrier.wait(60)
    found = Embedder(model, path, show_progress=False).texts(TEXTS, role).vectors
    np.testing.assert_array_equal(found, vectors_of(TEXTS, prefix if role == "query" else ""))


@pytest.mark.parametrize(
    ("role", "prefix", "billed"),
    [
        ("passage", "", len(TEXTS)),
        ("query", "", len(TEXTS) + PROBE_TEXTS),
        ("query", "query: ", len(TEXTS) + PROBE_TEXTS),
    ],
)
def test_six_processes_are_billed_for_each_text_once(
    tmp_path: Path, role: str, prefix: str, billed: int
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_claims"])
    barrier = context.Barrier(6)
    arguments = (str(tmp_path / "store.sqlite3"), str(tmp_path / "log"), prefix, role, barrier)
    processes = [context.Process(target=_embed_all, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 6
    assert len((tmp_path / "log").read_text().splitlines()) == billed
    assert {entry.name for entry in tmp_path.iterdir()} == {"store.sqlite3", "log"}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        yield store


def claims_in(store: EmbeddingStore) -> int:
    found = store._file.connected().execute("SELECT count(*) FROM claim").fetchone()
    return int(found[0])


def test_a_claim_outlasts_the_longest_wait_for_a_retry() -> None:
    assert CLAIM_SECONDS > LONGEST_WAIT


def test_what_another_run_asks_for_is_waited_for(store: EmbeddingStore) -> None:
    """The second asks for the rest meanwhile, and for what the first gives up."""
    model = CountingEmbedding(embed_batch_size=10)
    identity = IdentifiedModel(model).identity
    with Claims(store, identity, "passage") as first:
        assert first.take(TEXTS[:30]) == TEXTS[:30]
        second = threading.Thread(
            target=lambda: Embedder(model, store, show_progress=False).texts(TEXTS, "passage")
        )
        second.start()
        while store.count() < 90:
            time.sleep(0.01)
        store.put(identity, "passage", TEXTS[:20], vectors_of(TEXTS[:20]))
        time.sleep(0.2)
        assert second.is_alive()
    second.join(60)
    assert sorted(model.texts) == sorted(TEXTS[20:])
    np.testing.assert_array_equal(store.get(identity, "passage", TEXTS).vectors, vectors_of(TEXTS))
    assert claims_in(store) == 0


def test_a_run_that_fails_gives_up_what_it_holds(store: EmbeddingStore) -> None:
    def fail(texts: list[str], vectors: list[list[float]]) -> Any:
        assert claims_in(store) == 10
        raise RuntimeError("no answer")

    with pytest.raises(EmbeddingError, match="no answer"):
        Embedder(CountingEmbedding(answer=fail), store).texts(TEXTS, "passage")
    assert claims_in(store) == 0


def test_a_request_that_takes_longer_than_a_claim_keeps_it(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "CLAIM_SECONDS", 0.4)
    monkeypatch.setattr(claims_module, "_RENEW_SECONDS", 0.05)
    with Claims(store, "model", "passage") as slow:
        slow.take(TEXTS[:1])
        time.sleep(1.0)
        with Claims(store, "model", "passage") as other:
            assert other.take(TEXTS[:1]) == []
    with Claims(store, "model", "passage") as slow:
        slow._ended.set()  # as if it could not renew
        slow.take(TEXTS[:1])
        time.sleep(0.6)
        with Claims(store, "model", "passage") as other:
            assert other.take(TEXTS[:1]) == TEXTS[:1]


def _claim_and_hang(path: str, ready: Any) -> None:
    with EmbeddingStore(path) as store, Claims(store, "model", "passage") as claims:
        claims.take(TEXTS)
        ready.set()
        signal.pause()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_what_a_killed_process_held_is_free_at_once_on_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=_claim_and_hang, args=(str(path), ready))
    process.start()
    assert ready.wait(60)
    with EmbeddingStore(path) as store, Claims(store, "model", "passage") as claims:
        assert claims.take(TEXTS) == []
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(60)
        assert claims.left_by_others() == TEXTS
        # Of another machine nothing is known but the time.
        machine = claims._owner.split(".")[3]
        change = "UPDATE claim SET owner = replace(owner, ?, '00000000')"
        store._file.connected().execute(change, (machine,))
        with Claims(store, "model", "passage") as other:
            assert other.take(TEXTS) == []
    Embedder(CountingEmbedding(), path, show_progress=False).texts(TEXTS[:1], "passage")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.sqlite3"]  # its file is gone


def test_threads_of_one_process_share_too(store: EmbeddingStore) -> None:
    models = [CountingEmbedding(embed_batch_size=7) for _ in range(4)]
    threads = [
        threading.Thread(
            target=lambda model=model: Embedder(model, store, show_progress=False).texts(
                TEXTS, "passage"
            )
        )
        for model in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    asked = Counter(text for model in models for text in model.texts)
    assert asked == Counter(TEXTS)
