from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from llama_index_adapters.errors import InvalidOptionError, InvalidVectorsError
from llama_index_adapters.evaluation.comparison import compare, compare_queries
from llama_index_adapters.retrieval.ranking import METRICS, mean_metrics, metrics_at_k, top_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset


def metrics(ndcg, **others):
    return {
        "ndcg@10": np.asarray(ndcg, float),
        **{f"{name}@10": np.asarray(values, float) for name, values in others.items()},
    }


def shifted(gain, n=200, seed=0):
    """Noisy metrics, and the same raised by about ``gain``."""
    generator = np.random.default_rng(seed)
    base = generator.uniform(0, 0.7, n)
    return metrics(base), metrics(base + generator.normal(gain, 0.1, n))


def noisy_data(n=120, dim=16, seed=0):
    """Passages, and queries that are their passage with a common shift and noise."""
    generator = np.random.default_rng(seed)
    passages = generator.standard_normal((n, dim))
    shift = 2 * generator.standard_normal(dim)
    queries = passages + shift + 0.5 * generator.standard_normal((n, dim))
    relevance = Relevance.from_rows([[row] for row in range(n)])
    return VectorDataset(queries, passages, relevance), (queries - shift).astype(np.float32)


def test_means_gains_and_counts_are_those_of_the_queries():
    base = metrics([0.0, 0.5, 1.0, 0.25], mrr=[0, 0.5, 1, 0.25])
    adapted = metrics([0.5, 0.25, 1.0, 1.0], mrr=[0.5, 0.5, 1, 1])
    result = compare(base, adapted)
    assert result.base == {"ndcg@10": 0.4375, "mrr@10": 0.4375}
    assert result.adapted == {"ndcg@10": 0.6875, "mrr@10": 0.75}
    assert result.gains["ndcg@10"].mean == 0.25
    assert result.gains["mrr@10"].mean == 0.3125
    assert (result.wins, result.losses, result.ties) == (2, 1, 1)
    assert result.metric == "ndcg@10"
    np.testing.assert_array_equal(result.per_query.adapted["mrr@10"], adapted["mrr@10"])


def test_interval_is_that_of_the_bootstrap_mean():
    base, adapted = shifted(0.05, n=400)
    mean, low, high = compare(base, adapted).gains["ndcg@10"]
    differences = adapted["ndcg@10"] - base["ndcg@10"]
    expected = stats.t.interval(0.95, 399, loc=differences.mean(), scale=stats.sem(differences))
    assert mean == pytest.approx(differences.mean())
    assert (low, high) == pytest.approx(expected, abs=6e-4)
    wider = compare(base, adapted, confidence=0.99).gains["ndcg@10"]
    assert wider.low < low < mean < high < wider.high


def test_p_value_is_exact_for_few_queries():
    # All eight sign flips: only +++ and --- reach the sum that was seen.
    result = compare(metrics([0.1, 0.1, 0.1]), metrics([0.2, 0.3, 0.4]))
    assert result.p_value == pytest.approx(2 / 8)


def test_p_value_is_that_of_a_paired_test_for_many():
    base, adapted = shifted(0.012, n=300)
    expected = stats.ttest_rel(adapted["ndcg@10"], base["ndcg@10"]).pvalue
    assert 0.01 < expected < 0.5
    assert compare(base, adapted).p_value == pytest.approx(expected, abs=0.02)


def test_queries_that_stay_the_same_do_not_change_the_p_value_but_narrow_the_gain():
    base, adapted = shifted(0.03, n=60)
    same = np.full(240, 0.5)
    alone = compare(base, adapted)
    among = compare(
        metrics(np.append(base["ndcg@10"], same)), metrics(np.append(adapted["ndcg@10"], same))
    )
    assert among.p_value == pytest.approx(alone.p_value, abs=0.02)
    assert among.ties == 240
    assert among.gains["ndcg@10"].mean == pytest.approx(alone.gains["ndcg@10"].mean / 5)


def test_a_clear_gain_is_told_from_no_gain():
    gain = compare(*shifted(0.1))
    assert gain.p_value < 0.001
    assert gain.gains["ndcg@10"].low > 0
    nothing = compare(*shifted(0.0, seed=3))
    assert nothing.p_value > 0.05
    assert nothing.gains["ndcg@10"].low < 0 < nothing.gains["ndcg@10"].high


def test_base_and_adapted_swapped_give_the_opposite():
    base, adapted = shifted(0.05)
    forth, back = compare(base, adapted), compare(adapted, base)
    assert back.gains["ndcg@10"].mean == pytest.approx(-forth.gains["ndcg@10"].mean)
    assert (back.wins, back.losses) == (forth.losses, forth.wins)
    np.testing.assert_array_equal(back.worst(5), forth.best(5))


def test_same_seed_same_numbers_and_another_seed_others():
    base, adapted = shifted(0.012)
    first, again, other = (compare(base, adapted, seed=seed) for seed in (1, 1, 2))
    assert first.to_dict() == again.to_dict()
    assert first.gains != other.gains
    assert first.p_value != other.p_value


def test_all_queries_the_same_is_no_gain_and_no_warning():
    same = metrics([0.3, 0.0, 1.0], mrr=[0.3, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare(same, same)
    assert set(result.gains.values()) == {(0.0, 0.0, 0.0)}
    assert result.p_value == 1.0
    assert (result.wins, result.losses, result.ties) == (0, 0, 3)
    assert result.best().size == result.worst().size == 0


def test_every_query_gaining_the_same_is_a_point_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare(metrics(np.full(20, 0.25)), metrics(np.full(20, 0.5)))
    assert result.gains["ndcg@10"] == (0.25, 0.25, 0.25)
    assert result.p_value < 0.001


def test_one_query_says_nothing_about_others():
    result = compare(metrics([0.2]), metrics([0.9]))
    assert result.gains["ndcg@10"] == (pytest.approx(0.7), -1.0, 1.0)
    assert result.p_value == 1.0


def test_rounding_is_neither_win_nor_loss():
    result = compare(metrics([0.3, 0.5]), metrics([0.1 + 0.2, 0.5]))
    assert (result.wins, result.losses, result.ties) == (0, 0, 2)


def test_worst_and_best_name_the_rows_that_moved_most():
    result = compare(metrics([0.5, 0.5, 0.5, 0.5, 0.5]), metrics([0.4, 0.9, 0.1, 0.5, 0.4]))
    assert result.worst().tolist() == [2, 0, 4]
    assert result.worst(1).tolist() == [2]
    assert result.best(3).tolist() == [1]


def test_to_dict_survives_json():
    result = compare(*shifted(0.05, n=20))
    copy = json.loads(json.dumps(result.to_dict()))
    assert copy == result.to_dict()
    assert copy["gains"]["ndcg@10"].keys() == {"mean", "low", "high"}
    assert copy["wins"] + copy["losses"] + copy["ties"] == 20


def test_text_is_a_plain_table_of_80_columns():
    data, adapted = noisy_data()
    result = compare_queries(data, adapted)
    text = str(result)
    assert text.isascii()
    assert max(len(line) for line in text.splitlines()) <= 80
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    }
    assert cells["metric"] == ["base", "adapted", "gain", "95% interval"]
    mean, low, high = result.gains["ndcg@10"]
    assert cells["nDCG@10"] == [
        f"{result.base['ndcg@10']:.4f}",
        f"{result.adapted['ndcg@10']:.4f}",
        f"{mean:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
    ]
    assert f"120 queries, nDCG@10: {result.wins} better, {result.losses} worse" in text
    assert "p < 0.001" in text


def test_compare_queries_ranks_both_on_the_same_corpus():
    data, adapted = noisy_data()
    result = compare_queries(data, adapted, k=5)
    expected = mean_metrics(metrics_at_k(top_k(adapted, data.passages, 5), data.relevance, 5))
    assert result.adapted == expected
    assert set(result.base) == {f"{name}@5" for name in METRICS}
    assert result.gains["ndcg@5"].low > 0.1  # removing the shift must help

    unchanged = compare_queries(data, data.queries)
    assert unchanged.ties == len(data.queries)
    against_itself = compare_queries(data, adapted, base_queries=adapted)
    assert against_itself.base == against_itself.adapted == compare_queries(data, adapted).adapted


def test_compare_queries_uses_the_similarity_of_the_data():
    data, adapted = noisy_data()
    far = VectorDataset(data.queries, data.passages, data.relevance, similarity="euclidean")
    assert compare_queries(far, adapted).base != compare_queries(data, adapted).base


def test_queries_of_another_dimension_need_a_base():
    data, adapted = noisy_data()
    wide = VectorDataset(np.tile(data.queries, 2), data.passages, data.relevance)
    with pytest.raises(InvalidVectorsError, match=r"dimension 32, .*of dimension 16"):
        compare_queries(wide, adapted)
    result = compare_queries(wide, adapted, base_queries=data.queries)
    assert result.to_dict() == compare_queries(data, adapted).to_dict()


def test_metrics_that_cannot_be_compared_are_refused(subtests):
    for base, adapted, message in (
        (metrics([1, 0]), metrics([1, 0], mrr=[1, 0]), "compare the same metrics"),
        (metrics([1, 0]), metrics([1, 0, 1]), r"shapes are \[\(2,\), \(3,\)\]"),
        ({"mrr@10": np.ones(2)}, {"mrr@10": np.ones(2)}, "Found 0 nDCG metrics among mrr@10"),
        ({}, {}, "Found 0 nDCG metrics among none"),
        (metrics([]), metrics([]), "There are no queries"),
    ):
        with (
            subtests.test(base=base, adapted=adapted, message=message),
            pytest.raises(InvalidVectorsError, match=message),
        ):
            compare(base, adapted)


class TestSeenAndUnseen:
    def test_each_kind_has_its_numbers_means_and_gain(self):
        base, adapted = metrics([0.0, 0.5, 1.0, 0.2]), metrics([1.0, 1.0, 1.0, 0.1])
        result = compare(base, adapted, seen=[True, True, False, False])
        assert (result.seen.queries, result.unseen.queries) == (2, 2)
        assert result.seen.base == {"ndcg@10": 0.25}
        assert result.seen.adapted == {"ndcg@10": 1.0}
        assert result.seen.gains["ndcg@10"].mean == pytest.approx(0.75)
        assert result.unseen.gains["ndcg@10"].mean == pytest.approx(-0.05)
        assert result.unseen.gains["ndcg@10"].low < 0

    def test_interval_of_a_kind_is_that_of_its_queries_alone(self):
        base, adapted = shifted(0.05, n=100)
        seen = np.arange(100) < 40
        alone = compare(*({k: v[seen] for k, v in m.items()} for m in (base, adapted)))
        assert compare(base, adapted, seen=seen).seen.gains == alone.gains

    def test_they_are_in_the_table_and_in_json(self):
        base, adapted = shifted(0.05, n=1300)
        result = compare(base, adapted, seen=np.arange(1300) < 1200)
        text = str(result)
        for word, kind in (("seen", result.seen), ("unseen", result.unseen)):
            row = next(line for line in text.splitlines() if f"nDCG@10, {word}" in line)
            mean, low, high = kind.gains["ndcg@10"]
            assert f"{mean:+.4f}" in row
            assert f"{low:+.4f} to {high:+.4f}" in row
        assert "seen: 1,200 about passages training asked about; unseen: 100 others" in text
        assert max(map(len, text.splitlines())) <= 80
        written = json.loads(json.dumps(result.to_dict()))
        assert written["seen"]["queries"] == 1200
        assert written["unseen"]["gains"]["ndcg@10"]["low"] == result.unseen.gains["ndcg@10"].low

    def test_a_kind_without_questions_says_so(self):
        result = compare(*shifted(0.05, n=20), seen=np.zeros(20, bool))
        assert result.seen.queries == 0
        assert "nDCG@10, seen" not in str(result)
        assert "seen: 0 about passages" in str(result)

    def test_without_knowledge_they_are_unknown(self):
        result = compare(*shifted(0.05, n=20))
        assert result.seen is result.unseen is None
        assert result.to_dict()["seen"] is None
        assert "seen and unseen: unknown" in str(result)

    @pytest.mark.parametrize("seen", [[True, False], [1, 0, 1], [[True, True, False]]])
    def test_what_is_not_one_truth_value_for_each_query_is_refused(self, seen):
        with pytest.raises(InvalidVectorsError, match="True or False for each of the 3 queries"):
            compare(metrics([0, 0, 0]), metrics([1, 1, 1]), seen=seen)


def test_impossible_options_are_refused(subtests):
    for options, message in (
        ({"confidence": 95}, "confidence is 95"),
        ({"n_resamples": 0}, "n_resamples is 0"),
    ):
        with (
            subtests.test(options=options, message=message),
            pytest.raises(InvalidOptionError, match=message),
        ):
            compare(*shifted(0.1, n=5), **options)


def test_importing_it_imports_neither_scipy_nor_rich_nor_torch():
    code = (
        "import sys, llama_index_adapters.evaluation.comparison;"
        "print([name for name in ('scipy', 'rich', 'torch') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
