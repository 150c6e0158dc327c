"""What a failing service said: whether to ask again, when, and what may be repeated of it.

Integrations bring HTTP clients of their own, so errors are known by what they carry (a status, a
response with headers) and by the names of their classes, not by importing every client.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel

REFUSED = frozenset({401, 403})
"""HTTP statuses by which a server refuses the credentials."""

REJECTED = frozenset({400, 413, 422})
"""HTTP statuses by which a server rejects what was asked, so that asking again is of no use."""

LONGEST_WAIT = 120.0
"""Seconds; a longer ``retry-after`` is cut to it."""

_TRANSIENT = frozenset({408, 409, 425, 429, *range(500, 600)})
_TRANSIENT_CLASSES = frozenset(
    {
        *("ConnectionError", "TimeoutError", "JSONDecodeError"),
        "APIConnectionError",  # openai, anthropic
        "APIResponseValidationError",
        "TransportError",  # httpx
        "DecodingError",
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "ChunkedEncodingError",  # requests
    }
)
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth|cookie|header", re.IGNORECASE)
_SECRET = re.compile(r"\b(sk|pk|api)[-_][\w*-]{4,}|\bbearer\s+\S", re.IGNORECASE)
# A message that has so many characters in a row in common with a text is taken to quote it.
_QUOTED = 12
_SHOWN = 300


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that a server asked to wait, at most :data:`LONGEST_WAIT`."""
    for one in _chain(error):
        headers = getattr(getattr(one, "response", None), "headers", None)
        value = None if headers is None else headers.get("retry-after")
        if value is None:
            continue
        seconds = _seconds(value)
        if seconds is not None:
            return min(max(seconds, 0.0), LONGEST_WAIT)
    return None


def _seconds(value: Any) -> float | None:
    """Return the seconds that a ``retry-after`` stands for; None for what is none."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = float(value)
        return None if math.isnan(seconds) else seconds
    # A date of a year that no calendar has is an error of one class or another.
    with contextlib.suppress(ValueError, TypeError, OverflowError, AttributeError, IndexError):
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:  # dates of HTTP are in GMT
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp() - time.time()
    return None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error, None when it has none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        status = getattr(one, "status_code", getattr(response, "status_code", None))
        if isinstance(status, int):
            return status
    return None


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later."""
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT
    return any(
        base.__name__ in _TRANSIENT_CLASSES for one in _chain(error) for base in type(one).__mro__
    )


@dataclass(frozen=True)
class Failure:
    """What may be told of an error that a model raised.

    Attributes:
        text: what :func:`described` says of it.
        cause: the error where it may be shown, for ``raise ... from``; None where it quotes what
            is private.
        refused: whether the server refuses the credentials, so that every request will fail.
        rejected: whether it rejects what it was asked, so that asking again is of no use.
    """

    text: str
    cause: BaseException | None
    refused: bool
    rejected: bool

    @classmethod
    def of(cls, error: BaseException, model: object, texts: Iterable[str] = ()) -> Failure:
        """Judge an error; the arguments are those of :func:`described`."""
        texts = list(texts)
        status = status_of(error)
        return cls(
            described(error, model, texts),
            error if may_be_shown(error, model, texts) else None,
            status in REFUSED,
            status in REJECTED,
        )


def described(error: BaseException, model: object, texts: Iterable[str] = ()) -> str:
    """Name an error without repeating a text or a key.

    Args:
        error: what the model raised.
        model: the model; the values of its secret fields are not repeated.
        texts: what it was sent.

    Returns:
        Its class and HTTP status, and its message unless that quotes what is private or comes
        with a refusal of the credentials.
    """
    status = status_of(error)
    name = type(error).__name__ + (f", HTTP {status}" if status is not None else "")
    message = " ".join(str(error)[:_SHOWN].split()).rstrip(".")
    if not message or not may_be_shown(error, model, texts):
        return name
    return f"{name}: {message}"


def may_be_shown(error: BaseException, model: object, texts: Iterable[str] = ()) -> bool:
    """Return whether an error and those behind it quote neither a text nor a key."""
    if status_of(error) in REFUSED:
        return False
    message = " ".join(str(one) for one in _chain(error))
    secrets = list(_secrets(model))
    if _SECRET.search(message) or any(
        secret[:6] in message or secret[-6:] in message for secret in secrets
    ):
        return False
    return not _quotes(_folded(message), texts)


def _quotes(message: str, texts: Iterable[str]) -> bool:
    parts = {message[i : i + _QUOTED] for i in range(len(message) - _QUOTED + 1)}
    for text in texts:
        for form in (_folded(text), _folded(json.dumps(text)[1:-1])):
            if len(form) < _QUOTED:
                if len(form) > 2 and form in message:
                    return True
            elif any(part in form for part in parts):
                return True
    return False


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _secrets(model: object) -> Iterator[str]:
    """Yield the values of a model's fields that look like credentials by their name."""
    if isinstance(model, BaseModel):
        for name in type(model).model_fields:
            value = getattr(model, name, None)
            if _SECRET_NAME.search(name):
                yield from _strings(value)
            elif isinstance(value, BaseModel):
                yield from _secrets(value)


def _strings(value: Any) -> Iterator[str]:
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, str) and len(value) >= 6:
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
