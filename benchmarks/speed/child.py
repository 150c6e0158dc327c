"""One function in a fresh interpreter: ``python -m benchmarks.speed.child MODULE:FUNCTION FILE``.

The arguments come as JSON on standard input; what the function gave and what the process used go
to FILE as JSON. Nothing is imported here but the standard library, because imports and memory are
among the things that are measured.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def memory(name: str) -> int:
    """Return bytes of this process: ``"VmRSS"`` resident now, ``"VmHWM"`` at most so far.

    Raises:
        OSError: where the operating system is not Linux.
    """
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no line {name}")


def main(target: str, output: str) -> None:
    """Call the function and write what it gave."""
    module, _, name = target.partition(":")
    arguments = json.load(sys.stdin)
    value = getattr(importlib.import_module(module), name)(**arguments)
    record = {"value": value, "peak_bytes": memory("VmHWM")}
    Path(output).write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
