"""Which branches a test run took before and takes no longer, although the code moved meanwhile.

``make coverage`` writes coverage.json. Of two such files, each with the revision it was taken at::

    python -m tests.branches before.json REVISION coverage.json HEAD

lists every branch that the first run took and the second did not. A branch is known by the text
of its two lines and not by where they stand, so that a moved function is the same function; what
is no longer in the code is counted, not listed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Branch(NamedTuple):
    """A jump from one line to another, by their texts; of a line out of its function, ``exit``."""

    source: str
    target: str


class Taken(NamedTuple):
    """What one run did: how often each branch stands in the code, was taken, and where."""

    lines: int
    taken: Counter[Branch]
    missed: Counter[Branch]
    places: dict[Branch, str]

    @property
    def summary(self) -> str:
        possible = self.taken.total() + self.missed.total()
        return f"{self.lines:,} lines and {self.taken.total():,} of {possible:,} branches"


def lost(before: Taken, after: Taken) -> Iterator[Branch]:
    """Yield what the first run took and the second only missed, though it is in the code."""
    for branch in sorted(before.taken):
        if branch not in after.taken and branch in after.missed:
            yield branch


def gone(before: Taken, after: Taken) -> int:
    """Return how many branches that the first run took are not in the code any more."""
    return sum(branch not in after.taken and branch not in after.missed for branch in before.taken)


def read(report: Path, revision: str) -> Taken:
    """Read a report of coverage.py, with the source of the revision that it is about."""
    taken, missed, places, lines = Counter[Branch](), Counter[Branch](), dict[Branch, str](), 0
    for name, file in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        texts = source(revision, name).splitlines()
        lines += len(file["executed_lines"])
        for kind, jumps in ((taken, "executed_branches"), (missed, "missing_branches")):
            for start, end in file[jumps]:
                branch = Branch(line(texts, start), line(texts, end))
                kind[branch] += 1
                places.setdefault(branch, f"{name}:{start}")
    return Taken(lines, taken, missed, places)


def line(texts: list[str], number: int) -> str:
    return texts[number - 1].strip() if number > 0 else "exit"


def source(revision: str, name: str) -> str:
    shown = subprocess.run(
        ["git", "show", f"{revision}:{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return shown.stdout


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    before, after = (read(Path(sys.argv[at]), sys.argv[at + 1]) for at in (1, 3))
    print(f"before: {before.summary}\nafter:  {after.summary}")
    print(f"{gone(before, after):,} branches of before are not in the code any more")
    for branch in lost(before, after):
        print(f"{after.places[branch]}: {branch.source}  ->  {branch.target}")


if __name__ == "__main__":
    main()
