"""Files of benchmarks are read where the user says, or fetched and checked."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import fetch
from benchmarks.data import load_texts
from benchmarks.fetch import Source, data_folder
from llama_index_adapters.errors import InvalidFileError, MissingFileError

SET = '{"queries": {"q": "who?"}, "corpus": {"p": "me"}, "relevant_docs": {"q": ["p"]}}'
SHA256 = hashlib.sha256(SET.encode()).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder on loopback; ``server.asked`` lists what was asked for."""
    monkeypatch.delenv("LLAMA_INDEX_ADAPTERS_DATA", raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "set.json").write_text(SET)
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.asked = asked
    server.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sources(server, file="set.json", sha256=SHA256):
    source = Source(server.url + file, sha256)
    return {"tenk": {"tenk.train.json": source, "tenk.test.json": source}}


@pytest.mark.server
def test_a_set_is_fetched_once_and_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SOURCES", sources(server))
    folder = data_folder("tenk", cache=tmp_path / "cache")
    assert load_texts("tenk", folder).train.queries == {"q": "who?"}
    assert server.asked == ["/set.json", "/set.json"]
    assert data_folder("tenk", cache=tmp_path / "cache") == folder
    assert len(server.asked) == 2


@pytest.mark.server
def test_other_bytes_are_refused_and_not_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SOURCES", sources(server, sha256="0" * 64))
    with pytest.raises(InvalidFileError, match=r"is not tenk\.train\.json: its sha"):
        data_folder("tenk", cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "tenk.train.json").exists()


@pytest.mark.server
def test_a_file_changed_on_disk_is_fetched_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SOURCES", sources(server))
    folder = data_folder("tenk", cache=tmp_path / "cache")
    (folder / "tenk.test.json").write_text("{}")
    data_folder("tenk", cache=folder)
    assert (folder / "tenk.test.json").read_text() == SET


@pytest.mark.server
def test_an_absent_file_says_what_to_do(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SOURCES", sources(server, file="gone.json"))
    with pytest.raises(MissingFileError, match=r"gone\.json \(404.*LLAMA_INDEX_ADAPTERS_DATA"):
        data_folder("tenk", cache=tmp_path / "cache")


@pytest.mark.server
def test_a_server_that_is_not_there_says_what_to_do(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SOURCES", sources(server))
    server.shutdown()
    server.server_close()
    with pytest.raises(MissingFileError, match=r"cannot be fetched.*LLAMA_INDEX_ADAPTERS_DATA"):
        data_folder("tenk", cache=tmp_path / "cache")


def test_a_named_folder_comes_before_the_web(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_INDEX_ADAPTERS_DATA", str(tmp_path))
    monkeypatch.setattr(fetch, "SOURCES", {"tenk": {"x": Source("http://127.0.0.1:9/", "0" * 64)}})
    assert data_folder("tenk") == tmp_path


def test_a_set_that_is_built_says_how(monkeypatch):
    monkeypatch.delenv("LLAMA_INDEX_ADAPTERS_DATA", raising=False)
    assert data_folder("tldr") is None
    with pytest.raises(MissingFileError, match=r"python -m benchmarks\.tldr_pages"):
        load_texts("tldr", data_folder("tldr"))
