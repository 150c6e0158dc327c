from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_adapters.files.csv_rows import CsvError, csv_rows

# What RFC 4180 gives a meaning, and what str.splitlines takes for the end of a line.
CHARACTERS = 'a ,"\r\n\u2028\u2029\x85\x0b\x0c\x1c'


@settings(max_examples=500, deadline=None)
@given(st.text(CHARACTERS, max_size=20))
def test_rows_are_those_of_the_csv_module(text):
    try:
        expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        with pytest.raises(CsvError):
            list(csv_rows(text))
    else:
        assert [row.fields for row in csv_rows(text)] == expected


def test_a_row_is_named_by_the_line_it_begins_in():
    text = 'a,b\r\n\r\n"one\ntwo\r\nthree",1\n"x",2\r"y",3'
    assert [row.line for row in csv_rows(text)] == [1, 3, 6, 7]


def test_what_is_not_csv_is_refused_with_its_line(subtests):
    for text, message in (
        ('a\n"b', "a quote is never closed"),
        ('a\n"b"c', "text follows a closing quote"),
    ):
        with subtests.test(message):
            with pytest.raises(CsvError, match=message) as caught:
                list(csv_rows(text))
            assert caught.value.line == 2


def test_a_field_may_be_of_any_length():
    """The csv module stops at 131,072 characters."""
    text = f'a,b\n1,{"x" * 200_000}\n2,"{"y" * 200_000}"\n'
    assert [len(row.fields[1]) for row in csv_rows(text)] == [1, 200_000, 200_000]
