from __future__ import annotations

import pytest

from llama_index_adapters import merge_datasets, sample_queries
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from tests.fakes import synonym_questions

OLD = {
    "queries": {"q1": "How long is the warranty?", "q2": "What does it weigh?"},
    "corpus": {"p1": "Two years.", "p2": "Three kilograms."},
    "relevant_docs": {"q1": ["p1"], "q2": ["p2"]},
}
NEW = {
    "queries": {"q1": "How long is the warranty?", "q3": "Is it loud?"},
    "corpus": {"p1": "Two years.", "p3": "Since May, three years.", "p4": "Hardly."},
    "relevant_docs": {"q1": ["p3", "p1"], "q3": ["p4"]},
}


class TestMerge:
    def test_everything_of_all_is_there_once(self):
        merged = merge_datasets(OLD, NEW)
        assert merged.queries == OLD["queries"] | NEW["queries"]
        assert merged.corpus == OLD["corpus"] | NEW["corpus"]
        assert merged.relevant_docs == {"q1": ["p1", "p3"], "q2": ["p2"], "q3": ["p4"]}

    def test_the_parts_stay_as_they_are(self):
        whole = synonym_questions(3)
        before = whole.model_dump()
        merge_datasets(whole, OLD).relevant_docs["q0.0"].append("p1")
        assert whole.model_dump() == before

    def test_one_id_for_two_texts_is_refused(self, subtests):
        for noun, field, name in (("query", "queries", "q1"), ("passage", "corpus", "p1")):
            with subtests.test(noun=noun, field=field, name=name):
                changed = NEW | {field: NEW[field] | {name: "Another?"}}
                message = f"The {noun} id '{name}' stands for one text in one set and for another"
                with pytest.raises(InvalidDatasetError, match=message):
                    merge_datasets(OLD, changed)

    def test_nothing_is_refused(self):
        with pytest.raises(InvalidOptionError, match="no dataset; give one or more"):
            merge_datasets()


class TestSample:
    def test_queries_are_drawn_and_the_corpus_is_kept(self):
        whole = synonym_questions(6)
        sample = sample_queries(whole, 10)
        assert len(sample.queries) == 10
        assert sample.corpus == whole.corpus
        assert sample.queries.items() <= whole.queries.items()
        assert sample.relevant_docs == {name: whole.relevant_docs[name] for name in sample.queries}

    def test_the_seed_decides(self):
        whole = synonym_questions(6)
        assert sample_queries(whole, 10) == sample_queries(whole, 10, seed=0)
        assert set(sample_queries(whole, 10).queries) != set(
            sample_queries(whole, 10, seed=1).queries
        )

    def test_more_than_there_are_gives_all(self):
        whole = synonym_questions(2)
        assert sample_queries(whole, 1000) == whole

    def test_another_number_is_refused(self, subtests):
        for n in (0, -1, 2.5, True, "3"):
            with (
                subtests.test(n=n),
                pytest.raises(InvalidOptionError, match=f"n is {n!r}; give a whole number"),
            ):
                sample_queries(OLD, n)
