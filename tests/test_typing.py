"""The types of the public names are of use to those who call them."""

from __future__ import annotations

import subprocess
import sys

from tests.documents import ROOT


def test_a_type_checker_understands_what_users_write():
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typed_use.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
