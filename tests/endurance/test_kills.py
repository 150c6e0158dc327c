"""Killed anywhere, a job is continued: nothing is paid for twice, the result is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.kills import JOBS, Tally, campaign


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_killed_is_continued(job: str, tmp_path: Path) -> None:
    tally = campaign(job, tmp_path, kills=3, seed=0)
    assert tally == Tally(kills=3, runs=tally.runs, swept=tally.swept)
    assert tally.runs >= 1
