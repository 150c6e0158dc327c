"""A package that was not compared is not a package without vulnerabilities."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.audit import PINNED, pinned, verdict


def package(name: str, *ids: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": found} for found in ids]}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "Dependency not found"}


def test_the_verdict(subtests: pytest.Subtests) -> None:
    for packages, status, said in (
        ([package("a"), package("b")], 0, "No known vulnerability: 2 of 2 pinned versions"),
        ([package("a", "X-1", "X-2"), package("b")], 1, "a 1.0: X-1, X-2"),
        ([package("a", "X-1"), skipped("b")], 1, "1 of 2 pinned versions were compared; known"),
        ([package("a"), skipped("b")], 2, "No full result: 1 of 2 .* Not compared: b"),
        ([skipped("a"), skipped("b")], 2, "No result: 0 of 2 .*cannot be reached"),
    ):
        with subtests.test(packages=packages, status=status, said=said):
            found, text = verdict({"dependencies": packages})
            assert found == status
            assert re.search(said, text)


def test_every_pinned_version_is_asked_about() -> None:
    text = PINNED.read_text(encoding="utf-8")
    lines = pinned(text).splitlines()
    assert len(lines) == text.count("==") - text.count("python_version ==")
    assert all(";" not in line and "==" in line for line in lines)
