"""What is repeated of a service's errors, and how long is waited."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import httpx
import pytest
from llama_index.embeddings.openai import OpenAIEmbedding

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.services.errors import (
    LONGEST_WAIT,
    described,
    is_transient,
    may_be_shown,
    retry_after,
    status_of,
)
from llama_index_adapters.vectors.response_order import ResponseOrder

MODEL = OpenAIEmbedding(api_key="planted-0123456789")
TEXT = "Der Patient heißt Jürgen\nund wohnt in Zimmer 12"


class ServiceError(Exception):
    def __init__(self, message: str = "", status: int | None = None, **headers: str) -> None:
        super().__init__(message)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if status is not None:
            self.response = httpx.Response(status, headers=named)


def test_retry_after_in_seconds(subtests: pytest.Subtests) -> None:
    for value, seconds in (
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("86400", LONGEST_WAIT),
        ("soon", None),
        ("nan", None),
        ("inf", LONGEST_WAIT),
        ("-inf", 0.0),
        ("1e400", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("", None),
    ):
        with subtests.test(value=value, seconds=seconds):
            assert retry_after(ServiceError("busy", 429, retry_after=value)) == seconds


def test_retry_after_as_a_date_and_behind_another_error() -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    error = RuntimeError("wrapped")
    error.__cause__ = ServiceError("busy", 503, retry_after=date)
    told = retry_after(error)
    assert told is not None
    assert 50 < told <= 61
    assert status_of(error) == 503


def test_retry_after_as_any_date(subtests: pytest.Subtests) -> None:
    for value, seconds in (
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 10000 23:59:59 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 +9999", None),
        ("Thu, 01 Jan 1970 00:00:00 +99999999999999", None),
        ("Fri, 99 Dec 2100 23:59:59 GMT", None),
        ("Fri, 31 Dec 2100 99:99:99 GMT", None),
    ):
        with subtests.test(value=value):
            assert retry_after(ServiceError("busy", 429, retry_after=value)) == seconds


def test_a_date_without_a_zone_is_in_gmt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    time.tzset()
    try:
        date = email.utils.formatdate(time.time() + 60, usegmt=True).replace(" GMT", "")
        told = retry_after(ServiceError("busy", 429, retry_after=date))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told is not None
    assert 50 < told <= 61


def test_what_may_pass(subtests: pytest.Subtests) -> None:
    for error, transient in (
        (ServiceError("", 429), True),
        (ServiceError("", 500), True),
        (ServiceError("", 400), False),
        (ServiceError("", 401), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (httpx.ReadError(""), True),
        (json.JSONDecodeError("", "", 0), True),
        (RuntimeError("CUDA out of memory"), False),
        (PermissionError(), False),
    ):
        with subtests.test(error=error, transient=transient):
            assert is_transient(error) is transient


def test_a_message_that_quotes_a_text_or_a_key_is_left_out(subtests: pytest.Subtests) -> None:
    for message in (
        "cannot read 'Der Patient heißt Jürgen'",
        "cannot read patient HEISST: der patient heißt",
        f"input {json.dumps(TEXT)} is too long",
        "no access for planted-0123456789",
        "Incorrect key: plante*******456789",
        "bad header Bearer abc",
        "sk-proj-**** is wrong",
    ):
        with subtests.test(message=message):
            error = ServiceError(message, 500)
            assert described(error, MODEL, [TEXT]) == "ServiceError, HTTP 500"
            assert not may_be_shown(error, MODEL, [TEXT])


def test_so_is_what_stands_behind_the_error() -> None:
    error = RuntimeError("failed")
    error.__cause__ = ValueError(TEXT)
    assert not may_be_shown(error, MODEL, [TEXT])


def test_a_refusal_of_the_credentials_is_never_quoted() -> None:
    assert described(ServiceError("who?", 401), MODEL) == "ServiceError, HTTP 401"


def test_any_other_message_is_shown() -> None:
    error = RuntimeError("CUDA out of memory.")
    assert described(error, MODEL, [TEXT]) == "RuntimeError: CUDA out of memory"


# What a service may put into "index", and what comes out; None where the order is not known.
NUMBERINGS: dict[str, tuple[list[Any], str | None]] = {
    "in order": ([0, 1, 2], "abc"),
    "out of order": ([2, 0, 1], "bca"),
    "all the same": ([0, 0, 0], "abc"),
    "for another number of vectors": ([1, 0], "abc"),
    "as floats": ([2.0, 0.0, 1.0], "bca"),
    "as texts": (["2", "0", " 1 "], "bca"),
    "as texts of floats": (["2.0", "0.", "1"], "bca"),
    "in several forms": ([2, "0", 1.0], "bca"),
    "twice": ([0, 1, 1], None),
    "from one on": ([1, 2, 3], None),
    "from below zero on": ([-1, 0, 1], None),
    "with a gap": (["0", "1", "9"], None),
    "with fractions": ([0, 0.5, 2], None),
    "with words": (["first", "second", "third"], None),
    "with truth values": ([False, True, 2], None),
    "with NaN": ([0, float("nan"), 1], None),
    "with infinity": ([0, float("inf"), 1], None),
    "with lists": ([[0], [1], [2]], None),
    "in part": ([2, None, 0], None),
    "not at all": ([None, None, None], "abc"),
}


def order_of(numbers: list[Any]) -> ResponseOrder:
    """What is known after an answer whose vectors are numbered so."""
    order = ResponseOrder(MODEL)
    content = {"data": [{"index": number, "embedding": [1.0]} for number in numbers]}
    request = httpx.Request("POST", "https://service/v1/embeddings")
    order._note(httpx.Response(200, text=json.dumps(content), request=request))
    return order


@pytest.mark.parametrize(("numbers", "restored"), NUMBERINGS.values(), ids=NUMBERINGS)
def test_vectors_go_into_the_order_of_their_numbers(
    numbers: list[Any], restored: str | None
) -> None:
    order = order_of(numbers)
    if restored is None:
        with pytest.raises(EmbeddingError, match="so it is not known which text each belongs to"):
            order.restored("abc")
    else:
        assert "".join(order.restored("abc")) == restored
    order.forget()
    assert order.restored("abc") == "abc"


def test_a_refused_numbering_is_shown() -> None:
    with pytest.raises(EmbeddingError, match="numbered its 3 vectors 0, 'one', 1 and so on"):
        order_of([0, "one", 1]).restored("abc")


@pytest.mark.parametrize("content", ["[]", '{"data": 3}', '{"data": [3]}', "{}", "no json"])
def test_an_answer_without_rows_has_no_order(content: str) -> None:
    order = ResponseOrder(MODEL)
    request = httpx.Request("POST", "https://service/v1/embeddings")
    order._note(httpx.Response(200, text=content, request=request))
    assert order.restored("abc") == "abc"
