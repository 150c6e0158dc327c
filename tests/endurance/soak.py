"""The long form of the fault, kill, input and fuzzing tests; writes docs/robustness.json.

Run ``python -m tests.endurance.soak SECTION [COUNT] [SEED] [JOB]`` with kills, faults, inputs or
fuzz; a section replaces its own figures. ``python -m tests.endurance.robustness_table`` makes
docs/robustness.md of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[2] / "docs" / "robustness.json"


def kills(count: int = 200, seed: int = 1, only: str = "") -> None:
    from tests.endurance.kills import JOBS, campaign

    for job in [only] if only else list(JOBS):
        with tempfile.TemporaryDirectory() as directory:
            tally = campaign(job, Path(directory), -(-count // len(JOBS)), seed)
        row = {
            "kills": tally.kills,
            "finished": tally.runs,
            "paid_twice": len(tally.paid_twice),
            "unreadable": len(tally.unreadable),
            "different": len(tally.different),
            "left_behind": len(tally.leftovers),
            "swept": tally.swept,
        }
        print(job, row, tally.unreadable[:3], tally.different[:3], tally.leftovers[:3], flush=True)
        jobs = _figures().get("kills", {}).get("jobs", {})
        _write("kills", {"seed": seed, "jobs": {**jobs, job: row}})


def _figures() -> dict[str, Any]:
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}


def _write(section: str, found: dict[str, Any]) -> None:
    figures = {**_figures(), section: found}
    FIGURES.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    section, *numbers = sys.argv[1:]
    if section not in ("kills", "faults", "inputs", "fuzz"):
        sys.exit(__doc__)
    if section == "kills":
        kills(*map(int, numbers[:2]), *numbers[2:])
    elif section == "faults":
        from tests.endurance.fault_rounds import faults

        _write(section, faults(*map(int, numbers)))
    elif section == "inputs":
        from tests.bad_inputs import tried

        _write(section, tried())
    else:
        from tests.endurance.fuzz import fuzz_all

        _write(section, fuzz_all(*map(int, numbers)))


if __name__ == "__main__":
    main()
