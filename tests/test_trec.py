"""TREC qrels and folders of BEIR, read, written, and read by others."""

from __future__ import annotations

import json

import pytest
import pytrec_eval

from llama_index_adapters import (
    EmbeddingQAFinetuneDataset,
    read_beir,
    read_qrels,
    split_by_query,
    write_beir,
    write_qrels,
)
from llama_index_adapters.errors import InvalidDatasetError, InvalidFileError
from llama_index_adapters.vectors.embed import Embedder
from tests.fakes import WordsEmbedding, synonym_questions

QRELS = "q1 0 d1 2\nq1\t0\td2\t1\nq1 0 d3 0\n\nq2 Q0 d1 1\r\nq3 0 d1 -1\n"
GRADED = EmbeddingQAFinetuneDataset(
    queries={"q1": "why, and\nhow?", "q2": "wann? \u2028"},
    corpus={"d1": "one", "d2": "zwei é", "d 3": "three"},
    relevant_docs={"q1": ["d1", "d2"], "q2": ["d 3"]},
    grades={"q1": {"d1": 3}},
)


def test_qrels_are_what_pytrec_eval_reads(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_bytes(QRELS.encode())
    ours = read_qrels(path)
    assert ours == {"q1": {"d1": 2, "d2": 1}, "q2": {"d1": 1}}
    with path.open() as file:
        theirs = pytrec_eval.parse_qrel(line for line in file if line.strip())
    assert ours == {
        query: {name: grade for name, grade in graded.items() if grade > 0}
        for query, graded in theirs.items()
        if max(graded.values()) > 0
    }


def test_queries_that_nothing_answers_are_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "qrels.txt"
    path.write_text(QRELS)
    read_qrels(path)
    assert f"1 of 3 queries of {path} have no document with a grade from 1 on" in caplog.text


def test_qrels_of_texts_and_of_their_vectors_are_the_same_and_come_back(tmp_path):
    texts = synonym_questions(3).model_copy(update={"grades": {"q0.0": {"p0.0": 4}}})
    store = tmp_path / "store.sqlite3"
    vectors = Embedder(WordsEmbedding(), store, show_progress=False).dataset(texts).data
    for data in (texts, vectors):
        write_qrels(data, tmp_path / "qrels.txt")
        found = read_qrels(tmp_path / "qrels.txt")
        assert {query_id: list(graded) for query_id, graded in found.items()} == texts.relevant_docs
        assert found["q0.0"] == {"p0.0": 4}
    with (tmp_path / "qrels.txt").open() as file:
        assert pytrec_eval.parse_qrel(file) == found


def test_a_folder_of_beir_comes_back_as_it_was(tmp_path):
    write_beir({"test": GRADED}, tmp_path / "set")
    assert read_beir(tmp_path / "set") == GRADED


def test_splits_share_a_folder(tmp_path):
    whole = synonym_questions(6)
    parts = dict(zip(("train", "dev", "test"), split_by_query(whole), strict=True))
    write_beir(parts, tmp_path / "set")
    for name, part in parts.items():
        assert read_beir(tmp_path / "set", name) == part
    assert len((tmp_path / "set" / "corpus.jsonl").read_text().splitlines()) == len(whole.corpus)


def test_a_folder_as_beir_publishes_them(tmp_path, caplog):
    """With titles, metadata, an empty passage, and queries of other splits."""
    passages = [
        {"_id": "1", "title": "Warranty", "text": "Two years.", "metadata": {}},
        {"_id": "2", "title": "", "text": "No title."},
        {"_id": "3", "title": "Only a title", "text": ""},
        {"_id": "4", "title": "", "text": ""},
    ]
    queries = [{"_id": "a", "text": "How long?"}, {"_id": "b", "text": "Of train", "metadata": {}}]
    for name, rows in (("corpus", passages), ("queries", queries)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "qrels").mkdir()
    table = "query-id\tcorpus-id\tscore\na\t1\t1\na\t3\t2\na\t2\t0\n"
    (tmp_path / "qrels" / "test.tsv").write_text(table)
    found = read_beir(tmp_path)
    assert found.queries == {"a": "How long?"}
    assert found.corpus == {"1": "Warranty Two years.", "2": "No title.", "3": "Only a title"}
    assert (found.relevant_docs, found.grades) == ({"a": ["1", "3"]}, {"a": {"3": 2}})
    assert f"1 passages of {tmp_path} have neither title nor text" in caplog.text


def test_an_empty_passage_that_answers_is_refused(tmp_path):
    write_beir({"test": GRADED}, tmp_path / "set")
    corpus = tmp_path / "set" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace('"one"', '""'))
    with pytest.raises(InvalidDatasetError, match="1 passage with an empty text: 'd1'"):
        read_beir(tmp_path / "set")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidFileError, match="has something in it already"):
        write_beir({"test": GRADED}, tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["thesis.txt"]
