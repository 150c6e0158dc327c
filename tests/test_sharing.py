"""Full disks, folders that cannot be written, and several at once."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import TextNode

from llama_index_adapters import EmbeddingQAFinetuneDataset, generate_qa_embedding_pairs
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.errors import UnwritableFileError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.questions.generation.journal import Entry, Journal
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding, ScriptedLLM

FULL = """
import resource, signal, sys
from pathlib import Path
from llama_index.core.schema import TextNode
from llama_index_adapters import EmbeddingQAFinetuneDataset, generate_qa_embedding_pairs
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.errors import UnwritableFileError
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding, ScriptedLLM

folder, long = Path(sys.argv[1]), "long " * 20_000

def save():
    save_adapter(folder / "adapter", LinearAdapter(512))

def embed():
    with EmbeddingStore(folder / "store.sqlite3") as store:
        model = CountingEmbedding(dimension=2000, embed_batch_size=10)
        texts = [str(number) for number in range(200)]
        Embedder(model, store, show_progress=False).texts(texts, "passage")

def write():
    parts = {"queries": {"q": long}, "corpus": {"p": "one"}, "relevant_docs": {"q": ["p"]}}
    EmbeddingQAFinetuneDataset(**parts).save_json(folder / "set.json")

def generate():
    nodes = [TextNode(id_=str(number), text=f"{number} {long}") for number in range(4)]
    llm = ScriptedLLM(lambda prompt: f"What is {long}?")
    generate_qa_embedding_pairs(nodes, llm, output_path=folder / "new.json", verbose=False)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
for job in (save, embed, write, generate):
    try:
        job()
    except UnwritableFileError as error:
        print(f"{job.__name__}: {error}")
"""


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", LinearAdapter(4))
    before = load_saved(tmp_path / "adapter").fingerprint
    write_text(tmp_path / "set.json", "old")
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    save, embed, write, generate = ended.stdout.splitlines()
    assert "save: The adapter could not be written" in save
    assert "what was there is as it was" in save
    assert "embed: The embedding store" in embed
    assert "disk is not full" in embed
    assert f"write: {tmp_path / 'set.json'} cannot be written" in write
    assert "generate: " in generate
    assert "what it holds is not asked again" in generate
    assert load_saved(tmp_path / "adapter").fingerprint == before
    assert (tmp_path / "set.json").read_text() == "old"
    assert not list(tmp_path.glob(".*"))
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        kept = store.count()
        model = CountingEmbedding(dimension=2000, embed_batch_size=10)
        texts = [str(number) for number in range(200)]
        found = Embedder(model, store, show_progress=False).texts(texts, "passage").vectors
    assert len(model.texts) == 200 - kept
    np.testing.assert_array_equal(found, np.float32([model.vector(text) for text in texts]))


@pytest.mark.parametrize("path", ["/proc/set.json", "/dev/null/set.json"])
def test_a_folder_that_cannot_be_written_is_named(path: str) -> None:
    with pytest.raises(UnwritableFileError, match=f"{path} cannot be written"):
        write_text(path, "text")
    node, llm = TextNode(text="text"), ScriptedLLM()
    with pytest.raises(UnwritableFileError, match="where questions are kept, cannot be written"):
        generate_qa_embedding_pairs([node], llm, output_path=path, verbose=False)
    assert not llm.prompts  # found before anything is paid for


def _embed_all(path: str, number: int) -> None:
    model = CountingEmbedding(embed_batch_size=3)
    texts = [str((text + 7 * number) % 40) for text in range(40)]
    with EmbeddingStore(path) as store:
        found = Embedder(model, store, show_progress=False).texts(texts, "passage").vectors
    np.testing.assert_array_equal(found, np.float32([model.vector(text) for text in texts]))


def _save_all(path: str, number: int) -> None:
    for round_ in range(10):
        save_adapter(path, LinearAdapter(4 + (number + round_) % 3))
        load_saved(path)


def _write_all(path: str, number: int) -> None:
    for _ in range(10):
        parts = {"queries": {"q": f"{number}" * 5000}, "corpus": {"p": "one"}}
        EmbeddingQAFinetuneDataset(**parts, relevant_docs={"q": ["p"]}).save_json(path)
        EmbeddingQAFinetuneDataset.from_json(path)


JOBS: dict[str, Any] = {"store": _embed_all, "adapter": _save_all, "set": _write_all}


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("job", JOBS)
def test_several_share_one_path(job: str, kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / job)
    failures: list[BaseException] = []
    if kind == "processes":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.test_sharing"])
        processes = [context.Process(target=JOBS[job], args=(path, number)) for number in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * 4
    else:

        def run(number: int) -> None:
            try:
                JOBS[job](path, number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert not failures
    if job == "store":
        with EmbeddingStore(path) as store:
            assert store.count() == 40  # none lost, none twice
    else:
        assert [entry.name for entry in tmp_path.iterdir()] == [job]


def _hold(path: str, ready: Any) -> None:
    with Journal(Path(path)) as journal:
        journal.append(Entry("n", "0", {"q": "why?"}, ""))
        ready.set()
        signal.pause()


def test_the_lock_on_questions_dies_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "set.json.progress.jsonl"
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    owner = context.Process(target=_hold, args=(str(path), ready))
    owner.start()
    assert ready.wait(60)
    node, llm = TextNode(text="text"), ScriptedLLM()
    with pytest.raises(UnwritableFileError, match=r"in use: .*give another output_path"):
        generate_qa_embedding_pairs([node], llm, output_path=tmp_path / "set.json", verbose=False)
    assert not llm.prompts
    owner.kill()
    owner.join(20)
    with Journal(path) as journal:
        assert journal.find("n", ["0"]) is not None
