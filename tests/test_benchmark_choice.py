"""The benchmarks of the rule of the choice, and of passages nobody asked about."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks import choice, unseen
from benchmarks.choice import Run
from tests.vector_sets import rotated


@pytest.mark.parametrize(("count", "total"), [(0, 400), (4, 400), (20, 20), (1, 3)])
def test_intervals_are_those_of_scipy(count, total):
    expected = binomtest(count, total).proportion_ci(0.95, method="exact")
    assert choice.interval(count, total) == pytest.approx((expected.low, expected.high))


def test_an_interrupted_run_continues(tmp_path, monkeypatch):
    """What is written is not measured again, and every cell gets a run before any gets two."""
    measured = []

    def instead(law, method, size, seed):
        measured.append((law, method, size, seed))
        if len(measured) == 6:
            raise KeyboardInterrupt
        return Run(law, method, size, seed, 1, -0.01)

    monkeypatch.setattr(choice, "measure", instead)
    monkeypatch.setattr(choice, "RUNS", {30: 2, 100: 1})
    files = {"rows": tmp_path / "rows.csv", "output": tmp_path / "page.md"}
    with pytest.raises(KeyboardInterrupt):
        choice.main("linear", "30,100", **files)
    assert len(choice.read_rows(files["rows"])) == 5
    choice.main("linear", "30,100", **files)
    assert len(measured) == 6 + 7
    assert len({run[:3] for run in measured[:5]}) == 5
    rows = choice.read_rows(files["rows"])
    assert sorted((*run.cell, run.seed) for run in rows) == sorted(set(measured))
    page = files["output"].read_text(encoding="utf-8")
    assert "| noise | linear | 30 | 2 | 2 (15.8% to 100.0%) | 2 (15.8% to 100.0%) |" in page


def test_the_laws_are_what_they_say():
    for name, law in choice.LAWS.items():
        train, fresh = choice.draw(law, 50, seed=0)
        asked, later = (set(part.relevance.passages.tolist()) for part in (train, fresh))
        assert asked.isdisjoint(later) == law.shifted, name
        lengths = np.linalg.norm(fresh.queries, axis=1)
        assert (lengths.max() / np.median(lengths) > 5) == law.tails, name


def test_a_run_is_judged_on_fresh_questions(monkeypatch):
    monkeypatch.setattr(choice, "N_FRESH", 200)
    first, again = (choice.measure("noise", "linear", 20, seed=0) for _ in range(2))
    assert first == again
    assert first.cell == ("noise", "linear", 20)


def test_parts_of_an_ablation_are_about_other_passages():
    data = rotated(160)
    for name, parts in unseen.SPLITS.items():
        held = 0
        for train, judged in parts(data):
            asked = set(train.relevance.passages.tolist())
            assert asked.isdisjoint(judged.relevance.passages.tolist()), name
            held += len(judged.queries)
        assert held == 160
    gains = unseen.gains(data, unseen.by_passage)
    assert gains["whitening, regression"].mean() > gains["whitening"].mean() + 0.02
