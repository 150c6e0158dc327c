"""Sets of vectors are split, merged, sampled and measured as texts are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    Relevance,
    VectorDataset,
    compare_adapters,
    evaluate,
    merge_datasets,
    read_index,
    sample_queries,
    split_by_passage,
    split_by_query,
)
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidOptionError,
    InvalidVectorsError,
)
from llama_index_adapters.vectors.embed import Embedder
from tests.fakes import WordsEmbedding, synonym_questions

TEXTS = synonym_questions(6)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "store.sqlite3"
    return Embedder(WordsEmbedding(), store, show_progress=False).dataset(TEXTS).data


def judged(data):
    """Every judgement of a set by ids, with its grade and both vectors."""
    relevance = data.relevance
    return {
        (data.query_ids[query], data.passage_ids[passage]): (
            int(grade),
            data.queries[query].tobytes(),
            data.passages[passage].tobytes(),
        )
        for query, passage, grade in zip(
            relevance.queries, relevance.passages, relevance.gains, strict=True
        )
    }


def without_ids(data, prefix):
    return dataclasses.replace(data, query_ids=tuple(prefix + name for name in data.query_ids))


@pytest.mark.parametrize("split", [split_by_query, split_by_passage])
def test_vectors_are_split_as_their_texts_are(vectors, split):
    """Where no two texts and no two vectors are equal, both have the same sides."""
    for side, of_texts in zip(split(vectors, seed=3), split(TEXTS, seed=3), strict=True):
        assert side.query_ids == tuple(of_texts.queries)
        assert side.passage_ids == tuple(of_texts.corpus)
        assert {*judged(side)} == {
            (query_id, node_id)
            for query_id, ids in of_texts.relevant_docs.items()
            for node_id in ids
        }
        assert judged(side).items() <= judged(vectors).items()


def test_by_query_the_passages_stay_where_they_are(vectors):
    assert all(side.passages is vectors.passages for side in split_by_query(vectors))


def test_by_passage_a_side_knows_its_own_copies_and_no_search_of_the_whole():
    passages = np.eye(6, dtype=np.float32)[[0, 1, 2, 0, 4, 5]]
    data = VectorDataset(
        np.eye(6), passages, Relevance.from_rows([[row] for row in range(6)]), search=lambda q, k: q
    )
    assert data.n_copies == 1
    sides = split_by_passage(data, (0.5, 0.5))
    assert sorted(side.n_copies for side in sides) == [0, 1]
    assert [side.search for side in sides] == [None, None]
    (both,) = (side for side in sides if side.n_copies)
    assert {"0", "3"} <= set(both.passage_ids)  # equal passages are on one side


def test_equal_queries_are_on_one_side():
    queries = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)
    data = VectorDataset(queries, np.eye(4), Relevance.from_rows([[row // 2] for row in range(8)]))
    left, right = split_by_query(data, (0.5, 0.5))
    assert not {row.tobytes() for row in left.queries} & {row.tobytes() for row in right.queries}


def test_a_sample_has_the_queries_that_a_sample_of_the_texts_has(vectors):
    sample = sample_queries(vectors, 10, seed=2)
    assert sample.query_ids == tuple(sample_queries(TEXTS, 10, seed=2).queries)
    assert sample.passages is vectors.passages


class TestMerge:
    def test_the_sides_of_a_split_are_the_whole_again(self, vectors):
        for split in (split_by_query, split_by_passage):
            merged = merge_datasets(*split(vectors))
            assert judged(merged) == judged(vectors)
            assert {*merged.passage_ids} == {*vectors.passage_ids}

    def test_vectors_of_one_index_are_not_copied(self, vectors):
        found = vectors.with_search(lambda queries, k: queries)
        merged = merge_datasets(*split_by_query(found))
        assert merged.passages is vectors.passages
        assert merged.search is found.search

    def test_an_index_that_has_grown_has_the_passages_of_both(self, vectors):
        earlier = split_by_passage(vectors, (0.5, 0.5))[0]
        merged = merge_datasets(earlier, vectors)
        assert merged.passages is vectors.passages
        assert judged(merged) == judged(vectors)

    def test_a_query_in_both_keeps_the_best_grade_of_each_answer(self):
        one, other = (
            VectorDataset(
                np.eye(2), np.eye(2), Relevance.from_rows(rows, grades), query_ids=("q", "r")
            )
            for rows, grades in (([[0, 1], [1]], [[1, 3], [1]]), ([[0], [1]], [[2], [1]]))
        )
        merged = merge_datasets(one, other)
        assert merged.query_ids == ("q", "r")
        assert [row.tolist() for row in merged.relevance] == [[0, 1], [1]]
        assert merged.relevance.gains.tolist() == [2, 3, 1]

    def test_what_does_not_belong_together_is_refused(self, vectors, subtests):
        turned = dataclasses.replace(vectors, queries=vectors.queries[::-1].copy())
        moved = dataclasses.replace(vectors, passages=vectors.passages[::-1].copy())
        longer = dataclasses.replace(vectors, similarity="dot_product")
        narrow = VectorDataset(np.eye(3), np.eye(3), Relevance.from_rows([[0], [1], [2]]))
        twice = dataclasses.replace(narrow, query_ids=("q", "q", "r"))
        for others, error, text in (
            ([vectors, turned], InvalidDatasetError, "The query id 'q0.0' stands for one vector"),
            ([vectors, moved], InvalidDatasetError, "The passage id 'p0.0' stands for one vec"),
            ([vectors, longer], InvalidVectorsError, "by cosine, another by dot_product"),
            ([vectors, narrow], InvalidVectorsError, "queries of different models"),
            ([narrow, twice], InvalidDatasetError, "The query id 'q' stands for two rows"),
            ([vectors, TEXTS], InvalidOptionError, "1 sets of vectors and 1 of texts"),
        ):
            with subtests.test(text), pytest.raises(error, match=text):
                merge_datasets(*others)


def test_equal_queries_under_two_ids_do_not_train_against_each_other():
    """As of texts: what answers one of two equal queries is no negative of the other."""
    queries = np.float32([[1, 0], [1, 0], [0, 1]])
    data = VectorDataset(queries, np.eye(2), Relevance.from_rows([[0], [1], [1]], [[2], [1], [1]]))
    shared = data.with_shared_relevance()
    assert shared.query_ids == ("0", "2")
    assert [row.tolist() for row in shared.relevance] == [[0, 1], [1]]
    assert shared.relevance.grades_of(0).tolist() == [2, 1]


def test_from_an_index_without_texts_to_an_adapter_trained_again(tmp_path):
    """Labels, a dataset, a split, training, a measurement, and next month all of it once more."""
    model = WordsEmbedding()
    store = SimpleVectorStore()
    store.add(
        [
            TextNode(id_=name, text="", embedding=model.get_text_embedding(text))
            for name, text in TEXTS.corpus.items()
        ]
    )
    asked = list(TEXTS.queries.items())
    months = [
        {text: {TEXTS.relevant_docs[name][0]: 1 + number % 2} for name, text in asked[number::2]}
        for number in (0, 1)
    ]
    kept = tmp_path / "store.sqlite3"
    corpus = read_index(store, model, check_model=False, show_progress=False)
    may, june = (corpus.dataset(labels, store=kept, show_progress=False) for labels in months)

    train, test = split_by_query(may, (0.7, 0.3), seed=1)
    quick = {"adapter": "linear", "epochs": 30, "show_progress": False}
    first = EmbeddingAdapterFinetuneEngine(
        train, model, model_output_path=tmp_path / "may", **quick
    )
    first.finetune()
    in_use = AdapterEmbeddingModel(model, tmp_path / "may")
    measured = evaluate(in_use, test, k=3).comparison
    assert measured.metric == "ndcg@3"
    assert (measured.seen.queries + measured.unseen.queries) == len(test.queries)

    more, later = split_by_query(june, (0.7, 0.3), seed=1)
    everything = merge_datasets(train, more)
    assert len(everything.queries) == len(train.queries) + len(more.queries)
    second = EmbeddingAdapterFinetuneEngine.from_model_path(
        everything, model, tmp_path / "may", model_output_path=tmp_path / "june", **quick
    )
    second.finetune()
    candidate = AdapterEmbeddingModel(model, tmp_path / "june")
    replaced = compare_adapters(in_use, candidate, merge_datasets(test, later), k=3)
    assert set(replaced.comparison.base) >= {"ndcg@3", "recall@3"}
    assert replaced.texts_embedded == 0
    passages = {*TEXTS.corpus.values()}
    assert sum(text in passages for text in model.texts) == len(passages)  # to make the index


def test_as_many_passages_are_looked_at_as_a_retriever_returns(tmp_path, vectors, subtests):
    model = WordsEmbedding()
    EmbeddingAdapterFinetuneEngine(
        vectors, model, adapter="linear", model_output_path=tmp_path / "a", show_progress=False
    ).finetune()
    adapted = AdapterEmbeddingModel(model, tmp_path / "a")
    at = {k: evaluate(adapted, vectors, k=k).comparison for k in (1, 5, 1000)}
    for k, comparison in at.items():
        assert comparison.metric == f"ndcg@{k}"
        assert {name.partition("@")[2] for name in comparison.base} == {str(k)}
        assert f"nDCG@{k}" in str(comparison)
    assert at[1].base["recall@1"] < at[5].base["recall@5"] < at[1000].base["recall@1000"] == 1
    for k in (0, -1, 2.5, True, "3"):
        for measure in (evaluate, lambda *given, k: compare_adapters(adapted, *given, k=k)):
            with subtests.test(k=k), pytest.raises(InvalidOptionError, match=f"k is {k!r}; give"):
                measure(adapted, vectors, k=k)
