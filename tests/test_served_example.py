"""The example application: started by its command, killed, started again."""

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
from contextlib import contextmanager

import pytest

from tests.documents import ROOT
from tests.fakes import WordsEmbedding
from tests.house_names import unseen_questions

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="pgserver has wheels up to Python 3.12"),
]


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
        assert client.get("/search", params={"query": "x", "model": "other"}).status_code == 422
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


def answers(get) -> dict[str, list]:
    return {
        f"{model} {question}": get("/search", query=question, model=model)
        for model in ("base", "adapted")
        for question in unseen_questions()
    }


@pytest.mark.slow
@pytest.mark.local_model
def test_killed_and_started_again_it_answers_the_same(tmp_path):
    import pgserver

    data = tmp_path / "data"
    try:
        with started(data) as get:
            before = answers(get)
            with pytest.raises(urllib.error.HTTPError, match="422"):
                get("/search", query="Falcon", model="other")
        trained = (data / "adapter" / "model.safetensors").stat().st_mtime_ns
        stored = table(pgserver, data)
        with started(data) as get:
            assert answers(get) == before
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
