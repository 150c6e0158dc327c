"""The example application: asked by many, asked for nonsense; started, killed, started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode

from llama_index_adapters import AdapterEmbeddingModel, LinearAdapter
from llama_index_adapters.adapters.disk.save import save_adapter
from tests.documents import ROOT
from tests.fakes import CountingEmbedding, WordsEmbedding
from tests.house_names import unseen_questions

TEXTS = [f"text {number}" for number in range(20)]
needs_postgres = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="pgserver has wheels up to Python 3.12"
)


@pytest.fixture
def client(tmp_path):
    """The application over an index in memory, without a server."""
    from fastapi.testclient import TestClient

    from examples.served.app import create_app

    base = CountingEmbedding()
    index = VectorStoreIndex([TextNode(id_=text, text=text) for text in TEXTS], embed_model=base)
    save_adapter(tmp_path / "adapter", LinearAdapter(8))
    models = {"base": base, "adapted": AdapterEmbeddingModel(base, tmp_path / "adapter")}
    retrievers = {name: index.as_retriever(embed_model=model) for name, model in models.items()}
    with TestClient(create_app(retrievers)) as client:
        yield client


def test_many_at_once_get_what_each_gets_alone(client):
    def ask(number: int) -> list:
        words = {"query": TEXTS[number % 20], "model": ("base", "adapted")[number % 2]}
        return client.get("/search", params=words).json()

    alone = [ask(number) for number in range(20)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(200))) == alone * 10


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        (" \n\t", 422),
        ("x" * 1001, 422),
        ("x" * 1000, 200),
        ("a\0b", 200),
        ("'; DROP TABLE data_passages; --", 200),
        ("\u202e\u2028 \N{EAGLE}", 200),
        (b"\xed\xa0\xbd", 200),  # half an emoji
        (b"\xff\xfe", 200),
    ],
)
def test_a_query_is_answered_or_refused(client, query, status):
    answer = client.get(f"/search?query={urllib.parse.quote(query)}")
    assert answer.status_code == status
    assert status != 200 or len(answer.json()) == 2


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /search", 422),
        ("GET /search?query=x&model=../../etc/passwd", 422),
        ("POST /search?query=x", 405),
        ("GET /../search.py", 404),
    ],
)
def test_another_request_is_refused(client, request_line, status):
    assert client.request(*request_line.split()).status_code == status


@pytest.mark.server
@needs_postgres
def test_both_models_answer_from_one_table(tmp_path, monkeypatch):
    import pgserver
    from fastapi.testclient import TestClient

    from examples.served import search
    from examples.served.app import create_app

    monkeypatch.setattr(search, "local_embedding", WordsEmbedding)
    try:
        client = TestClient(create_app(search.open_retrievers(tmp_path)))
        assert client.get("/health").json() == {"status": "ready"}

        def get(path: str, **words: str):
            return client.get(path, params=words).json()

        first = answers(get)
        assert correct(first, "adapted") > correct(first, "base")
        client = TestClient(create_app(search.open_retrievers(tmp_path)))  # what is there is used
        assert answers(get) == first
        assert "(36 rows)" in table(pgserver, tmp_path)
    finally:
        pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop").cleanup()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def started(data):
    """The application in a process of its own; killed at the end, without a chance to tidy up."""
    port = free_port()
    command = [sys.executable, "-m", "examples.served", "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:

        def get(path: str, **words: str):
            address = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(words)}"
            with urllib.request.urlopen(address, timeout=60) as answer:
                return json.load(answer)

        for _ in range(1200):
            assert process.poll() is None, "the application has ended"
            try:
                get("/health")
                break
            except urllib.error.URLError:
                time.sleep(0.25)
        yield get
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def answers(get, *, at_once: int = 1) -> dict[str, list]:
    pairs = [(model, text) for model in ("base", "adapted") for text in unseen_questions()]

    def ask(pair: tuple[str, str]) -> list:
        return get("/search", query=pair[1], model=pair[0])

    with ThreadPoolExecutor(at_once) as pool:
        return {
            " ".join(pair): found for pair, found in zip(pairs, pool.map(ask, pairs), strict=True)
        }


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.local_model
@needs_postgres
def test_killed_and_started_again_it_answers_the_same(tmp_path):
    import pgserver

    data = tmp_path / "data"
    try:
        with started(data) as get:
            before = answers(get)
        trained = (data / "adapter" / "model.safetensors").stat().st_mtime_ns
        stored = table(pgserver, data)
        with started(data) as get:
            assert answers(get, at_once=32) == before
        assert (data / "adapter" / "model.safetensors").stat().st_mtime_ns == trained
        assert table(pgserver, data) == stored
    finally:
        pgserver.get_server(data / "postgres", cleanup_mode="stop").cleanup()

    assert correct(before, "adapted") == len(unseen_questions())
    assert correct(before, "base") <= 2


def correct(answered, model: str) -> int:
    """How many questions of no training have their answer first."""
    return sum(
        answered[f"{model} {question}"][0]["id"] == passage
        for question, passage in unseen_questions().items()
    )


def table(pgserver, data) -> str:
    """Every row with its vector, as the database writes it."""
    server = pgserver.get_server(data / "postgres", cleanup_mode=None)
    rows = server.psql("SELECT node_id, embedding FROM data_passages ORDER BY id")
    assert "(36 rows)" in rows
    return rows
