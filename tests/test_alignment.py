"""Maps without labels: each is what its definition says, and the best one is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power, orthogonal_procrustes
from sklearn.linear_model import Ridge

from llama_index_adapters.alignment.align import align
from llama_index_adapters.alignment.maps import STRENGTHS, Recipe, maps
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.ranking import unit_rows


def two_models(count=300, new_dim=24, old_dim=16, noise=0.1, seed=0):
    """Passages that two models see, each through a map and noise of its own."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(count, 12))
    rows = []
    for dim in (new_dim, old_dim):
        mapping = np.random.default_rng(dim).normal(size=(12, dim))
        rows.append(unit_rows(latent @ mapping + noise * rng.normal(size=(count, dim))))
    return rows


def direction(weight):
    return weight / np.linalg.norm(weight)


class TestMaps:
    def test_regression_and_adjoint_are_ridge_of_scikit_learn(self):
        new, old = two_models()
        made = dict(maps(new, old))
        new, old = new.astype(np.float64), old.astype(np.float64)
        for strength in STRENGTHS:
            for kind, x, y in (("regression", new, old), ("adjoint", old, new)):
                alpha = strength * np.trace(x.T @ x) / x.shape[1]
                weight = Ridge(alpha=alpha, fit_intercept=False).fit(x, y).coef_
                weight = weight if kind == "regression" else weight.T
                np.testing.assert_allclose(
                    direction(made[Recipe(kind, strength)]), direction(weight), atol=2e-5
                )

    def test_procrustes_is_scipy_s(self):
        new, old = two_models(new_dim=16)
        rotation, _ = orthogonal_procrustes(new.astype(np.float64), old.astype(np.float64))
        np.testing.assert_allclose(
            direction(dict(maps(new, old))[Recipe("procrustes")]), direction(rotation.T), atol=1e-5
        )

    def test_whitened_is_the_cross_moment_between_inverse_roots_of_scipy(self):
        new, old = two_models()
        made = dict(maps(new, old))
        new, old = new.astype(np.float64), old.astype(np.float64)
        for strength in STRENGTHS:
            roots = []
            for x in (old, new):
                moment = x.T @ x
                ridge = strength * np.diag(moment).mean() * np.eye(len(moment))
                roots.append(fractional_matrix_power(moment + ridge, -0.5))
            weight = roots[0] @ (old.T @ new) @ roots[1]
            np.testing.assert_allclose(
                direction(made[Recipe("whitened", strength)]), direction(weight), atol=2e-5
            )

    def test_passages_come_out_at_length_one(self):
        new, old = two_models()
        for _, weight in maps(new, old):
            # The mean of two maps is somewhat shorter than either.
            assert 0.7 < np.linalg.norm(new @ weight.T, axis=1).mean() < 1.001

    def test_queries_of_both_models_join_the_regression(self):
        new, old = two_models(count=20)
        more = two_models(count=400, seed=1)
        held_new, held_old = two_models(count=200, seed=2)
        errors = []
        for extra in (None, tuple(more)):
            weight = dict(maps(new, old, extra=extra))[Recipe("regression", 0.01)]
            errors.append(np.linalg.norm(held_new @ weight.T - held_old))
        assert errors[1] < errors[0]


class TestChoice:
    def test_a_rotation_is_found_and_keeps_everything(self):
        rng = np.random.default_rng(0)
        old = rng.normal(size=(200, 16))
        rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
        found = align(old @ rotation, old)
        np.testing.assert_allclose(found.weight, rotation, atol=2e-3)
        assert found.report.kept.mean > 0.999

    def test_it_chooses_by_texts_that_the_map_has_not_seen(self):
        """With fewer passages than dimensions a weak ridge fits them perfectly, and fails."""
        new, old = two_models(count=40, new_dim=64, old_dim=48, noise=0.5)
        report = align(new, old).report
        assert dict(report.tried)[report.chosen] == max(dict(report.tried).values())
        weak = dict(maps(new, old))[Recipe("regression", STRENGTHS[0])]
        assert np.abs(new @ (weak / np.linalg.norm(weak)).T).max() > 0  # fits what it saw
        assert report.chosen != str(Recipe("regression", STRENGTHS[0]))

    def test_texts_are_ranked_over_passages_that_made_no_map(self):
        """The adjoint reproduces the scores of those so well that its weakest ridge would win."""
        sizes = {"new_dim": 64, "old_dim": 48, "noise": 1.0}
        new, old = two_models(count=60, **sizes)
        fresh_new, fresh_old = two_models(count=400, seed=9, **sizes)
        own = fresh_new @ fresh_new.T
        np.fill_diagonal(own, -np.inf)

        def found(weight):
            mapped = (fresh_new @ weight.T) @ fresh_old.T
            np.fill_diagonal(mapped, -np.inf)
            return np.mean(mapped.argmax(axis=1) == own.argmax(axis=1))

        weakest = dict(maps(new, old))[Recipe("adjoint", STRENGTHS[0])]
        assert found(align(new, old).weight) > found(weakest) + 0.05

    def test_the_curve_says_what_more_passages_bring(self):
        report = align(*two_models(count=120, new_dim=48, old_dim=32, noise=0.5)).report
        points = [point.kept for point in report.curve]
        assert points == sorted(points)
        assert points[-1] == report.kept.mean
        assert report.kept.low < report.kept.mean < report.kept.high
        assert report.kept.mean < report.with_thousand_more <= 1
        assert f"{report.kept.mean:.1%} of the new model's own ranking" in str(report)

    def test_a_log_of_queries_judges(self):
        new, old = two_models()
        queries, of_old = two_models(count=80, seed=5)
        report = align(new, old, new_queries=queries, old_queries=of_old).report
        assert report.judged_on == "queries"
        assert report.kept.mean > 0.8

    def test_the_curve_is_judged_as_the_share_is(self):
        """A log judges all points of it: passages are kept much better here."""
        new, old = two_models(count=400)
        # They ask for what the old model does not see.
        *_, directions = np.linalg.svd(new)
        queries = np.random.default_rng(1).normal(size=(200, 12)) @ directions[12:]
        by_passages, by_queries = (
            align(new, old).report,
            align(new, old, new_queries=queries).report,
        )
        for report in (by_passages, by_queries):
            for point in report.curve:
                assert point.kept == pytest.approx(report.kept.mean, abs=0.1)
        assert by_passages.kept.mean > by_queries.kept.mean + 0.2

    def test_no_share_is_above_one(self):
        """Rounding must not promise more than all: a model and itself."""
        new, _ = two_models(count=200)
        report = align(new, new).report
        shares = (*report.kept, *(point.kept for point in report.curve), report.with_thousand_more)
        assert max(shares) <= 1
        assert min(shares) > 0.99

    def test_unrelated_models_keep_nothing(self):
        rng = np.random.default_rng(0)
        report = align(rng.normal(size=(200, 8)), rng.normal(size=(200, 8))).report
        assert report.kept.high < 0.6
        assert report.first_found < 0.15

    def test_the_same_seed_gives_the_same_bytes(self):
        one, again = (align(*two_models(), seed=3) for _ in range(2))
        assert one.weight.tobytes() == again.weight.tobytes()
        assert one.report == again.report

    def test_what_cannot_be_aligned(self, subtests):
        new, old = two_models(count=30)
        broken, zero = new.copy(), new.copy()
        broken[3, 0], zero[3] = np.nan, 0
        for name, arguments, options, message in (
            ("too few", (new[:5], old[:5]), {}, "5 passages are too few"),
            ("rows", (new, old[:-1]), {}, "30 rows and old_passages 29"),
            ("NaN", (broken, old), {}, "NaN"),
            ("zero", (zero, old), {}, r"1 zero vectors.*\[3\]"),
            ("queries", (new, old), {"new_queries": old}, "new_queries has vectors of 16"),
        ):
            with subtests.test(name), pytest.raises(InvalidVectorsError, match=message):
                align(*arguments, **options)
