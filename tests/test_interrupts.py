"""Ctrl-C: after one signal nothing more is asked, and nothing is waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.embeddings.openai import OpenAIEmbedding

from llama_index_adapters.questions.generation import run
from llama_index_adapters.questions.generation.generate import (
    agenerate_qa_embedding_pairs,
    generate_qa_embedding_pairs,
)
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.faulty_openai import KEY, FaultyOpenAI, llm_of, model_of, serving

pytestmark = pytest.mark.server

TEXTS = [f"text number {number}" for number in range(40)]
WORKERS = 2
# Less than any wait that a server asks for below.
LONG_ENOUGH = 60


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyOpenAI]:
    with serving() as app:
        yield app


@pytest.fixture(autouse=True)
def keyboard() -> Iterator[None]:
    # Processes of pytest-xdist ignore the keyboard.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "cache_directory", lambda: tmp_path)


def embed(model: OpenAIEmbedding, store: EmbeddingStore) -> None:
    Embedder(model, store, show_progress=False).texts(TEXTS, "passage")


def embedding(server: FaultyOpenAI, **options: Any) -> Callable[[], object]:
    model = model_of(server, **{"num_workers": WORKERS, **options})
    return lambda: embed(model, EmbeddingStore.in_memory())


def generating(server: FaultyOpenAI, **options: Any) -> Callable[[], object]:
    nodes = [TextNode(text=text, id_=text) for text in TEXTS]
    llm = llm_of(server, **options)
    return lambda: generate_qa_embedding_pairs(
        nodes, llm, "{context_str}", num_workers=WORKERS, retry_limit=9, verbose=False
    )


def generating_in_a_loop(server: FaultyOpenAI, **options: Any) -> Callable[[], object]:
    nodes = [TextNode(text=text, id_=text) for text in TEXTS]
    llm = llm_of(server, **options)
    return lambda: asyncio.run(
        agenerate_qa_embedding_pairs(
            nodes, llm, "{context_str}", num_workers=WORKERS, retry_limit=9, verbose=False
        )
    )


CALLS = {
    "embedding": embedding,
    "generating": generating,
    "generating in a loop": generating_in_a_loop,
}


def interrupted(call: Callable[[], object], server: FaultyOpenAI, after: int = WORKERS) -> int:
    """Send one SIGINT when so many requests have come; return how many had come by then."""
    seen = []

    def interrupt() -> None:
        while len(server.requests) < after:
            time.sleep(0.01)
        time.sleep(0.1)  # answers are on their way, and read
        seen.append(len(server.requests))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    thread.join()
    return seen[0]


def waiting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "requests"]


def test_a_wait_ends_and_nothing_more_is_asked(server, subtests, cache):
    """The server asks to wait for longer than the test may take."""
    for name, call in CALLS.items():
        with subtests.test(call=name):
            server.plan(always="429 for ten minutes")
            seen = interrupted(call(server), server)
            assert seen == len(server.requests) == WORKERS
            assert not waiting_threads()


def test_a_model_that_tries_again_by_itself_sends_nothing_more(server, subtests, cache):
    """As in a notebook, whose process goes on after the interrupt."""
    for name, call in CALLS.items():
        for wait in ("500", "429 for 2 seconds"):
            with subtests.test(call=name, wait=wait):
                server.plan(always=wait)
                seen = interrupted(call(server, max_retries=10), server)
                for thread in waiting_threads():
                    thread.join(LONG_ENOUGH)
                    assert not thread.is_alive()
                assert len(server.requests) == seen


def test_a_notebook_s_interrupt_is_noticed_by_a_loop_that_sleeps(server, cache):
    """ipykernel cancels an awaiting cell by a callback that does not wake the loop."""

    async def cell() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(
            agenerate_qa_embedding_pairs(
                [TextNode(text=text, id_=text) for text in TEXTS],
                llm_of(server),
                "{context_str}",
                num_workers=WORKERS,
                verbose=False,
            )
        )
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon(task.cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        raise KeyboardInterrupt

    server.plan(always="429 for ten minutes")
    assert interrupted(lambda: asyncio.run(cell()), server) == WORKERS
    assert len(server.requests) == WORKERS


def test_what_is_under_way_is_kept_if_it_comes_soon(server):
    server.plan(always="slow")
    server.hang = 0.4
    model = model_of(server, num_workers=WORKERS)
    with EmbeddingStore.in_memory() as store:
        interrupted(lambda: embed(model, store), server)
        assert len(server.requests) == WORKERS
        server.plan()
        embed(model, store)
        assert sum(map(len, server.requests)) == len(TEXTS) - WORKERS * model.embed_batch_size


def test_what_does_not_come_soon_is_given_up(server, cache, subtests):
    server.hang = 2.5
    for name, call in CALLS.items():
        with subtests.test(call=name):
            server.plan(always="slow")
            seen = interrupted(call(server), server)
            assert server.served == []  # it was not waited for
            for thread in waiting_threads():
                thread.join(LONG_ENOUGH)
                assert not thread.is_alive()
            assert len(server.requests) == seen


def test_the_model_and_the_store_serve_on(server, tmp_path):
    """What was given up leaves neither a lock nor a claim nor a hook behind."""
    server.plan("slow", "slow")
    server.hang = 2.5
    model = model_of(server, num_workers=WORKERS)
    hooks = model._get_client()._client.event_hooks
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        interrupted(lambda: embed(model, store), server)
        assert hooks == {"request": [], "response": []}
        embed(model, store)
    assert set(server.served) >= set(TEXTS)


PROGRAM = """
import sys
from llama_index_adapters.vectors.embed import Embedder
from tests.faulty_openai import KEY
from llama_index.embeddings.openai import OpenAIEmbedding
texts = [f"text number {number}" for number in range(40)]
model = OpenAIEmbedding(
    api_base=sys.argv[1], api_key=KEY, embed_batch_size=4, num_workers=2, max_retries=10
)
Embedder(model, sys.argv[2]).texts(texts, "passage")
"""


COMMAND = "import sys; from llama_index_adapters.cli import main; sys.exit(main())"


def ended_by_one_signal(
    arguments: list[str], server: FaultyOpenAI, **environment: str
) -> tuple[int, str]:
    """Run a program, interrupt it once; return its exit status and what it said."""
    program = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not server.requests:
            assert program.poll() is None, program.communicate()[0]
            time.sleep(0.01)
        time.sleep(0.2)
        seen = len(server.requests)
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=15)[0]  # the server said: 20 or 600 seconds
    finally:
        program.kill()
    assert len(server.requests) == seen
    return program.returncode, said


def test_a_program_ends_although_its_model_sleeps(server, tmp_path):
    server.plan(always="429 for 20 seconds")
    status, said = ended_by_one_signal(
        [sys.executable, "-c", PROGRAM, server.url, str(tmp_path / "store.sqlite3")], server
    )
    assert "KeyboardInterrupt" in said
    assert status in (-signal.SIGINT, 130)


def test_a_command_ends_with_one_line(server, tmp_path):
    server.plan(always="429 for 20 seconds")
    (tmp_path / "docs").mkdir()
    for number in range(4):
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Title {number}\n\nText {number}.\n")
    status, said = ended_by_one_signal(
        [
            *(sys.executable, "-c", COMMAND, "generate"),
            *(str(tmp_path / "docs"), "-o", str(tmp_path / "train.json")),
        ],
        server,
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=server.url,
        OPENAI_API_BASE=server.url,
    )
    assert status == 130
    assert said.splitlines()[-1].startswith("llama-index-adapters: Interrupted.")
    assert "Traceback" not in said
