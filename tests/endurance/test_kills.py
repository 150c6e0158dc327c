"""Killed anywhere, a job is continued: nothing is paid for twice, the result is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.kills import JOBS, Tally, campaign


# A search takes seconds; "saving" has a reader beside it too.
@pytest.mark.parametrize(
    "job",
    [pytest.param(job, marks=pytest.mark.slow if job == "searching" else ()) for job in JOBS],
)
def test_a_job_that_is_killed_is_continued(job: str, tmp_path: Path) -> None:
    tally = campaign(job, tmp_path, kills=3, seed=0)
    assert tally == Tally(kills=3, runs=tally.runs, swept=tally.swept)
    assert tally.runs >= 1
