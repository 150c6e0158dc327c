"""Graded relevance: in the JSON, in labels, through every operation, and in training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import BaseModel

from llama_index_adapters import (
    EmbeddingQAFinetuneDataset,
    merge_datasets,
    read_grades,
    sample_queries,
    split_by_passage,
    split_by_query,
)
from llama_index_adapters.errors import InvalidDatasetError
from llama_index_adapters.questions.labels import as_judgements
from llama_index_adapters.questions.question_set import with_shared_relevance
from llama_index_adapters.questions.views import relevance_of
from tests.fakes import synonym_questions

SET = {
    "queries": {"q": "why?", "r": "how?", "s": "why?"},
    "corpus": {"a": "one", "b": "two", "c": "three"},
    "relevant_docs": {"q": ["a", "b"], "r": ["c"], "s": ["b"]},
    "grades": {"q": {"a": 3}, "s": {"b": 2}},
}


class TheirDataset(BaseModel):
    """The dataset of llama-index-finetuning: its fields, and pydantic's own ways."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, list[str]]
    mode: str = "text"


def test_llama_index_passes_over_the_key(tmp_path):
    path = tmp_path / "set.json"
    EmbeddingQAFinetuneDataset(**SET).save_json(path)
    theirs = TheirDataset(**json.loads(path.read_text()))  # as its from_json does
    assert theirs.relevant_docs == SET["relevant_docs"]
    assert EmbeddingQAFinetuneDataset.from_json(path).grades == SET["grades"]


def test_without_grades_the_file_is_as_it_was(tmp_path):
    path = tmp_path / "set.json"
    synonym_questions(3).save_json(path)
    assert list(json.loads(path.read_text())) == ["queries", "corpus", "relevant_docs", "mode"]


def test_a_passage_without_a_grade_has_one():
    found = relevance_of(EmbeddingQAFinetuneDataset(**SET))
    assert found.gains.tolist() == [3, 1, 1, 2]


def test_a_grade_of_one_is_left_out():
    graded = {"q": {"a": 1, "b": 2}, "r": {"c": 1}}
    assert EmbeddingQAFinetuneDataset(**{**SET, "grades": graded}).grades == {"q": {"b": 2}}


def test_wrong_grades_are_refused(subtests):
    for grades, text in (
        ({"q": {"c": 2}}, "1 passage id in grades not among relevant_docs of the same query: 'c'"),
        ({"x": {"a": 2}}, "not among relevant_docs"),
        ({"q": {"a": 0}}, r"grades\['q'\]\['a'\]: Input should be greater"),
        ({"q": {"a": -1}}, "Input should be greater"),
        ({"q": {"a": 1.5}}, "valid integer"),
        ({"q": {"a": "2"}}, "valid integer"),
        ({"q": {"a": True}}, "valid integer"),
        ({"q": ["a"]}, "valid dictionary"),
    ):
        with subtests.test(grades), pytest.raises(InvalidDatasetError, match=text):
            EmbeddingQAFinetuneDataset(**{**SET, "grades": grades})


def test_they_go_where_their_queries_go():
    whole = synonym_questions(6)
    graded = whole.model_copy(
        update={
            "grades": {
                query_id: {ids[0]: 2 + number % 3}
                for number, (query_id, ids) in enumerate(whole.relevant_docs.items())
            }
        }
    )
    parts = [*split_by_query(graded), *split_by_passage(graded), sample_queries(graded, 7)]
    for part in parts:
        assert part.grades == {query_id: graded.grades[query_id] for query_id in part.queries}
    assert merge_datasets(*split_by_passage(graded)).grades == graded.grades


def test_of_two_grades_the_better_one_counts():
    shared = with_shared_relevance(EmbeddingQAFinetuneDataset(**SET))
    assert shared.grades == {"q": {"a": 3, "b": 2}}
    other = {**SET, "grades": {"q": {"a": 2, "b": 5}}}
    assert merge_datasets(SET, other).grades == {"q": {"a": 3, "b": 5}, "s": {"b": 2}}


def test_labels_of_any_form_have_them(tmp_path):
    expected = {"why?": {"a": 3, "b": 2}, "how?": {"c": 1}}
    EmbeddingQAFinetuneDataset(**SET).save_json(tmp_path / "set.json")
    (tmp_path / "log.csv").write_text(
        "query,node_id,grade\nwhy?,a,1\nwhy?,a,3\n why? ,b,2.0\nhow?,c,1\nhow?,a,0\nhow?,b,\n"
    )
    rows = [("why?", "a", 3), ("why?", "b", "2"), ("how?", "c", 1.0), ("how?", "b", -1)]
    (tmp_path / "log.jsonl").write_text(
        "\n".join(
            json.dumps({"query": query, "node_id": node, "grade": grade})
            for query, node, grade in rows
        )
    )
    for labels in (SET, expected, *(tmp_path / name for name in ("set.json", "log.csv"))):
        assert as_judgements(labels).relevant == expected
    assert read_grades(tmp_path / "log.jsonl") == expected
    assert as_judgements(tmp_path / "log.jsonl").relevant == expected


def test_a_verdict_beside_a_grade_is_what_counts(tmp_path):
    """As it was before there were grades."""
    path = tmp_path / "log.csv"
    path.write_text("query,node_id,clicked,grade\nq,a,1,0\nq,b,0,3\n")
    assert as_judgements(path).relevant == {"q": {"a": 1}}


def test_a_label_mapping_with_a_wrong_grade_is_refused(subtests):
    for grade in (0, -1, 1.5, "2", None, True):
        with (
            subtests.test(grade=grade),
            pytest.raises(InvalidDatasetError, match="has a grade that is no whole number from 1"),
        ):
            as_judgements({"q": {"a": grade}})


def test_select_and_distinct_keep_them():
    relevance = relevance_of(EmbeddingQAFinetuneDataset(**SET))
    chosen = relevance.select(np.array([2, 0]))
    assert [row.tolist() for row in chosen] == [[1], [0, 1]]
    assert chosen.gains.tolist() == [2, 3, 1]
