"""The store keeps vectors once, for several threads and processes, and says what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llama_index_adapters.vectors.store_file as store_module
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidFileError,
    InvalidOptionError,
    MissingFileError,
    UnwritableFileError,
)
from llama_index_adapters.files import forks
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.store import EmbeddingStore
from llama_index_adapters.vectors.store_rows import Role

TEXTS = [f"text {n}" for n in range(2_000)]
VECTORS = np.random.default_rng(0).standard_normal((len(TEXTS), 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def test_vectors_come_back_bit_for_bit_in_the_order_asked_for(path: Path) -> None:
    with EmbeddingStore(path) as store:
        assert store.put("model", "query", TEXTS, VECTORS) == len(TEXTS)
    order = np.random.default_rng(1).integers(0, len(TEXTS), 3_000)  # some twice, some never
    with EmbeddingStore(path) as store:
        vectors, found = store.get("model", "query", [TEXTS[row] for row in order])
    assert found.all()
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS[order])


def test_missing_names_each_absent_text_once_in_order(path: Path) -> None:
    with EmbeddingStore(path) as store:
        assert store.missing("model", "query", ["b", "a", "b"]) == ["b", "a"]
        store.put("model", "query", ["a"], [[1.0, 2.0]])
        assert store.missing("model", "query", ["b", "a", "c", "b"]) == ["b", "c"]
        vectors, found = store.get("model", "query", ["b", "a"])
    assert found.tolist() == [False, True]
    assert vectors.tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_models_and_roles_do_not_mix(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("one", "query", ["a"], [[1.0]])
        store.put("two", "passage", ["a"], [[2.0, 3.0]])
        assert store.missing("one", "passage", ["a"]) == ["a"]
        assert store.missing("two", "query", ["a"]) == ["a"]
        assert store.get("two", "passage", ["a"]).vectors.tolist() == [[2.0, 3.0]]
        assert (store.count(), store.count("one"), store.count("none")) == (2, 1, 0)


def test_a_stored_vector_is_never_replaced(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["a"], [[1.0]])
        assert store.put("model", "query", ["a", "b"], [[9.0], [2.0]]) == 1
        assert store.get("model", "query", ["a", "b"]).vectors.tolist() == [[1.0], [2.0]]


def test_a_symmetric_model_shares_vectors_across_roles(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "passage", ["both", "passage"], [[1.0], [2.0]])
        store.put("model", "query", ["both", "query"], [[1.1], [3.0]])
        assert store.symmetric("model") is None
        assert store.set_symmetric("model", True) is True
        for role in ("query", "passage"):
            vectors, found = store.get("model", role, ["both", "passage", "query"])
            assert found.all()
            assert vectors[:, 0].tolist() == [1.0, 2.0, 3.0]
        store.put("model", "query", ["later"], [[4.0]])
        assert store.missing("model", "passage", ["later"]) == []
        assert store.count("model") == 4


def test_the_first_verdict_holds_and_is_kept(path: Path) -> None:
    with EmbeddingStore(path) as store:
        assert store.set_symmetric("model", False) is False
        assert store.set_symmetric("model", True) is False
    with EmbeddingStore(path) as store:
        assert store.symmetric("model") is False
        store.put("model", "query", ["a"], [[1.0]])
        assert store.missing("model", "passage", ["a"]) == ["a"]


def test_another_dimension_is_refused_and_nothing_of_it_stored(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["a"], [[1.0, 2.0]])
        with pytest.raises(EmbeddingError, match=r"vectors of 3 dimensions.*have 2"):
            store.put("model", "passage", ["b"], [[1.0, 2.0, 3.0]])
        assert store.count() == 1
        store.put("other", "passage", ["b"], [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0]], "returned 1 vectors for 2 texts"),
        ([[1.0], [2.0], [3.0]], "returned 3 vectors for 2 texts"),
        ([], "returned 0 vectors for 2 texts"),
        ([[1.0, np.nan], [1.0, 2.0]], "NaN or infinity in 1 of 2"),
        ([[1.0, 2.0], [np.inf, 2.0]], "NaN or infinity in 1 of 2"),
        ([[1e300, 2.0], [1.0, 2.0]], "NaN or infinity in 1 of 2"),
        ([[1.0, None], [1.0, 2.0]], "NaN or infinity in 1 of 2"),
        ([[0.0, 0.0], [1.0, 2.0]], "1 zero vectors for 2 texts"),
        ([[1.0, 2.0], [1.0]], "found dimensions 1, 2"),
        ([[], []], r"shape \(2, 0\)"),
        ([1.0, 2.0], r"shape \(2,\)"),
        ([[[1.0]], [[2.0]]], r"shape \(2, 1, 1\)"),
        (None, r"shape \(\)"),
        (["a", "b"], "no matrix of numbers"),
    ],
)
def test_what_is_not_one_vector_per_text_is_refused(path: Path, vectors: Any, message: str) -> None:
    with pytest.raises(EmbeddingError, match=message):
        checked_vectors(vectors, 2)
    with EmbeddingStore(path) as store:
        with pytest.raises(EmbeddingError, match=message):
            store.put("model", "query", ["a", "b"], vectors)
        assert store.count() == 0


def test_an_unknown_role_is_refused(path: Path) -> None:
    with EmbeddingStore(path) as store, pytest.raises(InvalidOptionError, match="role is 'doc'"):
        store.put("model", "doc", ["a"], [[1.0]])  # type: ignore[arg-type]


def test_any_text_can_be_stored(path: Path) -> None:
    texts = ["", "\ud800 lone surrogate", "x" * 1_000_000, "é", "e\u0301", "nul \0 byte"]
    with EmbeddingStore(path) as store:
        store.put("model", "query", texts, [[float(n + 1)] for n in range(len(texts))])
        assert store.get("model", "query", texts).vectors[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_the_file_holds_no_text(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["marker-of-a-private-text"], [[1.0]])
        written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"marker" not in written


def test_the_default_file_lies_in_the_cache_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "new" / "cache"
    monkeypatch.setattr(store_module, "cache_directory", lambda: cache)
    with EmbeddingStore() as store:
        assert store.path == cache / "embeddings.sqlite3"
    assert store.path.is_file()


def test_a_closed_store_opens_again_when_used(path: Path) -> None:
    store = EmbeddingStore(path)
    store.put("model", "query", ["a"], [[1.0]])
    store.close()
    assert store.count() == 1
    store.close()


def test_threads_share_a_store(path: Path) -> None:
    barrier = threading.Barrier(6)
    failures: list[Exception] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for start in range(0, 200, 10):
                rows = slice(start, start + 10)
                store.put("model", "query", TEXTS[rows], VECTORS[rows])
                store.put(f"model {number}", "query", TEXTS[rows], VECTORS[rows])
        except Exception as error:
            failures.append(error)

    with EmbeddingStore(path) as store:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.count("model") == 200
        assert store.count() == 200 * 7


def _put_all(path: Path, number: int, barrier: Any) -> None:
    barrier.wait()
    with EmbeddingStore(path) as store:
        for start in range(0, 200, 10):
            store.put("model", "query", TEXTS[start : start + 10], np.full((10, 3), number + 1.0))


def test_processes_create_and_fill_one_file_together(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_put_all, args=(path, n, barrier)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with EmbeddingStore(path) as store:
        vectors, found = store.get("model", "query", TEXTS[:200])
    assert found.all()
    # Every batch is one process's, whole.
    for batch in vectors.reshape(20, 10, 3):
        assert np.unique(batch).size == 1


def _put_until_killed(path: Path, started: Any) -> None:
    with EmbeddingStore(path) as store:
        for start in range(0, len(TEXTS), 10):
            rows = slice(start, start + 10)
            store.put("model", "query", TEXTS[rows], VECTORS[rows])
            if start == 100:
                started.set()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_process_leaves_whole_batches(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_put_until_killed, args=(path, started))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    with EmbeddingStore(path) as store:
        vectors, found = store.get("model", "query", TEXTS)
        stored = int(found.sum())
        assert stored >= 110
        assert stored % 10 == 0
        np.testing.assert_array_equal(vectors[found], VECTORS[found])
        assert store.put("model", "query", TEXTS, VECTORS) == len(TEXTS) - stored


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_uses_its_own_connection(path: Path) -> None:
    store = EmbeddingStore(path)
    store.put("model", "query", ["parent"], [[1.0]])
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            store.put("model", "query", ["child"], [[2.0]])
            store.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.put("model", "query", ["parent again"], [[3.0]])
    vectors, found = store.get("model", "query", ["parent", "child", "parent again"])
    store.close()
    assert found.all()
    assert vectors[:, 0].tolist() == [1.0, 2.0, 3.0]


def in_a_child(work: Any) -> bool:
    """Fork, and return whether the child could do it; one that hangs is ended."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        signal.alarm(30)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_child_is_forked_while_a_thread_writes(path: Path, in_memory: bool) -> None:
    store = EmbeddingStore.in_memory() if in_memory else EmbeddingStore(path)
    store.put("model", "query", ["first"], [[1.0] * 5])
    ended = threading.Event()

    def write() -> None:
        for number in range(1_000_000):
            if ended.is_set():
                return
            names = [f"{number} {text}" for text in TEXTS[:20]]
            store.put("model", "passage", names, VECTORS[:20])

    def child(number: int) -> None:
        store.put("model", "query", [f"child {number}"], [[2.0] * 5])
        assert store.get("model", "query", ["first", f"child {number}"]).found.all()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_a_child(partial(child, number)) for number in range(15))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    names = [f"child {number}" for number in range(15)]
    assert store.get("model", "query", names).found.all() != in_memory
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_does_not_wait_long_for_a_thread(path: Path, monkeypatch: Any) -> None:
    """Such as one that waits until another process has written."""
    monkeypatch.setattr(forks, "LONGEST_WAIT", 0.05)
    store = EmbeddingStore(path)
    store.put("model", "query", ["first"], [[1.0]])
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store._file.transaction("DEFERRED"):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    assert in_a_child(lambda: store.put("model", "query", ["child"], [[2.0]]))
    leave.set()
    thread.join()
    assert store.get("model", "query", ["first", "child"]).found.all()
    store.close()


def test_a_store_that_stays_locked_is_reported(path: Path) -> None:
    store = EmbeddingStore(path, busy_seconds=0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnwritableFileError, match=r"stayed locked by another process for 0 sec"):
        store.put("model", "query", ["a"], [[1.0]])
    assert store.count() == 0  # reading goes on
    other.execute("ROLLBACK")
    store.put("model", "query", ["a"], [[1.0]])
    other.close()
    store.close()


def test_a_full_disk_is_reported_and_costs_only_the_batch(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", TEXTS[:10], VECTORS[:10])
        pages = store._file.connected().execute("PRAGMA page_count").fetchone()[0]
        store._file.connected().execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(UnwritableFileError, match=r"disk is full.*disk is not full"):
            store.put("model", "query", TEXTS, VECTORS)
        assert store.count() == 10
    with EmbeddingStore(path) as store:
        assert store.put("model", "query", TEXTS, VECTORS) == len(TEXTS) - 10


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 20])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidFileError, match=r"store\.sqlite3 is not a readable.*move this one"):
        EmbeddingStore(path)
    assert path.read_bytes() == content


def test_a_damaged_store_is_reported(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", TEXTS, VECTORS)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(InvalidFileError, match="not a readable embedding store"):
        EmbeddingStore(path).get("model", "query", TEXTS)


def corrupted(content: bytes, seed: int) -> bytes:
    """The content of a file with a flipped bit, garbage, a lost page, two exchanged, or cut off."""
    drawn, data = random.Random(seed), bytearray(content)
    pages = len(data) // 4096
    kind = seed % 5
    if kind == 0:
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
    elif kind == 1:
        start = drawn.randrange(len(data) - 64)
        data[start : start + 64] = drawn.randbytes(64)
    elif kind == 2:
        page = drawn.randrange(pages) * 4096
        data[page : page + 4096] = bytes(4096)
    elif kind == 3:
        one, two = (drawn.randrange(1, pages) * 4096 for _ in range(2))
        data[one : one + 4096], data[two : two + 4096] = (
            data[two : two + 4096],
            data[one : one + 4096],
        )
    else:
        del data[drawn.randrange(len(data)) :]
    return bytes(data)


def used(path: Path, expected: dict[tuple[str, Role], Any], texts: list[str]) -> str:
    """Ask a store for everything; return "error" when it says that it is damaged."""
    try:
        with EmbeddingStore(path) as store:
            for (model, role), vectors in expected.items():
                found = store.get(model, role, texts)
                rows = found.found
                if rows.any():
                    np.testing.assert_array_equal(found.vectors[rows], vectors[rows])
                store.claim(model, role, texts, "owner", 1.0)
                store.release("owner")
                store.put(model, role, texts[:3], vectors[:3])
                store.set_symmetric(model, model == "symmetric")
    except (InvalidFileError, UnwritableFileError):
        return "error"
    return "fine"


def test_no_corruption_gives_a_wrong_vector_or_an_error_of_sqlite(path: Path) -> None:
    """A role that is taken for another gives wrong vectors too, so there are two models."""
    texts, passages, queries = TEXTS[:90], VECTORS[:90], VECTORS[100:190]
    with EmbeddingStore(path) as store:
        for model, vectors in (("symmetric", passages), ("asymmetric", queries)):
            store.put(model, "passage", texts, passages)
            store.put(model, "query", texts, vectors)
            store.set_symmetric(model, model == "symmetric")
    expected: dict[tuple[str, Role], Any] = {
        ("symmetric", "passage"): passages,
        ("symmetric", "query"): passages,
        ("asymmetric", "passage"): passages,
        ("asymmetric", "query"): queries,
    }
    whole = path.read_bytes()
    damaged = path.with_name("damaged.sqlite3")
    outcomes: Counter[str] = Counter()
    for seed in range(250):
        for ending in ("", "-wal", "-shm"):
            damaged.with_name(damaged.name + ending).unlink(missing_ok=True)
        damaged.write_bytes(corrupted(whole, seed))
        outcomes[used(damaged, expected, texts)] += 1
    assert outcomes["error"] > 100
    assert outcomes["fine"] > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE vector SET vector = x'0000'", "has 2 bytes, expected 8"),
        ("UPDATE vector SET vector = 7", "a vector is not a row of bytes"),
        ("UPDATE vector SET vector = x'0000803f00008040'", "does not fit its checksum"),
        ("UPDATE vector SET checksum = NULL", "does not fit its checksum"),
        ("UPDATE vector SET checksum = 'x'", "does not fit its checksum"),
        ("UPDATE model SET dimension = 1", "of a model does not fit its checksum"),
        ("UPDATE model SET symmetric = 1", "of a model does not fit its checksum"),
        ("UPDATE model SET dimension = -1", "of a model cannot be read"),
        ("UPDATE model SET dimension = 'two'", "of a model cannot be read"),
        ("UPDATE model SET symmetric = 3", "of a model cannot be read"),
        ("DELETE FROM unchecked", "does not say which rows have a checksum"),
        ("DROP TABLE unchecked", "not a readable embedding store"),
    ],
)
def test_what_was_changed_behind_the_store_is_reported(
    path: Path, change: str, message: str
) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["a"], [[1.0, 2.0]])
        store._file.connected().execute(change)
        with pytest.raises(InvalidFileError, match=message):
            store.get("model", "query", ["a"])


def test_a_damaged_row_stays_damaged_when_roles_are_shared(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["a"], [[1.0, 2.0]])
        store._file.connected().execute("UPDATE vector SET vector = x'0000803f00008040'")
        with pytest.raises(InvalidFileError, match="does not fit its checksum"):
            store.set_symmetric("model", True)


FORMAT_1 = """
CREATE TABLE model (
    id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, dimension INTEGER, symmetric INTEGER);
CREATE TABLE vector (
    model INTEGER NOT NULL REFERENCES model (id), role TEXT NOT NULL,
    text_sha256 BLOB NOT NULL, vector BLOB NOT NULL, UNIQUE (model, role, text_sha256));
PRAGMA application_id = 0x4C494145;
PRAGMA user_version = 1;
"""


def write_format_1(path: Path, model_id: str, vectors: Any = VECTORS[:20]) -> None:
    """The file as the first version of this package left it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(FORMAT_1)
        dimension = vectors.shape[1]
        connection.execute("INSERT INTO model VALUES (1, ?, ?, NULL)", (model_id, dimension))
        for text, vector in zip(TEXTS, vectors, strict=False):
            digest = hashlib.sha256(text.encode()).digest()
            row = (1, "query", digest, vector.astype("<f4").tobytes())
            connection.execute("INSERT INTO vector VALUES (?, ?, ?, ?)", row)


def test_a_store_of_format_1_is_read_and_written_and_nothing_is_missing(path: Path) -> None:
    write_format_1(path, "model")
    with EmbeddingStore(path) as store:
        assert store.missing("model", "query", TEXTS[:21]) == [TEXTS[20]]
        store.put("model", "query", TEXTS[20:30], VECTORS[20:30])
        store.set_symmetric("model", True)
    with EmbeddingStore(path) as store:
        vectors, found = store.get("model", "passage", TEXTS[:30])
        assert found.all()
        np.testing.assert_array_equal(vectors, VECTORS[:30])
        # What is written from now on has a checksum, whatever the old rows lack.
        change = "UPDATE vector SET checksum = NULL, vector = zeroblob(20) WHERE rowid = 21"
        store._file.connected().execute(change)
        with pytest.raises(InvalidFileError, match="does not fit its checksum"):
            store.get("model", "passage", TEXTS[:30])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_what_is_no_vector_is_found_without_a_checksum_too(path: Path, value: float) -> None:
    vectors = VECTORS[:5].copy()
    vectors[3] = value
    write_format_1(path, "model", vectors)
    with EmbeddingStore(path) as store:
        assert store.get("model", "query", TEXTS[:3]).found.all()
        with pytest.raises(InvalidFileError, match="a vector is zero or not finite"):
            store.get("model", "query", TEXTS[:5])


def test_a_model_adopts_what_format_1_knew_by_another_identity(path: Path) -> None:
    write_format_1(path, "former")
    with EmbeddingStore(path) as store:
        store.put("new", "query", ["a"], [[1.0]])
        store.adopt("new", "former")  # it has rows of its own
        assert store.count("former") == 20
        store.adopt("other", "former")
        assert (store.count("former"), store.count("other")) == (0, 20)
        np.testing.assert_array_equal(store.get("other", "query", TEXTS[:20]).vectors, VECTORS[:20])
        store.adopt("third", "other")  # that is no identity of format 1
        assert store.count("other") == 20


def test_a_store_in_memory_lasts_as_long_as_it_is_open_or_closed() -> None:
    store = EmbeddingStore.in_memory()
    store.put("model", "query", ["a"], [[1.0]])
    store.close()
    assert store.get("model", "query", ["a"]).found.all()
    assert (store.path, str(store)) == (None, "the memory of this process")
    assert EmbeddingStore.in_memory().count() == 0


def test_a_claimed_text_is_left_to_its_owner_until_it_is_given_up(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store.put("model", "query", ["stored"], [[1.0]])
        texts = ["stored", "a", "b"]
        claim = partial(store.claim, "model", "query")
        assert claim(texts, "one", 60.0) == ["stored", "claimed", "claimed"]
        assert claim(texts, "two", 60.0) == ["stored", "held", "held"]
        assert claim(texts, "one", 60.0) == ["stored", "claimed", "claimed"]
        assert store.claim("model", "passage", texts, "two", 60.0) == ["claimed"] * 3
        assert store.claim("other", "query", texts, "two", 60.0) == ["claimed"] * 3
        store.put("model", "query", ["a"], [[2.0]])
        assert claim(texts, "two", 60.0) == ["stored", "stored", "held"]
        store.release("one")
        assert claim(texts, "two", 60.0) == ["stored", "stored", "claimed"]


def test_a_claim_ends_by_itself_is_renewed_and_falls_with_its_owner(path: Path) -> None:
    with EmbeddingStore(path) as store:
        claim = partial(store.claim, "model", "query", ["a"])
        claim("one", -1.0)
        assert claim("two", 60.0) == ["claimed"]
        claim("three", 0.5)
        store.renew("two", -1.0)
        assert claim("three", 60.0) == ["claimed"]
        assert claim("four", 60.0, is_gone=lambda owner: owner != "three") == ["held"]
        assert claim("four", 60.0, is_gone=lambda owner: owner == "three") == ["claimed"]
        # A time that nobody writes is damage, and nobody waits for it.
        store._file.connected().execute("UPDATE claim SET expires = 1e300")
        assert claim("five", 60.0) == ["claimed"]


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InvalidFileError, match="another program"):
        EmbeddingStore(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(path: Path) -> None:
    with EmbeddingStore(path) as store:
        store._file.connected().execute("PRAGMA user_version = 7")
    with pytest.raises(InvalidFileError, match=r"format version 7.*reads up to 2\. Upgrade"):
        EmbeddingStore(path)


def test_a_place_that_cannot_hold_the_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="none of the embedding store does not exist"):
        EmbeddingStore(tmp_path / "none" / "store.sqlite3")
    with pytest.raises(InvalidFileError, match="is a folder; name a file in it"):
        EmbeddingStore(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UnwritableFileError, match=r"store.sqlite3 cannot be opened.*writable"):
        EmbeddingStore("/proc/store.sqlite3")


def test_a_cache_directory_that_cannot_be_created_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(store_module, "cache_directory", lambda: tmp_path / "file" / "cache")
    with pytest.raises(UnwritableFileError, match=r"cache cannot be created.*Name a file"):
        EmbeddingStore()
