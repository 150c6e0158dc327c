"""Which branches and lines a test run took before and takes no longer, wherever they have moved.

``make coverage`` writes coverage.json. Of two such files, each with the revision it was taken at::

    python -m tests.branches before.json REVISION coverage.json HEAD

lists every branch and line that the first run took and the second did not. They are known by their
text and their function's name and not by where they stand, so that a moved function is the same
function; what is no longer in the code, or in a function of another name, is counted, not listed.
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
    """A jump from one line of a function to another, by their texts, or out of it to ``exit``.

    A line is a jump to itself.
    """

    function: str
    source: str
    target: str


class Taken(NamedTuple):
    """What one run did: how often each branch stands in the code, was taken, and where."""

    taken: Counter[Branch]
    missed: Counter[Branch]
    places: dict[Branch, str]

    @property
    def summary(self) -> str:
        return f"{self.taken.total():,} of {self.taken.total() + self.missed.total():,}"


def lost(before: Taken, after: Taken) -> Iterator[Branch]:
    """Yield what the first run took and the second only missed, though it is in the code."""
    for branch in sorted(before.taken):
        if branch not in after.taken and branch in after.missed:
            yield branch


def gone(before: Taken, after: Taken) -> int:
    """Return how much that the first run took is not in the code any more."""
    return sum(branch not in after.taken and branch not in after.missed for branch in before.taken)


def read(report: Path, revision: str, kind: str = "branches") -> Taken:
    """Read a report of coverage.py, with the source of the revision that it is about.

    Args:
        report: the JSON file.
        revision: as git names it.
        kind: ``"branches"`` or ``"lines"``.
    """
    run = Taken(Counter(), Counter(), {})
    for name, file in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        texts = source(revision, name).splitlines()
        for function, part in file["functions"].items():
            own = function.rpartition(".")[2]
            for counts, jumps in ((run.taken, f"executed_{kind}"), (run.missed, f"missing_{kind}")):
                for jump in part[jumps]:
                    start, end = jump if kind == "branches" else (jump, jump)
                    branch = Branch(own, line(texts, start), line(texts, end))
                    counts[branch] += 1
                    run.places.setdefault(branch, f"{name}:{start}")
    return run


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
    for kind in ("lines", "branches"):
        before, after = (read(Path(sys.argv[at]), sys.argv[at + 1], kind) for at in (1, 3))
        print(f"{kind} taken before: {before.summary}; after: {after.summary}")
        print(f"{gone(before, after):,} of those before are not in the code any more")
        for branch in lost(before, after):
            ends = f"  ->  {branch.target}" if kind == "branches" else ""
            print(f"{after.places[branch]}: {branch.source}{ends}")


if __name__ == "__main__":
    main()
