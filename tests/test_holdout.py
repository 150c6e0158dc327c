"""What is held out, and what stays together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.holdout import fold_numbers, hold_out, holdout_unit


def dataset(relevance, n_passages=None, queries=None, copies=None) -> VectorDataset:
    """Queries with the given relevant passages; all vectors differ unless given.

    ``copies`` names for each passage the one whose vector it has.
    """
    n_passages = n_passages or max(max(rows) for rows in relevance) + 1
    rng = np.random.default_rng(0)
    if queries is None:
        queries = rng.normal(size=(len(relevance), 3))
    passages = rng.normal(size=(n_passages, 3))
    if copies is not None:
        passages = passages[copies]
    return VectorDataset(queries, passages, Relevance.from_rows(relevance))


class TestUnit:
    def test_passages_that_have_one_query_each(self):
        assert holdout_unit(dataset([[row] for row in range(9)])) == "passage"

    def test_passages_that_have_several(self):
        assert holdout_unit(dataset([[row // 2] for row in range(9)])) == "query"

    def test_the_usual_passage_decides(self):
        """One passage that everybody asks about does not make the others known."""
        often = [[0]] * 5
        assert holdout_unit(dataset([*often, *([row] for row in range(1, 21))])) == "passage"
        assert holdout_unit(dataset([[0], [0], [1], [1], [2]])) == "query"

    def test_passages_nobody_asks_about_do_not(self):
        assert holdout_unit(dataset([[0], [0], [1], [1]], n_passages=100)) == "query"

    def test_copies_of_a_passage_are_one(self):
        """Each id is asked about once, each passage twice."""
        twice = [row % 10 for row in range(20)]
        assert holdout_unit(dataset([[row] for row in range(20)], copies=twice)) == "query"

    def test_passages_that_cannot_be_parted_are_not_held_out(self):
        """Every query shares a passage with the next; most passages have one query only."""
        chain = [[row, row + 1, 100 + 4 * row, 101 + 4 * row, 102 + 4 * row] for row in range(20)]
        assert holdout_unit(dataset(chain)) == "query"


def folds_of(data, n_folds=5, unit="query", seed=0):
    return fold_numbers(data, n_folds, unit=unit, seed=seed)


class TestFolds:
    def test_sizes_are_about_equal(self, subtests):
        for n_queries in (100, 103, 7):
            for unit in ("query", "passage"):
                with subtests.test(n_queries=n_queries, unit=unit):
                    data = dataset([[row] for row in range(n_queries)])
                    sizes = np.bincount(folds_of(data, unit=unit), minlength=5)
                    assert sizes.sum() == n_queries
                    assert sizes.max() - sizes.min() <= 1

    def test_equal_vectors_stay_together(self):
        texts = np.random.default_rng(1).integers(0, 20, 60)
        vectors = np.random.default_rng(2).normal(size=(20, 3))[texts]
        data = dataset([[row] for row in range(60)], queries=vectors)
        for unit in ("query", "passage"):
            folds = folds_of(data, unit=unit)
            for text in np.unique(texts):
                assert len(set(folds[texts == text])) == 1
            assert len(set(folds)) == 5

    def test_shared_passages_stay_together(self):
        """A chain of shared passages is one piece, though its ends share none."""
        chain, alone = [[row, row + 1] for row in range(4)], [[row] for row in range(10, 26)]
        data = dataset([*chain, *alone])
        assert len(set(folds_of(data, unit="passage")[:4])) == 1
        apart = {len(set(folds_of(data, unit="query", seed=seed)[:4])) for seed in range(5)}
        assert max(apart) > 1

    def test_copies_of_a_passage_stay_together(self):
        twice = [row % 30 for row in range(60)]
        data = dataset([[row] for row in range(60)], copies=twice)
        folds = folds_of(data, unit="passage")
        np.testing.assert_array_equal(folds[:30], folds[30:])
        assert len(set(folds)) == 5
        assert (folds_of(data, unit="query")[:30] != folds_of(data, unit="query")[30:]).any()

    def test_the_seed_decides(self):
        data = dataset([[row] for row in range(50)])
        np.testing.assert_array_equal(folds_of(data, seed=1), folds_of(data, seed=1))
        assert (folds_of(data, seed=1) != folds_of(data, seed=2)).any()
        assert (np.diff(folds_of(data, seed=1)) < 0).any()

    def test_the_vectors_order_does_not_show(self):
        """The fold does not follow the size of the numbers, which may follow the topic."""
        queries = np.sort(np.random.default_rng(0).normal(size=(200, 1)), axis=0).repeat(3, 1)
        folds = folds_of(dataset([[row] for row in range(200)], queries=queries))
        assert all(len(set(folds[start : start + 40])) == 5 for start in range(0, 200, 40))


class TestHoldOut:
    def test_by_passage(self):
        """Held-out passages are candidates of validation and unknown to training."""
        data = dataset([[0, 1], [2], [3], [4]], n_passages=7)
        held = np.array([True, False, False, True])
        fold = hold_out(data, held, unit="passage")
        assert fold.train.query_ids == ("1", "2")
        assert fold.unseen.tolist() == [0, 1, 4]
        assert [rows.tolist() for rows in fold.train.relevance] == [[2], [3]]
        assert fold.validation.query_ids == ("0", "3")
        assert fold.validation.passage_ids == data.passage_ids
        assert [rows.tolist() for rows in fold.validation.relevance] == [[0, 1], [4]]

    def test_copies_of_held_out_passages_are_unknown_to_training_too(self):
        data = dataset([[0], [1], [2]], n_passages=6, copies=[0, 1, 2, 0, 1, 5])
        fold = hold_out(data, np.array([True, False, False]), unit="passage")
        assert fold.unseen.tolist() == [0, 3]
        # Metrics stay those of the labels.
        assert [rows.tolist() for rows in fold.validation.relevance] == [[0]]

    def test_a_passage_that_training_asks_about_too_stays(self):
        data = dataset([[0, 1], [1], [2]])
        fold = hold_out(data, np.array([True, False, False]), unit="passage")
        assert fold.unseen.tolist() == [0]

    def test_by_query(self):
        data = dataset([[0], [0], [1]], n_passages=4)
        fold = hold_out(data, np.array([False, True, True]), unit="query")
        assert fold.train.query_ids == ("0",)
        assert fold.validation.query_ids == ("1", "2")
        assert not fold.unseen.size


@st.composite
def question_sets(draw):
    n_passages = draw(st.integers(1, 12))
    passages = st.lists(st.integers(0, n_passages - 1), min_size=1, max_size=3, unique=True)
    relevance = draw(st.lists(passages, min_size=2, max_size=25))
    texts = draw(st.lists(st.integers(0, 9), min_size=len(relevance), max_size=len(relevance)))
    queries = np.random.default_rng(0).normal(size=(10, 2))[texts]
    return dataset(relevance, n_passages, queries), np.array(texts)


@settings(max_examples=150, deadline=None)
@given(question_sets(), st.integers(2, 6), st.sampled_from(["query", "passage"]), st.integers(0, 9))
def test_whatever_the_set(drawn, n_folds, unit, seed):
    data, texts = drawn
    folds = fold_numbers(data, n_folds, unit=unit, seed=seed)
    assert folds.shape == (len(data.queries),)
    assert folds.min() >= 0
    assert folds.max() < n_folds
    np.testing.assert_array_equal(folds, fold_numbers(data, n_folds, unit=unit, seed=seed))
    seen_in_train = []
    for number in np.unique(folds):
        held = folds == number
        assert not set(texts[held]) & set(texts[~held])
        if held.all():
            continue
        fold = hold_out(data, held, unit=unit)
        assert set(fold.train.query_ids).isdisjoint(fold.validation.query_ids)
        assert len(fold.train.queries) + len(fold.validation.queries) == len(data.queries)
        # Whatever is held out is still ranked over everything.
        np.testing.assert_array_equal(fold.validation.passages, data.passages)
        for part in (fold.train, fold.validation):
            for name, rows in zip(part.query_ids, part.relevance, strict=True):
                relevant = [part.passage_ids[row] for row in rows]
                assert relevant == [str(row) for row in data.relevance[int(name)]]
        asked = set(fold.validation.relevance.passages.tolist())
        assert asked.isdisjoint(fold.train.relevance.passages.tolist()) or unit == "query"
        assert set(fold.unseen.tolist()) == (asked if unit == "passage" else set())
        seen_in_train.append(len(fold.validation.queries))
    assert sum(seen_in_train) in (0, len(data.queries))
