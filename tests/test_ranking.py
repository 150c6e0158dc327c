from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from llama_index.core.base.embeddings.base import SimilarityMode
from llama_index.core.base.embeddings.base import similarity as llama_index_similarity
from llama_index.core.evaluation.retrieval.metrics import (
    MRR,
    NDCG,
    AveragePrecision,
    HitRate,
    Precision,
    Recall,
)

from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.ranking import (
    METRICS,
    SIMILARITIES,
    TopK,
    mean_metrics,
    metrics_at_k,
    scoring_form,
    top_k,
    unit_rows,
)
from llama_index_adapters.retrieval.relevance import Relevance

TREC_NAMES = {
    "hit_rate": "success_{k}",
    "mrr": "recip_rank",
    "ndcg": "ndcg_cut_{k}",
    "recall": "recall_{k}",
    "precision": "P_{k}",
    "map": "map_cut_{k}",
}
LLAMA_INDEX_CLASSES: dict[str, Any] = {
    "hit_rate": HitRate,
    "mrr": MRR,
    "ndcg": NDCG,
    "recall": Recall,
    "precision": Precision,
    "map": AveragePrecision,
}


def random_vectors(seed=0, n_queries=60, n_passages=150, dim=12):
    generator = np.random.default_rng(seed)
    lengths = generator.uniform(0.5, 2, (n_passages, 1))
    return (
        generator.standard_normal((n_queries, dim)).astype(np.float32),
        (generator.standard_normal((n_passages, dim)) * lengths).astype(np.float32),
    )


def random_relevance(n_queries, n_passages, most, seed=0):
    generator = np.random.default_rng(seed)
    return Relevance.from_rows(
        [
            generator.choice(n_passages, size=generator.integers(1, most + 1), replace=False)
            for _ in range(n_queries)
        ]
    )


def sorted_by_definition(queries, passages, k, similarity):
    """LlamaIndex's own similarity function, query by query, and a plain sort."""
    mode = {
        "cosine": SimilarityMode.DEFAULT,
        "dot_product": SimilarityMode.DOT_PRODUCT,
        "euclidean": SimilarityMode.EUCLIDEAN,
    }[similarity]
    scores = np.array(
        [
            [llama_index_similarity(q, p, mode) for p in passages.astype(float)]
            for q in queries.astype(float)
        ]
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def test_order_and_scores_are_those_of_llama_index(subtests):
    for similarity in SIMILARITIES:
        with subtests.test(similarity=similarity):
            queries, passages = random_vectors()
            found = top_k(queries, passages, 7, similarity=similarity)
            order, scores = sorted_by_definition(queries, passages, 7, similarity)
            np.testing.assert_array_equal(found.passages, order)
            np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-6)
            assert found.passages.dtype == np.int64
            assert found.scores.dtype == np.float32


def test_the_similarities_disagree_on_vectors_of_different_lengths():
    queries, passages = random_vectors()
    ranked = [top_k(queries, passages, 10, similarity=name).passages for name in SIMILARITIES]
    assert not np.array_equal(ranked[0], ranked[1])
    assert not np.array_equal(ranked[1], ranked[2])
    assert not np.array_equal(ranked[0], ranked[2])


def test_block_size_does_not_change_the_result(subtests):
    for similarity in SIMILARITIES:
        with subtests.test(similarity=similarity):
            queries, passages = random_vectors(n_queries=70, n_passages=700, dim=48)
            passages[350:] = passages[:350]  # every score is tied with one far away
            whole = top_k(queries, passages, 12, similarity=similarity)
            for block_bytes in (500, 3_000, 50_000, 1_000_000):
                blocks = top_k(
                    queries, passages, 12, similarity=similarity, block_bytes=block_bytes
                )
                np.testing.assert_array_equal(blocks.passages, whole.passages)
                np.testing.assert_array_equal(blocks.scores, whole.scores)


def test_ties_go_to_the_lower_passage_row(subtests):
    for similarity in SIMILARITIES:
        for block_bytes in (1, 400, 10_000_000):
            with subtests.test(similarity=similarity, block_bytes=block_bytes):
                passages = np.tile(random_vectors(n_passages=3, dim=5)[1], (9, 1))
                queries = passages[:3]
                found = top_k(queries, passages, 6, similarity=similarity, block_bytes=block_bytes)
                for passages_found, scores in zip(found.passages, found.scores, strict=True):
                    assert len(set(scores)) == 1
                    best = passages_found[0]
                    np.testing.assert_array_equal(passages_found, best + 3 * np.arange(6))
                    assert best in (0, 1, 2)


def test_passages_a_float32_product_cannot_tell_apart_are_ordered_exactly():
    # Large opposite terms: summed in float32 the small differences drown.
    generator = np.random.default_rng(3)
    small = generator.permutation(40).astype(np.float32)
    passages = np.stack([np.full(40, 1e6), small, np.full(40, -1e6)], axis=1)
    passages = np.concatenate([passages, np.zeros((40, 61))], axis=1).astype(np.float32)
    query = np.array([[1.0, 1e-3, 1.0] + [0.0] * 61], dtype=np.float32)
    found = top_k(query, passages, 10, similarity="dot_product")
    np.testing.assert_array_equal(found.passages[0], np.argsort(-small)[:10])


def test_near_duplicates_are_told_apart_in_euclidean_distance():
    # |q|^2 - 2 q.p + |p|^2 cancels to noise here; the distance itself does not.
    passages = np.full((30, 8), 100.0, dtype=np.float32)
    steps = np.random.default_rng(5).permutation(30)
    passages[:, 0] += steps.astype(np.float32) * np.float32(2**-10)
    found = top_k(passages[:1] * 0 + 100, passages, 5, similarity="euclidean")
    np.testing.assert_array_equal(found.passages[0], np.argsort(steps)[:5])
    np.testing.assert_allclose(found.scores[0], -np.arange(5) * 2**-10, rtol=1e-5)


def test_the_shortcut_through_groups_of_passages_loses_none():
    # Wide enough for large groups, with a remainder, and with the best next to each other.
    queries, passages = random_vectors(n_queries=20, n_passages=20_011, dim=8)
    passages[20_000:] = 3 * queries[0]
    scores = unit_rows(queries).astype(float) @ unit_rows(passages).astype(float).T
    for k in (1, 10, 100):
        found = np.sort(top_k(queries, passages, k).scores, axis=1)
        np.testing.assert_allclose(found, np.sort(scores, axis=1)[:, -k:], rtol=1e-6)


def test_k_above_the_corpus_gives_every_passage_once():
    queries, passages = random_vectors(n_queries=4, n_passages=5)
    found = top_k(queries, passages, 99, block_bytes=1)
    np.testing.assert_array_equal(np.sort(found.passages, axis=1), [np.arange(5)] * 4)
    assert found.scores.shape == (4, 5)


def test_no_queries_give_an_empty_ranking():
    _, passages = random_vectors()
    assert top_k(np.zeros((0, passages.shape[1])), passages, 3).passages.shape == (0, 3)


def test_memory_stays_within_the_block():
    import tracemalloc

    queries, passages = random_vectors(n_queries=1_000, n_passages=4_000, dim=8)
    all_scores = 4 * len(queries) * len(passages)
    tracemalloc.start()
    try:
        top_k(queries, passages, 10, block_bytes=500_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < all_scores / 5


def test_bad_input_is_refused_with_what_was_found(subtests):
    for arguments, message in (
        ({"k": 0}, "k is 0; ask for at least 1"),
        ({"queries": np.ones((2, 3))}, "queries have dimension 3 and passages 4"),
        ({"queries": np.ones(4)}, r"queries has shape \(4,\); expected a matrix"),
        ({"passages": np.ones((0, 4))}, "There are no passages to rank"),
        ({"passages": np.full((3, 4), np.nan)}, "passages has NaN or infinite values"),
        (
            {"passages": np.full((3, 4), 1e38), "similarity": "dot_product"},
            "products do not fit float32",
        ),
    ):
        with subtests.test(arguments=arguments, message=message):
            given_arguments = {
                "queries": np.ones((2, 4)),
                "passages": np.ones((3, 4)),
                "k": 1,
                **arguments,
            }
            if arguments.get("similarity") == "dot_product":
                given_arguments["queries"] = np.full((2, 4), 1e10)
            with pytest.raises(InvalidVectorsError, match=message):
                top_k(**given_arguments)


def test_unit_rows_have_length_one_and_zero_rows_stay_zero():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30], [3e-30, 4e-30]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)
    assert rows.dtype == np.float32


def test_scoring_form_orders_passages_as_top_k_does(subtests):
    for similarity in SIMILARITIES:
        with subtests.test(similarity=similarity):
            queries, passages = random_vectors()
            matrix, offset = scoring_form(passages, similarity)
            scores = queries @ matrix.T + (0 if offset is None else offset)
            order = np.argsort(-scores, axis=1)[:, :5]
            expected = top_k(queries, passages, 5, similarity=similarity).passages
            np.testing.assert_array_equal(order, expected)
            assert (offset is None) == (similarity != "euclidean")


# ---------------------------------------------------------------------------- metrics


def test_metrics_are_those_of_trec_eval(subtests):
    for k in (1, 5, 10, 30):
        with subtests.test(k=k):
            queries, passages = random_vectors()
            # Up to 15 relevant passages: fewer and more than k, and often none found.
            relevance = random_relevance(len(queries), len(passages), most=15)
            ranking = top_k(queries, passages, k)
            ours = metrics_at_k(ranking, relevance, k)

            judgements = {str(q): {str(p): 1 for p in rows} for q, rows in enumerate(relevance)}
            run = {
                str(q): {str(p): float(k - rank) for rank, p in enumerate(rows)}
                for q, rows in enumerate(ranking.passages)
            }
            measures = {name.format(k=k).replace(f"_{k}", f".{k}") for name in TREC_NAMES.values()}
            theirs = pytrec_eval.RelevanceEvaluator(judgements, measures).evaluate(run)
            for metric in METRICS:
                expected = [
                    theirs[str(q)][TREC_NAMES[metric].format(k=k)] for q in range(len(queries))
                ]
                np.testing.assert_allclose(
                    ours[f"{metric}@{k}"], expected, atol=1e-12, err_msg=metric
                )
                assert 0 < np.mean(expected) < 1


def test_graded_metrics_are_those_of_trec_eval(subtests):
    queries, passages = random_vectors()
    rng = np.random.default_rng(3)
    rows = [rng.choice(len(passages), rng.integers(1, 16), replace=False) for _ in queries]
    grades = [rng.integers(1, 5, len(row)) for row in rows]
    graded, alike = Relevance.from_rows(rows, grades), Relevance.from_rows(rows)
    judgements = {
        str(query): dict(zip(map(str, row.tolist()), grade.tolist(), strict=True))
        for query, (row, grade) in enumerate(zip(rows, grades, strict=True))
    }
    for k in (1, 5, 10, 30):
        with subtests.test(k=k):
            ranking = top_k(queries, passages, k)
            ours = metrics_at_k(ranking, graded, k)
            run = {
                str(query): {str(p): float(k - rank) for rank, p in enumerate(row)}
                for query, row in enumerate(ranking.passages)
            }
            measures = {name.format(k=k).replace(f"_{k}", f".{k}") for name in TREC_NAMES.values()}
            theirs = pytrec_eval.RelevanceEvaluator(judgements, measures).evaluate(run)
            for metric in METRICS:
                name = TREC_NAMES[metric].format(k=k)
                expected = [theirs[str(query)][name] for query in range(len(queries))]
                np.testing.assert_allclose(ours[f"{metric}@{k}"], expected, atol=1e-12)
            binary = metrics_at_k(ranking, alike, k)
            assert not np.allclose(ours[f"ndcg@{k}"], binary[f"ndcg@{k}"])


def test_grades_that_are_all_one_are_none():
    assert Relevance.from_rows([[0, 1], [2]], [[1, 1], [1]]).grades is None
    assert Relevance.from_rows([[0, 1], [2]], [[1, 3], [1]]).grades_of(0).tolist() == [1, 3]


def by_llama_index(metric, ranking, relevance):
    return [
        LLAMA_INDEX_CLASSES[metric]()
        .compute(expected_ids=[str(p) for p in relevant], retrieved_ids=[str(p) for p in retrieved])
        .score
        for relevant, retrieved in zip(relevance, ranking.passages, strict=True)
    ]


def test_metrics_are_those_of_llama_index_up_to_k_relevant_passages():
    queries, passages = random_vectors()
    relevance = random_relevance(len(queries), len(passages), most=10)
    ranking = top_k(queries, passages, 10)
    ours = metrics_at_k(ranking, relevance, 10)
    for metric in METRICS:
        expected = by_llama_index(metric, ranking, relevance)
        np.testing.assert_allclose(ours[f"{metric}@10"], expected, err_msg=metric)
        assert np.mean(expected) > 0


def test_all_but_ndcg_agree_with_llama_index_beyond_k_relevant_passages():
    queries, passages = random_vectors()
    relevance = random_relevance(len(queries), len(passages), most=40)
    ranking = top_k(queries, passages, 5)
    ours = metrics_at_k(ranking, relevance, 5)
    for metric in set(METRICS) - {"ndcg"}:
        expected = by_llama_index(metric, ranking, relevance)
        np.testing.assert_allclose(ours[f"{metric}@5"], expected, err_msg=metric)


def test_ndcg_differs_from_llama_index_beyond_k_relevant_passages():
    perfect = TopK(np.arange(3)[None], np.array([[3, 2, 1]], np.float32))
    relevance = Relevance.from_rows([np.arange(6)])
    gain = np.cumsum(1 / np.log2(np.arange(2, 8)))
    assert metrics_at_k(perfect, relevance, 3)["ndcg@3"] == pytest.approx(1.0)
    assert by_llama_index("ndcg", perfect, relevance) == pytest.approx([gain[2] / gain[5]])


def test_precision_differs_from_llama_index_on_a_corpus_below_k():
    whole_corpus = TopK(np.array([[1, 0]]), np.array([[2, 1]], np.float32))
    relevance = Relevance.from_rows([[0, 1]])
    assert metrics_at_k(whole_corpus, relevance, 10)["precision@10"] == pytest.approx(0.2)
    assert by_llama_index("precision", whole_corpus, relevance) == [1.0]


def test_a_longer_ranking_is_cut_at_k():
    queries, passages = random_vectors()
    relevance = random_relevance(len(queries), len(passages), most=4)
    cut = metrics_at_k(top_k(queries, passages, 50), relevance, 10)
    exact = metrics_at_k(top_k(queries, passages, 10), relevance, 10)
    for name in exact:
        np.testing.assert_array_equal(cut[name], exact[name])


def test_a_query_without_relevant_passages_scores_zero_and_a_repeated_one_counts_once():
    ranking = TopK(np.array([[0, 1], [0, 1]]), np.ones((2, 2), np.float32))
    scores = metrics_at_k(ranking, Relevance.from_rows([[], [0, 0, 5]]), 2)
    assert [values[0] for values in scores.values()] == [0.0] * len(METRICS)
    assert scores["recall@2"][1] == 0.5


def test_metrics_refuse_a_ranking_that_does_not_fit():
    ranking = TopK(np.array([[7, 1]]), np.ones((1, 2), np.float32))
    with pytest.raises(InvalidVectorsError, match=r"holds 2 passages a query.*rank with k=5"):
        metrics_at_k(ranking, Relevance.from_rows([[0]]), 5)
    with pytest.raises(InvalidVectorsError, match="ranking is of 1 queries and the relevance of 2"):
        metrics_at_k(ranking, Relevance.from_rows([[0], [1]]), 2)
    with pytest.raises(InvalidVectorsError, match="k is 0"):
        metrics_at_k(ranking, Relevance.from_rows([[0]]), 0)


def test_mean_metrics_averages_over_queries_and_refuses_none():
    assert mean_metrics({"mrr@3": np.array([1.0, 0.5, 0.0])}) == {"mrr@3": 0.5}
    with pytest.raises(InvalidVectorsError, match="There are no queries"):
        mean_metrics({"mrr@3": np.array([])})


# ------------------------------------------------------------------------- properties

# Few distinct values, so that ties and duplicates are the rule.
coordinates = st.integers(-2, 2).map(float)


@st.composite
def small_problems(draw):
    dim, n_queries, n_passages = (draw(st.integers(1, top)) for top in (4, 6, 20))
    return (
        draw(hnp.arrays(np.float32, (n_queries, dim), elements=coordinates)),
        draw(hnp.arrays(np.float32, (n_passages, dim), elements=coordinates)),
        draw(st.integers(1, 25)),
        draw(st.integers(1, 600)),
    )


@settings(max_examples=150, deadline=None)
@given(small_problems(), st.sampled_from(["dot_product", "euclidean"]))
def test_ranking_is_a_stable_sort_whatever_the_blocks(problem, similarity):
    queries, passages, k, block_bytes = problem
    found = top_k(queries, passages, k, similarity=similarity, block_bytes=block_bytes)
    if similarity == "dot_product":
        scores = queries @ passages.T  # small integers, so exact in float32
    else:
        apart = queries[:, None].astype(float) - passages[None]
        scores = -np.sqrt((apart**2).sum(axis=2))
    np.testing.assert_array_equal(found.passages, np.argsort(-scores, axis=1, kind="stable")[:, :k])


@settings(max_examples=100, deadline=None)
@given(small_problems(), st.data())
def test_metrics_are_bounded_and_ordered(problem, data):
    queries, passages, k, _ = problem
    row = st.integers(0, len(passages) - 1)
    relevance = Relevance.from_rows(
        [data.draw(st.lists(row, min_size=1, unique=True)) for _ in queries]
    )
    scores = metrics_at_k(top_k(queries, passages, k), relevance, k)
    for name, values in scores.items():
        assert values.shape == (len(queries),), name
        assert (values >= 0).all(), name
        assert (values <= 1 + 1e-12).all(), name
    found = scores[f"hit_rate@{k}"] > 0
    for name in METRICS:
        np.testing.assert_array_equal(scores[f"{name}@{k}"] > 0, found, err_msg=name)
    assert (scores[f"map@{k}"] <= scores[f"recall@{k}"] + 1e-12).all()
    alone = relevance.counts == 1
    np.testing.assert_allclose(scores[f"map@{k}"][alone], scores[f"mrr@{k}"][alone])
