"""A branch that is taken no longer is found wherever its code has moved."""

from __future__ import annotations

import json

from tests import branches

OLD = "def a(x):\n    if x:\n        return 1\n    return 2\n"
NEW = (
    "import os\n\n\nclass B:\n    def a(self):\n        if x:\n            return 1\n        x()\n"
)


def taken(tmp_path, monkeypatch, name, function, text, start, executed, missing):
    monkeypatch.setattr(branches, "source", lambda revision, name: text)
    jumps = {
        "executed_branches": [[start, start + 1] for _ in range(executed)],
        "missing_branches": [[start, start + 1] for _ in range(missing)],
    }
    (tmp_path / "report.json").write_text(
        json.dumps({"files": {name: {"functions": {function: jumps}}}})
    )
    return branches.read(tmp_path / "report.json", "revision")


def test_a_moved_branch_is_the_same_branch(tmp_path, monkeypatch):
    before = taken(tmp_path, monkeypatch, "old.py", "a", OLD, 2, 1, 0)
    still = taken(tmp_path, monkeypatch, "new.py", "B.a", NEW, 6, 1, 0)
    missed = taken(tmp_path, monkeypatch, "new.py", "B.a", NEW, 6, 0, 1)
    other = taken(tmp_path, monkeypatch, "new.py", "a", "\n" * 7, 6, 1, 0)
    assert list(branches.lost(before, still)) == []
    assert list(branches.lost(before, missed)) == [("a", "if x:", "return 1")]
    assert missed.places["a", "if x:", "return 1"] == "new.py:6"
    assert (branches.gone(before, missed), branches.gone(before, other)) == (0, 1)
