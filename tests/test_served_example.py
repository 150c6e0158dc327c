"""The example application: asked by many, asked for nonsense; started, killed, started again."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
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
        ("a\0b", 422),
        ("'; DROP TABLE data_passages; --", 200),
        ("\u202e\u2028 \N{EAGLE}", 200),
        (b"\xed\xa0\xbd", 422),  # half an emoji
        (b"\xff\xfe", 422),
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
        ("GET /search?query[]=x", 422),
        ("GET /search?query=x&query=y", 422),
        ("GET /search?query=x&top_k=1000000", 422),
        ("GET /search?query=x&model=base&model=adapted", 422),
        ("GET /search?%ff=%ff", 422),
        ("GET /search?query=x&%00=%ed%a0%bd", 422),
        ("POST /search?query=x", 405),
        ("DELETE /search?query=x", 405),
        ("BREW /search?query=x", 405),
        ("GET /../search.py", 404),
        ("GET /%00", 404),
        ("GET //search?query=x", 404),
    ],
)
def test_another_request_is_refused(client, request_line, status):
    answer = client.request(*request_line.split())
    assert answer.status_code == status
    assert answer.json()["detail"]


BODIES = {
    "no JSON": (b'{"query":', {"content-type": "application/json"}),
    "deep JSON": (b"[" * 100_000, {"content-type": "application/json"}),
    "a query that is no text": (b'{"query": [1]}', {"content-type": "application/json"}),
    "half an emoji": (b'{"query": "\\ud83d"}', {"content-type": "application/json"}),
    "another type": (b"<query>x</query>", {"content-type": "application/xml"}),
    "no type": (b"\0\xff", {}),
    "much": (b"x" * 5_000_000, {"content-type": "text/plain"}),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_refused(client, name):
    content, headers = BODIES[name]
    for method in ("GET", "POST"):
        answer = client.request(method, "/search?query=x", content=content, headers=headers)
        assert answer.status_code == 413
        assert "body" in answer.json()["detail"]


@pytest.fixture
def address(client):
    """The same application, served on loopback as the example serves it."""
    import uvicorn

    from examples.served.app import LIMITS

    config = uvicorn.Config(client.app, port=0, log_level="critical", lifespan="off", **LIMITS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = server.force_exit = True
    thread.join(10)


def said(connection: socket.socket, sent: bytes) -> str:
    """What the server answers to bytes, in its first line."""
    with contextlib.suppress(ConnectionError):  # it may close before everything was sent
        connection.sendall(sent)
    return connection.recv(65536).decode("latin-1").partition("\r\n")[0]


@pytest.mark.server
def test_what_is_no_request_is_refused_and_nobody_waits(address, subtests):
    head = b"GET /search?query=x HTTP/1.1\r\nHost: a\r\n"
    stopped = socket.create_connection(address, timeout=30)
    stopped.sendall(head)  # and nothing more
    for name, sent, status in (
        ("a good one", head + b"\r\n", 200),
        ("no HTTP", b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        ("a head of a megabyte", head + b"a: " + b"x" * 1_000_000, 400),
        ("an address of a megabyte", b"GET /search?query=" + b"x" * 1_000_000, 400),
        ("a body that never comes", head + b"Content-Length: 1000000000\r\n\r\n", 413),
        ("a length that is none", head + b"Content-Length: -1\r\n\r\n", 400),
        ("chunks that never end", head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n", 413),
        ("a NUL in a header", head + b"a: \0\r\n\r\n", 400),
        ("another version", b"GET / HTTP/9.9\r\n\r\n", 404),
        ("a good one again", head + b"\r\n", 200),
    ):
        with subtests.test(name), socket.create_connection(address, timeout=30) as connection:
            assert said(connection, sent).split()[1] == str(status)
    stopped.close()


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
