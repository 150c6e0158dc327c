"""Functions called in interpreters of their own, this environment's or a peer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.environments import PeerError, last_words

ROOT = Path(__file__).parents[2]

# Some machines set them for the sake of old builds of OpenBLAS; numpy then multiplies with kernels
# of an older processor. Users' machines do not, and both sides of a ratio run without them.
_KERNEL_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Ran(NamedTuple):
    """What a function gave in its own process.

    Attributes:
        value: what it returned.
        peak_bytes: the most memory the process held at once (VmHWM).
        seconds: from the start of the interpreter to its end.
    """

    value: Any
    peak_bytes: int
    seconds: float


def in_process(
    function: str, *, python: Path | None = None, threads: int | None = None, **arguments: Any
) -> Ran:
    """Call ``"module:function"`` in a fresh interpreter.

    Args:
        function: an importable name; its module must be importable by that interpreter.
        python: the interpreter; this one when left out.
        threads: of BLAS and torch; as many as they choose when left out.
        **arguments: what the function is called with, as JSON can hold it.

    Raises:
        PeerError: when it fails, with what it said last.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _KERNEL_OVERRIDES},
        # A peer's interpreter finds this repository's benchmarks too.
        "PYTHONPATH": str(ROOT),
        # Models and data are here: nobody may ask the network for them.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    with TemporaryDirectory() as directory:
        output = Path(directory) / "ran.json"
        started = time.perf_counter()
        done = subprocess.run(
            [python or sys.executable, "-m", "benchmarks.speed.child", function, output],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            env=environment,
            cwd=directory,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise PeerError(
                f"{function} ended with status {done.returncode} and said last: {last_words(done)}"
            )
        record = json.loads(output.read_text())
    return Ran(record["value"], record["peak_bytes"], seconds)
