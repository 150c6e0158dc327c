"""What a search maximises: both kinds of held-out questions, weighted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.frames import Frame
from llama_index_adapters.training.holdout import expected_unseen_share, lower_end
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search import plan
from llama_index_adapters.training.search.candidates import (
    linear_from,
    part_of_the_way,
    unchanged,
)
from llama_index_adapters.training.search.criterion import ENOUGH_OF_A_KIND, Criterion
from llama_index_adapters.training.search.stages import search_adapter
from tests.vector_sets import DIM

RNG = np.random.default_rng(0)
SEEN = np.arange(100) < 60


def dataset(*relevant, n_passages=40, seed=0):
    """One question for each list of rows of passages."""
    rng = np.random.default_rng(seed)
    passages = rng.normal(size=(n_passages, DIM))
    queries = np.stack([passages[rows].sum(axis=0) for rows in relevant])
    return VectorDataset(
        queries + rng.normal(size=queries.shape), passages, Relevance.from_rows(list(relevant))
    )


class TestCriterion:
    def test_both_kinds_are_weighted_whatever_their_numbers(self):
        gains = np.where(SEEN, 0.3, 0.1)
        assert Criterion(SEEN, 0.25).mean(gains) == pytest.approx(0.75 * 0.3 + 0.25 * 0.1)
        assert Criterion(SEEN, 1.0).mean(gains) == pytest.approx(0.1)

    def test_its_error_is_that_of_a_stratified_sample(self):
        draws = np.where(SEEN, RNG.normal(0.1, 0.3, (4000, 100)), RNG.normal(0, 0.1, (4000, 100)))
        criterion = Criterion(SEEN, 0.4)
        spread = np.std([criterion.mean(gains) for gains in draws])
        assert np.mean([criterion.error(gains) for gains in draws]) == pytest.approx(
            spread, rel=0.05
        )
        covered = np.mean([criterion.lower_end(gains, 0.95) < 0.06 for gains in draws])
        assert 0.94 < covered < 0.97

    def test_a_kind_with_too_few_questions_is_not_weighed(self):
        few = np.arange(100) < ENOUGH_OF_A_KIND - 1
        gains = RNG.normal(0.1, 0.3, 100)
        criterion = Criterion(few, 0.5)
        assert criterion.mean(gains) == pytest.approx(gains.mean())
        assert criterion.lower_end(gains, 0.9) == lower_end(gains, 0.9)
        assert "about passages that training asked about could not be held out (19 of 100)" in str(
            criterion.kinds
        )
        assert "did not ask about could not be held out" in str(Criterion(~few, 0.5).kinds)

    def test_both_kinds_are_named_with_their_weights(self):
        text = str(Criterion(SEEN, 0.25).kinds)
        assert "60 held-out questions about passages that training asked" in text
        assert "which weigh 75%, and 40 about others, which weigh 25%" in text

    def test_a_loss_on_one_kind_is_not_bought_by_the_other(self):
        gains = np.where(SEEN, 0.5, -0.05) + RNG.normal(0, 0.1, 100)
        assert Criterion(SEEN, 0.3).lower_end(gains, 0.995) > 0
        assert Criterion(SEEN, 0.3).loses_on_a_kind(gains, 0.995)
        assert not Criterion(SEEN, 0.3).loses_on_a_kind(np.abs(gains), 0.995)
        assert not Criterion(SEEN, 0.0).loses_on_a_kind(gains, 0.995)  # none of those are expected


class TestUnseenShare:
    def test_it_is_between_questions_asked_alone_and_passages_never_asked_about(self):
        data = dataset([0], [0], [1], [2, 3], [3], [4], [5], [6], n_passages=7)
        assert expected_unseen_share(data, 7) == pytest.approx(4 / 8 / 2)
        assert expected_unseen_share(data, 14) == pytest.approx((4 / 8 + 1 / 2) / 2)

    def test_it_is_at_least_a_tenth(self):
        twice = dataset(*[[row // 2] for row in range(40)], n_passages=20)
        assert expected_unseen_share(twice, 20) == 0.1

    def test_it_says_what_the_search_weighs_unless_it_is_given(self):
        relevant = [[row % 60 if row < 120 else row - 60] for row in range(180)]
        data = dataset(*relevant, n_passages=120)
        options = TrainingOptions(epochs=1)
        found = search_adapter(data, None, options)
        assert found.kinds.both_judged
        assert found.kinds.unseen_share == pytest.approx(60 / 180 / 2)
        given = search_adapter(data, None, dataclasses.replace(options, unseen_share=0.9))
        assert given.kinds.unseen_share == 0.9
        assert found.seen.sum() == found.kinds.seen
        trial = found.trials[1]
        assert trial.gain == pytest.approx(trial.seen_gain * 5 / 6 + trial.unseen_gain / 6)


class TestFolds:
    def test_a_large_validation_set_without_unseen_questions_is_completed_by_passages(self):
        train = dataset(*[[row % 40] for row in range(120)])
        validation = dataset(*[[row % 40] for row in range(300)])
        folds = plan.folds_of(train, validation, unit="query", seed=0, unseen_share=0.5)
        assert folds[0].validation is validation
        assert len(folds) == 1 + plan.FOLDS
        assert folds[0].seen.all()
        assert not any(fold.seen.any() or fold.unseen.size for fold in folds[1:])
        # Where none are expected, none are looked for.
        assert len(plan.folds_of(train, validation, unit="query", seed=0, unseen_share=0.0)) == 1

    def test_queries_are_held_out_where_that_gives_both_kinds(self):
        both = dataset(
            *[[row % 60 if row < 120 else row - 60] for row in range(180)], n_passages=120
        )
        assert plan.unit_of_folds(both) == "query"
        once = dataset(*[[row] for row in range(40)])
        assert plan.unit_of_folds(once) == "passage"


def test_part_of_the_way_is_the_mean_of_start_and_trained_weights():
    trained = linear_from(unchanged(Frame("identity", None), DIM), TrainingOptions(), DIM)
    half = part_of_the_way(trained, 0.5)
    start = {"linear.weight": np.eye(DIM, dtype=np.float32)}
    end = {"linear.weight": np.full((DIM, DIM), 3, np.float32)}
    np.testing.assert_array_equal(
        half.on_the_way(start, end)["linear.weight"], (start["linear.weight"] + 3) / 2
    )
    assert half.complexity < trained.complexity
    assert half.name == f"{trained.name}, 50% of the way"
