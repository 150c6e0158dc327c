"""The table of maps without labels: shares, intervals, and the cells that are left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import alignment
from llama_index_adapters import EmbeddingQAFinetuneDataset
from llama_index_adapters.retrieval.ranking import unit_rows

COUNT = 80


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """One set whose two models see the same, up to a rotation; isotrieve is a stand-in."""
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(COUNT, 8))
    queries = passages[:40] + 0.5 * rng.normal(size=(40, 8))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    for model, turned in (("use", np.eye(8)), ("minilm", rotation)):
        path = tmp_path / f"{model}-scifact.test.npz"
        np.savez(
            path, queries=(queries @ turned).astype("f4"), passages=(passages @ turned).astype("f4")
        )
    EmbeddingQAFinetuneDataset(
        queries={f"q{row}": f"question {row}" for row in range(40)},
        corpus={f"p{row}": f"passage {row}" for row in range(COUNT)},
        relevant_docs={f"q{row}": [f"p{row}"] for row in range(40)},
    ).save_json(tmp_path / "scifact.test.json")
    noise = unit_rows(rng.normal(size=(COUNT, 8)).astype("f4"))
    monkeypatch.setattr(alignment, "_isotrieve", lambda *given: (noise[:40], noise))
    monkeypatch.setattr(alignment, "DRAWS", 200)
    return tmp_path


def test_a_rotation_is_kept_whole_and_noise_is_not(folders):
    output = folders / "found.json"
    alignment.main(folders, folders, output, 0, folders / "environments")
    (cell,) = json.loads(output.read_text())["cells"]
    assert cell["ndcg@10"]["align"] == pytest.approx(cell["ndcg@10"]["own"], abs=0.02)
    assert cell["kept"]["align"][0] == pytest.approx(1, abs=0.03)
    mean, low, high = cell["more_than"]["isotrieve, queries"]
    assert 0.5 < low < mean < high
    assert abs(cell["more_than"]["least squares"][0]) < 0.05
    page = output.with_suffix(".md").read_text()
    assert "| *scifact*: USE multilingual, all-MiniLM-L6-v2 | 80 of 80 |" in page
    assert "absent: *documentation*, USE multilingual and all-MiniLM-L6-v2; *tenk*" in page


def test_the_interval_is_of_the_same_questions_for_both():
    each = np.random.default_rng(1).uniform(size=50)
    ndcg = dict.fromkeys(("own", alignment.OURS, *alignment.PEERS), each)
    draws = alignment.shares(ndcg, seed=0)
    assert alignment.interval(draws[alignment.OURS] - draws["least squares"]) == (0, 0, 0)
    half = alignment.shares({**ndcg, alignment.OURS: each / 2}, seed=0)
    assert alignment.interval(half[alignment.OURS]) == pytest.approx((0.5, 0.5, 0.5))
