"""What is repeated of a service's errors, and how long is waited."""

from __future__ import annotations

import email.utils
import json
import time

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


def test_vectors_go_into_the_order_of_their_numbers(subtests: pytest.Subtests) -> None:
    for numbers, restored in (
        (None, "abc"),
        ([0, 1, 2], "abc"),
        ([2, 0, 1], "bca"),
        ([0, 0, 0], "abc"),
        ([1, 0], "abc"),
    ):
        with subtests.test(numbers=numbers, restored=restored), ResponseOrder(MODEL) as order:
            order._seen.numbers = numbers
            assert "".join(order.restored("abc")) == restored
            order.forget()
            assert order.restored("abc") == "abc"


def test_numbers_that_leave_the_order_open_are_refused() -> None:
    with ResponseOrder(MODEL) as order:
        order._seen.numbers = [0, 1, 1]
        with pytest.raises(EmbeddingError, match="numbered its 3 vectors 0, 1, 1 and so on"):
            order.restored("abc")
