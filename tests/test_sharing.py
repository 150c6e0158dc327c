"""Full disks, folders that cannot be written, and several at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from llama_index.core.schema import TextNode

from llama_index_adapters import EmbeddingQAFinetuneDataset, generate_qa_embedding_pairs
from llama_index_adapters.adapters.disk import read
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.errors import InvalidAdapterError, UnwritableFileError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.files.temporary import neighbour
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


# An adapter in a directory that stays: its files are replaced one by one


def _save_inside(path: str, number: int) -> None:
    os.chdir(path)
    _save_all(".", number)
    assert Path.cwd() == Path(path)


def _stop_at(path: str, renames: int) -> None:
    """Save into the current directory and be killed at one of the renames."""
    os.chdir(path)
    replace, seen = Path.replace, []

    def killed(self: Path, to: Path) -> Path:
        if len(seen) == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(to)
        return replace(self, to)

    with patch.object(Path, "replace", killed):
        save_adapter(path, LinearAdapter(8))


def _names(folder: Path | str) -> list[str]:
    return sorted(entry.name for entry in Path(folder).iterdir())


def _in_a_process(job: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_sharing"])
    process = context.Process(target=job, args=arguments)
    process.start()
    return process


def test_several_save_into_one_directory_that_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "adapter")
    save_adapter(path, LinearAdapter(4))
    inode = Path(path).stat().st_ino
    savers = [_in_a_process(_save_inside, path, number) for number in range(3)]
    while any(saver.is_alive() for saver in savers):
        load_saved(path)  # whatever moment it is, the adapter is whole
    assert [saver.exitcode for saver in savers] == [0] * 3
    assert Path(path).stat().st_ino == inode
    assert _names(path) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(("renames", "dimension"), [(0, 4), (1, 4), (2, 8)])
def test_a_kill_between_two_files_leaves_a_whole_adapter(
    renames: int, dimension: int, tmp_path: Path
) -> None:
    path = tmp_path / "adapter"
    save_adapter(path, LinearAdapter(4))
    killed = _in_a_process(_stop_at, str(path), renames)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert load_saved(path).transform.query_dim == dimension
    assert len(_names(path)) == 7 - renames  # three files, what is to replace them, and a whole set
    require_own_directory(path)
    again = _in_a_process(_save_inside, str(path), 1)
    again.join(60)
    assert again.exitcode == 0
    assert _names(path) == ["README.md", "config.json", "model.safetensors"]


def test_a_pending_directory_elsewhere_is_not_read(tmp_path: Path) -> None:
    path, outside = tmp_path / "adapter", tmp_path / "outside"
    other = LinearAdapter(4)
    other.load_arrays({"linear.weight": np.diag(np.float32([1, 2, 3, 4]))})
    save_adapter(path, LinearAdapter(4))
    save_adapter(outside, other)
    shutil.copy(outside / "config.json", path)
    neighbour(path / "new", "tmp").symlink_to(outside)
    with pytest.raises(InvalidAdapterError, match="do not belong together"):
        load_saved(path)


def test_llamaindex_s_config_is_not_read_with_the_weights_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, of_llamaindex = tmp_path / "adapter", LinearAdapter(4)
    config = {"in_features": 4, "out_features": 4, "bias": False}
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    torch.save(of_llamaindex.state_dict(), path / "pytorch_model.bin")
    read_config, written = read.read_config, []

    def replaced_meanwhile(directory: Path) -> Any:
        found = read_config(directory)
        if found == config:
            written.append(save_adapter(path, LinearAdapter(4)))
        return found

    monkeypatch.setattr(read, "read_config", replaced_meanwhile)
    assert [load_saved(path).fingerprint] == written


MOUNTED = """
import os, sys
from pathlib import Path
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.serving.saved import load_saved

folder = Path(sys.argv[1])
(folder / "volume" / "lost+found").mkdir()
for place in (folder / "bound", folder / "volume"):
    inode = place.stat().st_ino
    for dimension in (4, 8):
        require_own_directory(place)
        save_adapter(place, LinearAdapter(dimension))
        assert load_saved(place).transform.query_dim == dimension
    assert place.stat().st_ino == inode
    print(sorted(os.listdir(place)))
write_text(folder / "set.json", "new")
print((folder / "set.json").read_text())
"""


def test_mount_points(tmp_path: Path) -> None:
    mounts = 'cd "$1" && mount --bind bound bound && mount -t tmpfs none volume'
    program = f'{mounts} && mount --bind set.json set.json && exec "$2" -c "$3" "$1"'
    for name in ("bound", "volume"):
        (tmp_path / name).mkdir()
    (tmp_path / "set.json").write_text("old")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*command, mounts, "sh", tmp_path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here ({error}); test_atomic.py simulates it")
    ended = subprocess.run(
        [*command, program, "sh", tmp_path, sys.executable, MOUNTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.splitlines() == [
        "['README.md', 'config.json', 'model.safetensors']",
        "['README.md', 'config.json', 'lost+found', 'model.safetensors']",
        "new",
    ], ended.stderr
    assert _names(tmp_path) == ["bound", "set.json", "volume"]


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
