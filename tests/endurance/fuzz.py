"""Files of strangers: whatever the bytes are, a loader returns or raises an error of ours.

``python -m tests.endurance.fuzz TARGET RUNS SEED`` runs the coverage-guided fuzzer (atheris, in the
dependency group ``soak``). The tests run the targets on the corpus, without it.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from llama_index_adapters.errors import AdaptersError
from llama_index_adapters.evaluation.comparison import Comparison  # noqa: F401  warm imports
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.serving.saved import load_saved
from tests.adapter_directories import with_fitting_fingerprint

CORPUS = Path(__file__).parent / "corpus"
ARGUMENTS = {"in_features": 4, "out_features": 4, "bias": True}
ARRAYS = {
    "linear.weight": np.eye(4, dtype=np.float32),
    "linear.bias": np.zeros(4, np.float32),
}
IN_PARTS = {f"queries.{name}": array for name, array in ARRAYS.items()}
FORMAT_1 = with_fitting_fingerprint(
    {"format_version": 1, "kind": "linear", "arguments": ARGUMENTS, "unit_input": True}, ARRAYS
)
FORMAT_2 = with_fitting_fingerprint(
    {
        "format_version": 2,
        "query_models": [{"name": "somebody's", "role": "base", "dimension": 4}],
        "queries": {"kind": "linear", "arguments": ARGUMENTS, "result_length": "base"},
    },
    IN_PARTS,
)
_STDLIB = os.path.realpath(sysconfig.get_path("stdlib"))


class _Watch:
    """Sees what the interpreter is about to do while a file is read."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        forbidden = ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class")
        if event in forbidden or event == "os.exec":
            self.seen.append(f"{event} {arguments}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            # Codecs and error texts of the standard library load when they are first needed.
            own = not writes and path.startswith(_STDLIB)
            if writes or not (own or path.startswith(self.folder)):
                self.seen.append(f"open {path} {arguments[1]}")
        elif event == "import" and arguments[0].split(".")[0] not in sys.stdlib_module_names:
            self.seen.append(f"import {arguments[0]}")


_WATCH = _Watch()
_FOLDER: list[Path] = []


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[None]:
    _WATCH.folder, _WATCH.seen = os.path.realpath(folder), []
    try:
        yield
    except AdaptersError as error:
        str(error).encode("utf-8", "backslashreplace")
    finally:
        _WATCH.folder = None
    assert not _WATCH.seen, _WATCH.seen


def _folder() -> Path:
    if not _FOLDER:
        _FOLDER.append(
            Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        )
        sys.addaudithook(_WATCH)
        for name, target in TARGETS.items():  # what they import once is not a finding
            for data in (b"", b"{}", _good(name)):
                with contextlib.suppress(AssertionError):
                    target(data)
    return _FOLDER[0]


def _good(name: str) -> bytes:
    return (CORPUS / name / "good").read_bytes()


def _load(files: dict[str, bytes]) -> None:
    folder = _folder()
    for entry in folder.iterdir():
        entry.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with _watched(folder):
        load_saved(folder)


def config(data: bytes) -> None:
    """``config.json`` beside good weights; once more with a fingerprint that fits."""
    for arrays in (ARRAYS, IN_PARTS):
        weights = safetensors.numpy.save(arrays)
        _load({"config.json": data, "model.safetensors": weights})
        with contextlib.suppress(LookupError, ValueError, RecursionError, AdaptersError, TypeError):
            fits = json.dumps(with_fitting_fingerprint(json.loads(data), arrays)).encode()
            _load({"config.json": fits, "model.safetensors": weights})


def weights(data: bytes) -> None:
    """``model.safetensors`` beside a config that takes any arrays for its own."""
    for good in (FORMAT_1, FORMAT_2):
        _load({"config.json": json.dumps(good).encode(), "model.safetensors": data})
        with contextlib.suppress(Exception):
            fits = with_fitting_fingerprint(good, safetensors.numpy.load(data))
            _load({"config.json": json.dumps(fits).encode(), "model.safetensors": data})


def old_weights(data: bytes) -> None:
    """LlamaIndex's ``pytorch_model.bin``."""
    _load({"config.json": json.dumps(ARGUMENTS).encode(), "pytorch_model.bin": data})


def dataset(data: bytes) -> None:
    """A question set."""
    folder = _folder()
    path = folder / "set.json"
    path.write_bytes(data)
    with _watched(folder):
        EmbeddingQAFinetuneDataset.from_json(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "config": config,
    "safetensors": weights,
    "llamaindex": old_weights,
    "dataset": dataset,
}


def fuzz_all(runs: int = 100_000, seed: int = 1) -> dict[str, Any]:
    """Fuzz every target in a process of its own; return executions and findings."""
    rows = {}
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.endurance.fuzz", name, str(runs), str(seed)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        done = re.findall(r"Done (\d+) (?:runs )?in", ended.stderr)
        covered = re.findall(r"cov: (\d+)", ended.stderr)
        rows[name] = {
            "executions": int(done[-1]) if done else 0,
            "coverage": int(covered[-1]) if covered else 0,
            "findings": int(ended.returncode != 0),
        }
        print(name, rows[name], ended.stderr[-1500:] if ended.returncode else "", flush=True)
    return {"seed": seed, "targets": rows}


_INSTRUMENTED = (
    *("llama_index_adapters.adapters.disk", "llama_index_adapters.adapters.served.base"),
    *("llama_index_adapters.questions.question_set", "llama_index_adapters.files.text"),
    *("safetensors.numpy", "json.decoder"),
    *("zipfile", "torch._weights_only_unpickler", "torch.serialization"),
)


def _functions() -> Iterator[Any]:
    """Yield the Python functions whose branches guide the fuzzer."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_INSTRUMENTED):
            for value in vars(module).values():
                holders = vars(value).values() if inspect.isclass(value) else [value]
                for one in holders:
                    one = getattr(one, "__func__", one)
                    if inspect.isfunction(one) and one.__module__ == name:
                        yield one


def main() -> None:
    import atheris

    # Python reads a library's source to show the line that warns.
    warnings.simplefilter("ignore")
    name, runs, seed = sys.argv[1:]
    target = TARGETS[name]
    _folder()
    for function in _functions():
        atheris.instrument_func(function)
    found = tempfile.mkdtemp()
    limits = [
        f"-artifact_prefix={found}/",
        "-rss_limit_mb=3000",
        "-malloc_limit_mb=512",
        "-max_len=4096",
        "-timeout=10",
    ]
    arguments = [sys.argv[0], f"-runs={runs}", f"-seed={seed}", *limits, found]
    atheris.Setup([*arguments, str(CORPUS / name)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
