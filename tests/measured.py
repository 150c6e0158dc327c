"""What test_bench runs in interpreters of its own; nothing heavy is imported with it."""

from __future__ import annotations

import os
import subprocess
import sys


def hold(n_bytes: int) -> int:
    return len(b"1" * n_bytes)


def fail() -> None:
    raise KeyError("why")


def environment(name: str) -> str | None:
    return os.environ.get(name)


def output_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
