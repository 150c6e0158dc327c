"""The stop button of a notebook: one interrupt ends the cell, and the next one runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.documents import ROOT
from tests.faulty_openai import KEY, FaultyOpenAI, serving

pytestmark = pytest.mark.server

# Starting a kernel takes seconds; the waits that the server asks for take ten minutes.
LONG_ENOUGH = 60
WORKERS = 2
SETUP = """
from llama_index.core.schema import TextNode
from tests.faulty_openai import FaultyOpenAI, llm_of, model_of
from llama_index_adapters.questions.generation import run
from llama_index_adapters.questions.generation.generate import (
    agenerate_qa_embedding_pairs, generate_qa_embedding_pairs,
)
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from pathlib import Path
server = FaultyOpenAI()
server.url = {url!r}
run.cache_directory = lambda: Path({cache!r})
texts = [f"text number {{number}}" for number in range(40)]
nodes = [TextNode(text=text, id_=text) for text in texts]
model = model_of(server, num_workers={workers})
options = dict(num_workers={workers}, retry_limit=9, verbose=False)
llm = llm_of(server)
"""
CELLS = {
    "embedding": (
        'Embedder(model, EmbeddingStore.in_memory(), show_progress=False).texts(texts, "passage")'
    ),
    "generating": 'generate_qa_embedding_pairs(nodes, llm, "{context_str}", **options)',
    "generating, awaited": (
        'await agenerate_qa_embedding_pairs(nodes, llm, "{context_str}", **options)'
    ),
}


class Notebook:
    """A kernel, and what its cells said."""

    def __init__(self, manager: Any) -> None:
        self.manager, self.client = manager, manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LONG_ENOUGH)

    def answer(self, cell: str) -> dict[str, Any]:
        """Run a cell to its end."""
        return self.ended(self.client.execute(cell))

    def ended(self, cell: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=LONG_ENOUGH)
            if message["parent_header"].get("msg_id") == cell:
                content: dict[str, Any] = message["content"]
                return content


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyOpenAI]:
    with serving() as app:
        yield app


@pytest.fixture(scope="module")
def notebook(server: FaultyOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    jupyter = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    manager = jupyter.KernelManager(kernel_name="python3")
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    manager.start_kernel(cwd=str(ROOT), env=environment)
    try:
        notebook = Notebook(manager)
        cache = tmp_path_factory.mktemp("cache")
        setup = SETUP.format(url=server.url, cache=str(cache), workers=WORKERS)
        assert notebook.answer(setup)["status"] == "ok"
        yield notebook
        notebook.client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_one_interrupt_ends_a_cell(notebook, server, subtests):
    for name, cell in CELLS.items():
        with subtests.test(cell=name):
            server.plan(always="429 for ten minutes")
            # Else the kernel drops for a moment what is sent after a cell that ended so.
            running = notebook.client.execute(cell, stop_on_error=False)
            deadline = time.monotonic() + LONG_ENOUGH
            while len(server.requests) < WORKERS:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.2)  # answers are on their way, and read
            notebook.manager.interrupt_kernel()
            assert notebook.ended(running)["ename"] in ("KeyboardInterrupt", "CancelledError")
            assert notebook.answer("1 + 1")["status"] == "ok"
            assert len(server.requests) == WORKERS
