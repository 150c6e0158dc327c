"""Labels for an index: question sets, mappings, feedback logs, query logs."""

from __future__ import annotations

import json

import pytest

from llama_index_adapters import EmbeddingQAFinetuneDataset, read_feedback
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    MissingFileError,
)
from llama_index_adapters.questions.labels import as_judgements
from llama_index_adapters.questions.logs import read_queries


def jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def row(query, node_id, **verdict):
    return {"query": query, "node_id": node_id, **verdict}


class TestFeedback:
    def test_values_that_mean_relevant(self, tmp_path, subtests):
        for value in (True, 1, 1.0, "1", "TRUE", "yes", "clicked", "Thumbs-Up", "thumbs up", "👍"):
            with subtests.test(value=value):
                rows = [row("q", "a", feedback=value), row("q", "b", feedback=0)]
                assert read_feedback(jsonl(tmp_path / "log.jsonl", rows)) == {"q": ["a"]}

    def test_values_that_do_not(self, tmp_path, subtests):
        for value in (False, 0, -1, "", None, "no", "skipped", "thumbs_down", "👎", "null"):
            with subtests.test(value=value):
                rows = [row("q", "a", feedback=value), row("r", "b", feedback=1)]
                assert read_feedback(jsonl(tmp_path / "log.jsonl", rows)) == {"r": ["b"]}

    def test_any_row_that_says_so_is_enough_and_counts_once(self, tmp_path):
        rows = [
            row("q", "a", clicked=0),
            row(" q ", "a", clicked=1),
            row("q", "b", clicked=1),
            row("q", "a", clicked=1),
        ]
        assert read_feedback(jsonl(tmp_path / "log.jsonl", rows)) == {"q": ["a", "b"]}

    def test_csv_with_quotes_line_breaks_and_a_byte_order_mark(self, tmp_path):
        path = tmp_path / "log.csv"
        text = 'query,node_id,thumbs_up\n"one, ""two""\nthree",a,1\nfour,b,0\n'
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_feedback(path) == {'one, "two"\nthree': ["a"]}

    def test_own_columns_and_values(self, tmp_path):
        rows = [{"q": "one", "id": "a", "stars": stars} for stars in (3, 4)]
        rows += [{"q": "one", "id": "b", "stars": 5}]
        path = jsonl(tmp_path / "log.jsonl", rows)
        found = read_feedback(path, query="q", node_id="id", verdict="stars", relevant=["5"])
        assert found == {"one": ["b"]}

    def test_an_unknown_value_is_refused_with_its_line(self, tmp_path):
        rows = [row("q", "a", rating=1), row("q", "b", rating=4)]
        with pytest.raises(InvalidFileError, match=r"line 2: rating is 4, .* relevant=\[...\]"):
            read_feedback(jsonl(tmp_path / "log.jsonl", rows))

    def test_a_wrong_line_is_named(self, tmp_path, subtests):
        for line, message in (
            ("{", "line 1 is not JSON"),
            ("[1]", "line 1 is not a JSON object"),
            ('{"query": "q", "clicked": 1}', "line 1 has no 'node_id' .it has query, clicked"),
            ('{"query": "q", "node_id": "a"}', "line 1 has no 'feedback'"),
            ('{"query": "", "node_id": "a", "clicked": 1}', "the query is an empty text"),
            ('{"query": "q", "node_id": 3, "clicked": 1}', "the node id of type int"),
        ):
            with subtests.test(message):
                path = tmp_path / "log.jsonl"
                path.write_text(line, encoding="utf-8")
                with pytest.raises(InvalidFileError, match=message):
                    read_feedback(path)

    def test_nothing_relevant_no_file_and_another_kind_of_file(self, tmp_path):
        path = jsonl(tmp_path / "log.jsonl", [row("q", "a", clicked=0)])
        with pytest.raises(InvalidDatasetError, match="None of the 1 rows"):
            read_feedback(path)
        with pytest.raises(MissingFileError, match="There is no file"):
            read_feedback(tmp_path / "other.csv")
        with pytest.raises(InvalidOptionError, match=r"ends in '.xlsx'"):
            read_feedback(tmp_path / "log.xlsx")
        (tmp_path / "latin.csv").write_bytes("query,node_id,clicked\ncafé,a,1\n".encode("latin-1"))
        with pytest.raises(InvalidFileError, match="not UTF-8"):
            read_feedback(tmp_path / "latin.csv")


# What stands in a file, by its ending, and what read_feedback makes of it.
FILES = {
    "other line ends within a text": (
        "csv",
        "query,node_id,clicked\na\u2028b\x85c\x0bd\x0ce\x1cf,n1,1\nq,n2,1\n",
        {"a\u2028b\x85c\x0bd\x0ce\x1cf": ["n1"], "q": ["n2"]},
    ),
    "the same in JSON lines": (
        "jsonl",
        '{"query": "a\u2028b\x85c", "node_id": "n1", "clicked": 1}\r\n\n',
        {"a\u2028b\x85c": ["n1"]},
    ),
    "line ends of Windows": ("csv", "query,node_id,clicked\r\nq,n1,1\r\n", {"q": ["n1"]}),
    "line ends within quotes stay": (
        "csv",
        'query,node_id,clicked\r\n"a\r\nb",n1,1\r\n',
        {"a\r\nb": ["n1"]},
    ),
    "an empty line, no last line end": ("csv", "query,node_id,clicked\n\nq,n1,1", {"q": ["n1"]}),
    "whole numbers of a column with gaps": (
        "csv",
        "query,node_id,clicked\nq,n1,1.0\nq,n2,0.0\nq,n3,\nq,n4,-1.0\nq,n5,True\n",
        {"q": ["n1", "n5"]},
    ),
    "the same numbers in JSON lines": (
        "jsonl",
        "\n".join(
            f'{{"query": "q", "node_id": "n{row}", "clicked": {value}}}'
            for row, value in enumerate(("1.0", "0.0", "null", "-1.0", "true", '"1.0"', '"1"'))
        ),
        {"q": ["n0", "n4", "n5", "n6"]},
    ),
    "a long column that nobody asks for": (
        "csv",
        f"answer,query,node_id,clicked\n{'x' * 140_000},q,n1,1\n",
        {"q": ["n1"]},
    ),
    "white space around names, queries and ids": (
        "csv",
        "query, node_id ,clicked\n q , n1 ,1\nq,n1,1\n",
        {"q": ["n1"]},
    ),
    "white space in JSON lines": (
        "jsonl",
        '{"query": " q ", "node_id": "n1 ", "clicked": 1}',
        {"q": ["n1"]},
    ),
    "empty fields at the end": ("csv", "query,node_id,clicked\nq,n1,1,,\n", {"q": ["n1"]}),
    "a row that ends early": ("csv", "query,node_id,clicked\nq,n1\nq,n2,1\n", {"q": ["n2"]}),
}

# What is refused, and how the message names it.
REFUSED = {
    "a key twice": (
        "jsonl",
        '{"query": "q", "node_id": "a", "node_id": "b", "clicked": 1}',
        "line 1 has the key 'node_id' twice in one object",
    ),
    "a column twice, but for a space": ("csv", "query,query \n", "names a column twice"),
    "a comma without quotes": (
        "csv",
        "query,node_id,clicked\nq,n1,1\nwhen, and how,n1,1\n",
        "line 3 has 4 fields, and the first line names 3 .it has query, node_id, clicked",
    ),
    "an id of spaces": ("csv", "query,node_id,clicked\nq, ,1\n", "the node id an empty text"),
    "no JSON between the lines": ("jsonl", "\u2028\n", "line 1 is not JSON"),
}


class TestFiles:
    def test_what_a_file_says(self, tmp_path, subtests):
        for case, (ending, text, expected) in FILES.items():
            path = tmp_path / f"log.{ending}"
            path.write_bytes(text.encode())
            with subtests.test(case):
                assert read_feedback(path) == expected

    def test_what_is_refused(self, tmp_path, subtests):
        for case, (ending, text, message) in REFUSED.items():
            path = tmp_path / f"log.{ending}"
            path.write_bytes(text.encode())
            with subtests.test(case), pytest.raises(InvalidFileError, match=message):
                read_feedback(path)

    def test_a_number_is_the_same_in_any_form(self, tmp_path, subtests):
        for value in (4, 4.0, "4", "4.0", "4."):
            path = jsonl(tmp_path / "log.jsonl", [row("q", "a", rating=value)])
            csv = tmp_path / "log.csv"
            csv.write_text(f"query,node_id,rating\nq,a,{value}\nq,b,4.5\n", encoding="utf-8")
            for relevant in ([4], [4.0], ["4"], ["4.0"]):
                with subtests.test(f"{value!r} in {relevant!r}"):
                    assert read_feedback(path, relevant=relevant) == {"q": ["a"]}
                    assert read_feedback(csv, relevant=relevant) == {"q": ["a"]}

    def test_a_query_with_half_an_emoji_is_left_out_with_its_line(self, tmp_path, caplog):
        rows = [row("whole 😀", "a", clicked=1), row("half \ud83d", "b", clicked=1)]
        path = jsonl(tmp_path / "log.jsonl", rows)
        assert read_feedback(path) == {"whole 😀": ["a"]}
        assert read_queries(path) == ["whole 😀"]
        assert caplog.text.count("1 queries of") == 2
        assert "They are in line 2." in caplog.text


class TestJudgements:
    def test_queries_of_one_text_become_one(self):
        dataset = EmbeddingQAFinetuneDataset(
            queries={"1": "same", "2": "same", "3": "other"},
            corpus={"a": "A", "b": "B"},
            relevant_docs={"1": ["a"], "2": ["b", "a"], "3": ["b"]},
        )
        found = as_judgements(dataset)
        assert found.relevant == {"same": {"a": 1, "b": 1}, "other": {"b": 1}}
        assert found.query_ids == {"same": "1", "other": "3"}

    def test_a_file_is_read_by_its_ending(self, tmp_path):
        dataset = EmbeddingQAFinetuneDataset(
            queries={"1": "q"}, corpus={"a": "A"}, relevant_docs={"1": ["a"]}
        )
        dataset.save_json(tmp_path / "set.json")
        log = jsonl(tmp_path / "log.jsonl", [row("q", "a", clicked=1)])
        for path in (tmp_path / "set.json", log):
            assert as_judgements(path).relevant == {"q": {"a": 1}}

    def test_a_mapping_that_is_none_is_refused(self, subtests):
        for labels in ({}, {"q": []}, {"q": "a"}, {"": ["a"]}, {"q": [3]}, {"half \ud83d": ["a"]}):
            with (
                subtests.test(labels=labels),
                pytest.raises(InvalidDatasetError, match="at least one"),
            ):
                as_judgements(labels)


def test_a_line_of_a_text_file_is_one_query(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes("one\u2028still one\x85\x0c, and one\r\n two \ntwo\nthree\r3".encode())
    assert read_queries(path) == ["one\u2028still one\x85\x0c, and one", "two", "three\r3"]


def test_query_logs(tmp_path):
    (tmp_path / "log.txt").write_text("one\n\ntwo\none\n", encoding="utf-8")
    (tmp_path / "log.csv").write_text("id,query\n1,one\n2,two\n", encoding="utf-8")
    assert read_queries(tmp_path / "log.txt") == read_queries(tmp_path / "log.csv")
    with pytest.raises(InvalidFileError, match="line 2 has no text 'question'"):
        read_queries(tmp_path / "log.csv", query="question")
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(InvalidDatasetError, match="has no queries"):
        read_queries(tmp_path / "empty.txt")
