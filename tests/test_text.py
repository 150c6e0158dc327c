from __future__ import annotations

import pytest

from llama_index_adapters.errors import InvalidFileError
from llama_index_adapters.files.text import is_encodable, lines_of, parse_json


def test_a_line_ends_with_a_line_feed_alone(subtests):
    for text, lines in (
        ("one\ntwo\r\nthree", ["one", "two", "three"]),
        ("one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven", 1),
        ("one\rtwo", 1),
        ("one\n", ["one", ""]),
        ("", [""]),
    ):
        with subtests.test(text=text, lines=lines):
            assert lines_of(text) == ([text] if lines == 1 else lines)


def test_a_key_that_occurs_twice_is_refused_by_name(subtests):
    for text, key in (
        ('{"a": 1, "b": 2, "a": 1}', "a"),
        ('{"n": {"x 1": "one", "x 1": "two"}}', "x 1"),
        ('[{"a": 1}, {"a": 1, "\\u0061": 2}]', "a"),
    ):
        with (
            subtests.test(text=text, key=key),
            pytest.raises(
                InvalidFileError, match=f"x.json has the key '{key}' twice in one object"
            ),
        ):
            parse_json(text, "x.json", "expected JSON", keys_are_ids=True)


def test_a_key_that_may_be_a_text_is_not_repeated():
    with pytest.raises(InvalidFileError, match="has the key of 11 characters twice"):
        parse_json('{"how is it?x": 1, "how is it?x": 2}', "x.json", "")
    with pytest.raises(InvalidFileError, match="has the key 'node_id' twice"):
        parse_json('{"node_id": 1, "node_id": 2}', "x.json", "")


def test_equal_keys_of_different_objects_are_no_repetition():
    assert parse_json('{"a": {"a": 1}, "b": {"a": 2}}', "", "") == {"a": {"a": 1}, "b": {"a": 2}}


def test_half_of_a_surrogate_pair_cannot_be_encoded():
    assert is_encodable("whole 😀, é, \u2028, \0")
    assert not is_encodable("half \ud83d")
    assert not is_encodable("\ude00 the other half")
