from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.fit import fit
from llama_index_adapters.training.holdout import Fold, lower_end
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.outlook import best_trial, outlook_of, queries_needed
from llama_index_adapters.training.search.stages import search_adapter
from tests.vector_sets import DIM, noise, rotated


def test_so_many_queries_are_needed_as_the_paired_t_test_says():
    gains = np.random.default_rng(0).normal(0.01, 0.2, 300)
    spread = gains.std(ddof=1)
    needed = queries_needed(spread, 0.02, 0.995)

    def p_value(count):
        return stats.t.sf(0.02 / (spread / np.sqrt(count)), count - 1)

    assert p_value(needed) < 0.005 <= p_value(needed - 1)


def test_a_sample_of_that_size_shows_the_gain_about_half_of_the_time():
    generator = np.random.default_rng(1)
    needed = queries_needed(0.2, 0.02, 0.9)
    samples = generator.normal(0.02, 0.2, (1000, needed))
    p_values = stats.ttest_1samp(samples, 0, axis=1, alternative="greater").pvalue
    assert 0.42 < (p_values < 0.1).mean() < 0.58


def test_gains_without_a_spread_say_nothing():
    assert queries_needed(0.0, 0.1, 0.9) is None
    assert best_trial("linear", 0.1, -1.0, 1, 0.9, kept=False).queries_needed is None


@pytest.mark.parametrize("gain", [0.0, -0.1, 1e-9])
def test_no_number_of_queries_makes_no_gain_certain(gain):
    assert queries_needed(0.5, gain, 0.9) is None


def test_outlook_counts_first_ten_and_first_hundred():
    # Query q is passage 0; its own passage is the q-th nearest to it.
    passages = np.stack([[1, angle] for angle in np.linspace(0, 1, 150)])
    ranks = [0, 5, 9, 10, 50, 99, 100, 149]
    queries = np.tile([[1.0, 0.0]], (len(ranks), 1))
    data = VectorDataset(queries, passages, Relevance.from_rows([[rank] for rank in ranks]))
    outlook = outlook_of([Fold(data, data)], 0.995)
    assert (outlook.queries, outlook.found, outlook.within_reach) == (8, 3 / 8, 3 / 8)
    assert "38% of 8 held-out questions have a passage among the first 10, and 38%" in str(outlook)
    assert f"about {outlook.queries_needed:,} held-out questions to be certain (99.5%)" in str(
        outlook
    )


def test_without_a_base_there_is_no_outlook():
    data = rotated(passage_dim=DIM // 2)
    assert outlook_of([Fold(data, data)], 0.9) is None


def test_what_is_kept_as_the_base_says_the_best_trial_and_what_was_missing():
    gains = np.random.default_rng(0).normal(0.01, 0.2, 100)
    low = lower_end(gains, 0.995)
    best = best_trial("linear", gains.mean(), low, 100, 0.995, kept=False)
    assert best.low < 0 < best.gain < best.high
    assert best.queries_missing == queries_needed(gains.std(ddof=1), best.gain, 0.995) - 100
    assert f"takes about {best.queries_needed:,} held-out questions" in str(best)
    assert f"{best.queries_missing:,} more" in str(best)
    worse = best_trial("linear", -gains.mean(), -0.1, 100, 0.995, kept=False)
    assert worse.queries_missing is None
    assert "no gain" in str(worse)


def test_a_search_and_a_training_say_why():
    options = TrainingOptions(epochs=2, patience=2)
    searched = search_adapter(noise(0), None, options)
    assert not searched.best.kept
    gains = [t for t in searched.trials if t.name != "identity"]
    assert searched.best.gain == pytest.approx(max(trial.gain for trial in gains))
    assert searched.outlook.queries == searched.best.queries == len(searched.seen)
    trained = fit(LinearAdapter(DIM, DIM), rotated(), None, TrainingOptions(epochs=20))
    assert trained.best.kept
    assert trained.best.gain == pytest.approx(
        (trained.adapted["ndcg@10"] - trained.base["ndcg@10"]).mean()
    )
