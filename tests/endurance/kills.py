"""Jobs that are killed at seeded points and started again, and what must hold afterwards.

A job runs in a process of its own. Every second kill comes at the n-th call of a Python or C
function, the others after a delay, which also falls into the middle of a system call.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import TextNode

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    generate_qa_embedding_pairs,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.questions.generation.journal import Journal
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding, ScriptedLLM, WordsEmbedding, synonym_questions

PASSAGES = [f"passage {number}" for number in range(24)]
QUERIES = [f"query {number}" for number in range(6)]
NODES = [TextNode(id_=f"n{number}", text=f"text {number}") for number in range(12)]


def generation(directory: Path) -> None:
    def answer(prompt: str) -> str:
        note(directory, prompt)
        return f"What is {prompt}?\nWhy {prompt}?"

    generate_qa_embedding_pairs(
        NODES,
        ScriptedLLM(answer),
        "{context_str}",
        output_path=directory / "set.json",
        save_every=3,
        num_workers=2,
        verbose=False,
    )


def generated(directory: Path) -> set[str]:
    with Journal(directory / "set.json.progress.jsonl") as journal:
        return {node.text for node in NODES if journal.find(node.node_id, _digests(node.text))}


def _digests(text: str) -> list[str]:
    from llama_index_adapters.questions.generation.journal import text_digest

    return [text_digest(text)]


def embedding(directory: Path) -> None:
    def answer(texts: list[str], vectors: list[list[float]]) -> Any:
        kind = model.calls[-1][0]
        for text in texts:
            note(directory, f"{'query' if kind == 'query' else 'passage'} {text}")
        return vectors

    model = CountingEmbedding(query_instruction="q: ", embed_batch_size=4, answer=answer)
    with EmbeddingStore(directory / "store.sqlite3") as store:
        Embedder(model, store, show_progress=False).texts(PASSAGES, "passage")
        Embedder(model, store, show_progress=False).texts(QUERIES, "query")


def embedded(directory: Path) -> set[str]:
    model_id = IdentifiedModel(CountingEmbedding(query_instruction="q: ")).identity
    texts = PASSAGES + QUERIES
    with EmbeddingStore(directory / "store.sqlite3") as store:
        return {
            f"{role} {text}"
            for role in ("passage", "query")
            for text, found in zip(texts, store.get(model_id, role, texts).found, strict=True)
            if found
        }


def training(directory: Path) -> None:
    def answer(texts: list[str], vectors: list[list[float]]) -> Any:
        for text in texts:
            note(directory, text)
        return vectors

    EmbeddingAdapterFinetuneEngine(
        synonym_questions(4),
        WordsEmbedding(dimension=16, embed_batch_size=8, answer=answer),
        adapter="linear",
        epochs=2,
        device="cpu",
        model_output_path=directory / "adapter",
        model_checkpoint_path=directory / "checkpoints",
        checkpoint_save_steps=3,
        store=directory / "store.sqlite3",
        seed=3,
        show_progress=False,
    ).finetune()


def trained(directory: Path) -> set[str]:
    data = synonym_questions(4)
    texts = [*data.queries.values(), *data.corpus.values()]
    model_id = IdentifiedModel(WordsEmbedding(dimension=16)).identity
    with EmbeddingStore(directory / "store.sqlite3") as store:
        # Probes are embedded in both roles; what is stored in one may be asked for in the other.
        absent = {t for role in ("passage", "query") for t in store.missing(model_id, role, texts)}
    for saved in (directory / "adapter", *(directory / "checkpoints").glob("step_*")):
        if saved.exists():
            load_saved(saved)
    return set(texts) - absent


def searching(directory: Path) -> None:
    """Choose an adapter, train it and save it, over the one that the job before has left."""
    EmbeddingAdapterFinetuneEngine(
        synonym_questions(4),
        WordsEmbedding(dimension=16, embed_batch_size=8),
        epochs=2,
        device="cpu",
        model_output_path=directory / "adapter",
        store=directory / "store.sqlite3",
        seed=3,
        show_progress=False,
    ).finetune()


def served(directory: Path) -> set[str]:
    """Open the adapter as a program does that serves it."""
    if (directory / "adapter").exists():
        model = AdapterEmbeddingModel(WordsEmbedding(dimension=16), directory / "adapter")
        assert np.isfinite(model.get_query_embedding("tint1 beast1")).all()
    return set()


def saving(directory: Path) -> None:
    for number in range(12):
        save_adapter(directory / "adapter", LinearAdapter(4 + number % 2))


def saved(directory: Path) -> set[str]:
    if (directory / "adapter").exists():
        load_saved(directory / "adapter")
    return set()


def note(directory: Path, paid: str) -> None:
    """Write down what was paid for, in one system call."""
    descriptor = os.open(directory / "paid", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (json.dumps(paid) + "\n").encode())
    os.close(descriptor)


def paid_for(directory: Path) -> list[str]:
    path = directory / "paid"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


JOBS: dict[str, tuple[Callable[[Path], None], Callable[[Path], set[str]], tuple[str, ...]]] = {
    "generation": (generation, generated, ("set.json",)),
    "embedding": (embedding, embedded, ()),
    "training": (training, trained, ("adapter",)),
    "searching": (searching, served, ("adapter",)),
    "saving": (saving, saved, ("adapter",)),
}


# Jobs whose adapter is opened meanwhile. Other systems than Linux cannot swap two directories.
READ_MEANWHILE = frozenset({"searching", "saving"} if sys.platform == "linux" else ())


@dataclass
class Tally:
    """What a campaign did.

    Attributes:
        kills: processes that were killed before they had finished.
        runs: runs that were let finish afterwards.
        paid_twice: items that were stored when a run began and were paid for again.
        unreadable: states after a kill, and while a job was at work, that could not be read.
        different: finished results that differ from those of a run that was never killed.
        leftovers: temporary files and directories that were still there when a run had finished.
        swept: those that a kill had left and the next runs removed.
    """

    kills: int = 0
    runs: int = 0
    paid_twice: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    swept: int = 0


def campaign(name: str, directory: Path, kills: int, seed: int) -> Tally:
    """Kill a job so many times, each time in the state that the kills before left.

    After one to four kills it is let finish, compared with a run that was never killed, and
    begun anew.
    """
    rng = random.Random(f"{name} {seed}")
    tally = Tally()
    for attempt in ("warm", "whole"):  # the first one waits for the imports
        started = time.perf_counter()
        assert _run(name, directory / attempt, 0, None) == 0
        seconds = time.perf_counter() - started
    calls = int((directory / "whole" / "calls").read_text())
    whole = _results(name, directory / "whole")
    state, until_finished = directory / "0", rng.randint(1, 4)
    while tally.kills < kills:
        point = delay = None
        if until_finished:
            if tally.kills % 2:
                delay = rng.uniform(0, seconds)
            else:
                point = rng.randint(1, calls)
        if _attempt(name, state, point or 0, delay, tally):
            until_finished -= 1
            continue
        if _results(name, state) != whole:
            tally.different.append(str(state))
        tally.leftovers += left_behind(state)
        tally.runs += 1
        state, until_finished = directory / str(tally.runs), rng.randint(1, 4)
    while _attempt(name, state, 0, None, tally):
        raise AssertionError("an unharmed run was killed")
    if _results(name, state) != whole:
        tally.different.append(str(state))
    tally.leftovers += left_behind(state)
    tally.runs += 1
    return tally


def _attempt(name: str, state: Path, point: int, delay: float | None, tally: Tally) -> bool:
    """Run once; return whether it was killed."""
    state.mkdir(exist_ok=True)
    stored = JOBS[name][1](state)
    paid = len(paid_for(state))
    with _reading(name, state, tally):
        code = _run(name, state, point, delay)
    assert code in (0, -signal.SIGKILL), f"{name} ended with {code}"
    tally.paid_twice += stored & set(paid_for(state)[paid:])
    if code == 0:
        return False
    tally.kills += 1
    tally.swept += len(left_behind(state))
    try:
        JOBS[name][1](state)
    except Exception as error:
        tally.unreadable.append(f"{state}: {error!r}")
    return True


@contextmanager
def _reading(name: str, state: Path, tally: Tally) -> Iterator[None]:
    """Open what a job replaces, again and again, while the job is at work."""
    if name not in READ_MEANWHILE:
        yield
        return
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.002):
            try:
                JOBS[name][1](state)
            except Exception as error:
                tally.unreadable.append(f"{state}, at work: {error!r}")
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()


def left_behind(state: Path) -> list[str]:
    """Return the temporary neighbours in a state."""
    return [str(path) for path in state.rglob(".*.tmp")]


def _results(name: str, state: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for result in JOBS[name][2]:
        path = state / result
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found |= {file.name: file.read_bytes() for file in files}
    if name == "embedding":
        # Not the probes: a run that is killed after them may need none when it goes on.
        model_id = IdentifiedModel(CountingEmbedding(query_instruction="q: ")).identity
        with EmbeddingStore(state / "store.sqlite3") as store:
            for role, texts in (("passage", PASSAGES), ("query", QUERIES)):
                vectors = store.get(model_id, role, texts).vectors  # type: ignore[arg-type]
                found[role] = vectors.tobytes()
    return found


def _run(name: str, state: Path, point: int, delay: float | None) -> int:
    state.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.endurance.kills", "llama_index_adapters.training.fit"])
    process = context.Process(target=_child, args=(name, str(state), point, delay is None))
    process.start()
    if delay is not None:
        process.join(delay)
        if process.is_alive():
            process.kill()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def _child(name: str, state: str, point: int, counted: bool) -> None:
    import torch

    torch.set_num_threads(1)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == point:
            os.kill(os.getpid(), signal.SIGKILL)

    if counted:
        threading.setprofile(count)
        sys.setprofile(count)
    JOBS[name][0](Path(state))
    sys.setprofile(None)
    (Path(state) / "calls").write_text(str(calls))
