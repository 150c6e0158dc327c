"""One adapter trained and judged, and the identity when nothing was gained."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.fit import carve_validation, fit
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.validation import adapted_queries, judge
from tests.vector_sets import DIM, noise, perfect, rotated, weights

OPTIONS = TrainingOptions(epochs=12, batch_size=32, learning_rate=2e-2, patience=4)


def of_one_text() -> VectorDataset:
    data = rotated(10)
    return dataclasses.replace(data, queries=data.queries[:1].repeat(10, axis=0))


class TestGain:
    def test_a_gain_is_kept(self):
        train, validation = rotated(), rotated(60, seed=1)
        adapter = LinearAdapter(DIM)
        fitted = fit(adapter, train, validation, OPTIONS)
        assert fitted.adapter is adapter
        assert len(fitted.history) == 13
        assert fitted.base["ndcg@10"].mean() < 0.2
        served = judge(adapted_queries(adapter, validation.queries), validation)
        for name, values in served.items():
            np.testing.assert_array_equal(fitted.adapted[name], values)
        best = max(record.validation for record in fitted.history)
        assert fitted.adapted["ndcg@10"].mean() == best > 0.4

    def test_into_another_dimension_there_is_no_base_to_fall_back_to(self):
        train, validation = rotated(passage_dim=12), rotated(60, passage_dim=12, seed=1)
        fitted = fit(LinearAdapter(DIM, 12), train, validation, OPTIONS)
        assert type(fitted.adapter) is LinearAdapter
        assert fitted.base is None
        assert len(fitted.adapted["ndcg@10"]) == 60

    def test_an_adapter_that_starts_below_the_base_does_not_pass_for_a_gain(self):
        """It gets better from its own start, and is still worse than no adapter."""
        start = LinearAdapter(DIM)
        noise = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0))
        start.linear.weight.data += noise
        fitted = fit(start, perfect(seed=1, n_queries=100), perfect(), OPTIONS)
        judged = [record.validation for record in fitted.history]
        assert judged[0] + 0.1 < max(judged) < 1.0
        assert isinstance(fitted.adapter, IdentityAdapter)


class TestNoGain:
    @pytest.mark.parametrize(
        ("family", "seed"),
        [(LinearAdapter, 0), (LinearAdapter, 1), (TwoLayerAdapter, 2), (TwoLayerAdapter, 3)],
    )
    def test_the_identity(self, caplog, seed, family):
        validation = perfect(seed)
        with caplog.at_level(logging.INFO, logger="llama_index_adapters"):
            options = dataclasses.replace(OPTIONS, seed=seed)
            fitted = fit(family(DIM), noise(seed), validation, options)
        assert isinstance(fitted.adapter, IdentityAdapter)
        assert fitted.adapter.in_features == DIM
        assert fitted.adapted is fitted.base
        assert fitted.base["ndcg@10"].tolist() == [1.0] * 40
        assert "certainty=0 would keep it all the same" in caplog.text
        assert "the result is the identity" in caplog.text
        # What was tried is still told.
        assert len(fitted.history) == 1 + OPTIONS.patience

    def test_a_lucky_epoch_is_no_gain(self):
        """On noise some epoch of many is above the base on 20 held-out queries by chance."""
        above, kept = 0, 0
        for seed in range(30):
            data = noise(seed, n_queries=100, n_passages=120)
            fitted = fit(LinearAdapter(DIM), data, None, dataclasses.replace(OPTIONS, seed=seed))
            best = max(record.validation for record in fitted.history)
            above += best > fitted.history[0].validation
            kept += not isinstance(fitted.adapter, IdentityAdapter)
        assert above > 15
        assert kept < 9

    def test_unless_it_is_to_be_kept_whatever_validation_says(self):
        adapter = LinearAdapter(DIM)
        options = dataclasses.replace(OPTIONS, certainty=0)
        assert fit(adapter, noise(0), perfect(), options).adapter is adapter

    def test_training_did_something(self):
        """Without this, the tests above would pass for a loop that does nothing."""
        adapter = LinearAdapter(DIM)
        steps = []
        fit(
            adapter,
            noise(0),
            perfect(),
            OPTIONS,
            TrainingSession(after_step=lambda trained, _: steps.append(weights(trained))),
        )
        assert len(set(steps)) == len(steps) == 2 * OPTIONS.patience


class TestCarving:
    def test_a_fifth_is_held_out(self):
        fold = carve_validation(rotated(100), seed=0)
        assert (len(fold.train.queries), len(fold.validation.queries)) == (80, 20)
        # One query a passage: the passages go with their queries, and stay candidates.
        relevant = fold.validation.relevance.passages
        assert sorted(fold.unseen) == sorted(relevant)
        assert set(fold.train.query_ids).isdisjoint(fold.validation.query_ids)

    def test_by_query_where_passages_are_asked_about_again(self):
        data = rotated(100)
        again = VectorDataset(
            np.concatenate([data.queries, 2 * data.queries + 0.1]),
            data.passages,
            Relevance.from_rows([[row] for row in [*range(100), *range(100)]]),
        )
        fold = carve_validation(again, seed=0)
        assert (len(fold.train.queries), len(fold.validation.queries)) == (160, 40)
        assert not fold.unseen.size

    def test_never_more_than_is_needed(self, monkeypatch):
        monkeypatch.setattr("llama_index_adapters.training.holdout.MOST_JUDGED", 10)
        fold = carve_validation(rotated(100), seed=0)
        assert (len(fold.train.queries), len(fold.validation.queries)) == (90, 10)

    def test_a_large_piece_that_cannot_be_parted_is_learned_from(self):
        """Half of the queries share a passage; the rest ask about one passage each."""
        rng = np.random.default_rng(0)
        relevance = [[0]] * 19 + [[row] for row in range(1, 22)]
        data = VectorDataset(
            rng.normal(size=(40, 4)), rng.normal(size=(30, 4)), Relevance.from_rows(relevance)
        )
        for seed in range(60):
            fold = carve_validation(data, seed=seed)
            assert 3 <= len(fold.validation.queries) <= 13
            assert len(fold.train.queries) + len(fold.validation.queries) == 40

    def test_the_seed_decides_which(self):
        ids = [carve_validation(rotated(100), seed=seed).validation.query_ids for seed in (1, 1, 2)]
        assert ids[0] == ids[1] != ids[2]

    def test_two_queries_are_enough(self):
        data = rotated(2)
        fold = carve_validation(data, seed=0)
        assert (len(fold.train.queries), len(fold.validation.queries)) == (1, 1)

    def test_of_a_large_set_a_part_judges(self, monkeypatch):
        monkeypatch.setattr("llama_index_adapters.training.search.plan.FEW_TRIALS_ABOVE", 0)
        fitted = fit(LinearAdapter(DIM), rotated(150), None, OPTIONS)
        assert len(fitted.adapted["ndcg@10"]) == 30
        assert type(fitted.adapter) is LinearAdapter
        assert fitted.history[-1].validation > fitted.history[0].validation + 0.2

    def test_a_large_set_of_one_text_cannot_be_parted(self, monkeypatch):
        monkeypatch.setattr("llama_index_adapters.training.search.plan.FEW_TRIALS_ABOVE", 0)
        message = r"No part of the 10 queries can be held out .*\. All 10 have the same vector: .*"
        with pytest.raises(InvalidVectorsError, match=message):
            fit(LinearAdapter(DIM), of_one_text(), None, OPTIONS)


class TestCrossFit:
    """A set of usual size, without a validation set."""

    def test_every_query_judges_what_had_not_seen_it(self):
        train, fresh = rotated(150), rotated(150, seed=1)
        fitted = fit(LinearAdapter(DIM), train, None, OPTIONS)
        assert len(fitted.adapted["ndcg@10"]) == len(fitted.base["ndcg@10"]) == 150
        assert fitted.history[0].loss is None
        assert fitted.history[-1].validation > fitted.history[0].validation + 0.2
        best = max(record.validation for record in fitted.history)
        assert fitted.adapted["ndcg@10"].mean() == pytest.approx(best)
        assert fitted.kinds is not None
        adapted = judge(adapted_queries(fitted.adapter, fresh.queries), fresh)["ndcg@10"].mean()
        assert adapted > judge(fresh.queries, fresh)["ndcg@10"].mean() + 0.2

    def test_the_adapter_is_trained_on_everything_up_to_the_best_epoch(self):
        steps = []
        fitted = fit(
            LinearAdapter(DIM),
            rotated(150),
            None,
            OPTIONS,
            TrainingSession(after_step=lambda _, step: steps.append(step)),
        )
        best = int(np.argmax([record.validation for record in fitted.history]))
        assert steps == list(range(1, best * -(-150 // OPTIONS.batch_size) + 1))

    def test_both_kinds_are_judged_where_the_data_allow(self):
        data = rotated(160)
        rows = [row % 80 for row in range(160)]
        again = dataclasses.replace(data, relevance=Relevance.from_rows([[row] for row in rows]))
        fitted = fit(LinearAdapter(DIM), again, None, OPTIONS)
        assert fitted.kinds.both_judged
        assert len(fitted.adapted["ndcg@10"]) == len(fitted.seen) == 160

    def test_same_seed_same_bytes(self):
        found = [fit(LinearAdapter(DIM), rotated(100), None, OPTIONS).adapter for _ in range(2)]
        assert weights(found[0]) == weights(found[1]) != weights(LinearAdapter(DIM))

    def test_without_a_base_the_best_epoch_is_kept(self):
        train = rotated(100, dim=DIM, passage_dim=DIM + 4)
        fitted = fit(LinearAdapter(DIM, DIM + 4), train, None, OPTIONS)
        assert fitted.base is None
        assert len(fitted.adapted["ndcg@10"]) == 100


class TestTooSmall:
    def test_one_query(self):
        with pytest.raises(InvalidVectorsError, match=r"1 query cannot be split by query"):
            fit(LinearAdapter(DIM), rotated(1), None, OPTIONS)

    def test_many_of_the_same_text(self):
        message = r"10 queries cannot be split by .*\. All 10 have the same vector: .*"
        with pytest.raises(InvalidVectorsError, match=message):
            fit(LinearAdapter(DIM), of_one_text(), None, OPTIONS)


class TestMismatch:
    def test_validation_of_another_dimension(self):
        message = (
            r"Training queries and passages have 16 and 16 dimensions, those of validation 8 "
            r"and 8\. Embed both with the same model\."
        )
        with pytest.raises(InvalidVectorsError, match=message):
            fit(LinearAdapter(DIM), rotated(), rotated(dim=8), OPTIONS)

    def test_passages_of_another_dimension(self):
        with pytest.raises(InvalidVectorsError, match=r"16 and 16 dimensions, .* 16 and 12"):
            fit(LinearAdapter(DIM), rotated(), rotated(passage_dim=12), OPTIONS)

    def test_validation_compared_in_another_way(self):
        message = r"Training compares vectors by 'cosine', validation by 'euclidean'\."
        with pytest.raises(InvalidVectorsError, match=message):
            fit(LinearAdapter(DIM), rotated(), rotated(similarity="euclidean"), OPTIONS)
