"""Equal passages under different ids: found by their vectors, and what they cost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_adapters.evaluation.comparison import compare_queries
from llama_index_adapters.retrieval.copies import first_copies, merged, with_copies
from llama_index_adapters.retrieval.ranking import SIMILARITIES, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset


def rows_of(relevance):
    return [rows.tolist() for rows in relevance]


class TestFirstCopies:
    def test_equal_rows_have_one_first_row(self):
        vectors = np.float32([[1, 2], [0.0, 3], [1, 2], [4, 5], [-0.0, 3], [1, 2]])
        assert first_copies(vectors).tolist() == [0, 1, 0, 3, 1, 0]

    def test_rows_that_begin_alike_are_told_apart(self):
        vectors = np.zeros((4, 40), np.float32)
        vectors[1:3, 39] = 1
        assert first_copies(vectors).tolist() == [0, 1, 1, 0]

    def test_a_number_that_differs_by_rounding_is_another(self):
        vectors = np.float32([[1, 1], [1, np.nextafter(np.float32(1), np.float32(2))]])
        assert first_copies(vectors).tolist() == [0, 1]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.integers(-1, 1), min_size=2, max_size=2), min_size=1, max_size=12))
    def test_is_what_comparing_all_pairs_gives(self, numbers):
        vectors = np.float32(numbers)
        expected = [
            next(other for other in range(len(vectors)) if (vectors[other] == vectors[row]).all())
            for row in range(len(vectors))
        ]
        assert first_copies(vectors).tolist() == expected


class TestRelevance:
    COPIES = np.array([0, 1, 0, 3, 1, 0])

    def test_copies_of_a_relevant_passage_are_relevant(self):
        relevance = Relevance.from_rows([[2], [3], [1, 5], [3, 4]])
        expected = [[0, 2, 5], [3], [0, 1, 2, 4, 5], [1, 3, 4]]
        assert rows_of(with_copies(relevance, self.COPIES)) == expected

    def test_the_first_stands_for_all(self):
        relevance = Relevance.from_rows([[2], [3], [1, 5], [0, 2, 5]])
        assert rows_of(merged(relevance, self.COPIES)) == [[0], [3], [0, 1], [0]]

    def test_without_copies_it_is_the_same_object(self):
        relevance = Relevance.from_rows([[1, 0], [2]])
        assert with_copies(relevance, np.arange(3)) is relevance


def twice(labels, *, similarity="cosine", n=30, dim=16):
    """Thirty passages, each under two ids, and a question about each that finds it."""
    generator = np.random.default_rng(0)
    once = unit_rows(generator.standard_normal((n, dim)))
    relevance = Relevance.from_rows([[row + labels * n] for row in range(n)])
    return VectorDataset(once, np.concatenate([once, once]), relevance, similarity)


class TestEvaluation:
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_the_copy_that_is_labelled_decides_and_the_cost_is_said(self, similarity):
        first, second = (
            compare_queries(data, data.queries)
            for data in (twice(0, similarity=similarity), twice(1, similarity=similarity))
        )
        assert first.base["ndcg@10"] == 1
        assert second.base["ndcg@10"] == pytest.approx(1 / np.log2(3))  # .631: the copy is second
        assert (first.copies.passages, first.copies.base_cost["ndcg@10"]) == (30, 0)
        assert second.copies.passages == 30
        assert second.copies.base_cost["ndcg@10"] == pytest.approx(1 - 1 / np.log2(3))

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_merged_it_does_not_matter_which_is_labelled(self, similarity):
        data = twice(0, similarity=similarity)
        alone = VectorDataset(
            data.queries, data.passages[:30], data.relevance, similarity=similarity
        )
        expected = compare_queries(alone, data.queries[::-1])
        for labels in (0, 1):
            found = compare_queries(
                twice(labels, similarity=similarity), data.queries[::-1], merge_copies=True
            )
            assert (found.base, found.adapted) == (expected.base, expected.adapted)
            assert found.copies.merged
            assert (found.copies.base_cost["ndcg@10"] > 0) == bool(labels)

    def test_many_copies_before_the_relevant_passage(self):
        """Ranked again as deep as it takes, and over fewer passages than are looked at."""
        passages = np.float32([[1, 0.1 * row] for row in range(8)])
        copied = np.concatenate([np.repeat(passages[:1], 60, axis=0), passages[1:]])
        data = VectorDataset(np.float32([[1, 0]]), copied, Relevance.from_rows([[62]]))
        found = compare_queries(data, data.queries, merge_copies=True)
        assert found.base["mrr@10"] == pytest.approx(1 / 4)
        assert found.copies.base_cost["mrr@10"] == pytest.approx(1 / 4)
        assert found.base["precision@10"] == pytest.approx(1 / 10)

    def test_without_copies_nothing_costs_anything(self):
        data = VectorDataset(np.eye(4), np.eye(4), Relevance.from_rows([[0], [1], [2], [3]]))
        for merge_copies in (False, True):
            found = compare_queries(data, data.queries, merge_copies=merge_copies)
            assert found.copies.passages == 0
            assert set(found.copies.base_cost.values()) == {0.0}
            assert "copies" not in str(found)

    def test_the_table_and_the_json_say_it(self):
        data = twice(1)
        found = compare_queries(data, data.queries)
        assert "30 passages are copies of others, which costs" in str(found)
        assert "0.3691 (base) and 0.3691 (adapted) nDCG@10" in str(found)
        held = json.loads(json.dumps(found.to_dict()))["copies"]
        assert (held["passages"], held["merged"]) == (30, False)
        assert held["adapted_cost"]["ndcg@10"] == pytest.approx(0.3691, abs=1e-4)
        together = compare_queries(data, data.queries, merge_copies=True)
        assert "30 passages are copies of others and merged; apart they" in str(together)
        assert max(len(line) for line in str(together).split("\n")) <= 80
