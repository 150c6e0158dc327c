"""Which attributes of a model change no answer, told by their names and types."""

from __future__ import annotations

import re

# Somebody's right to ask, or where or how a model runs, or what it has done so far.
_WITHOUT_EFFECT = re.compile(
    r"""
    api | keys? | secrets? | token | passw(or)?d | credentials? | auth | authorization | bearer
    | cookies? | user | username | organization | org | project | tenant | account | profile | ad
    | port | proxy | proxies | headers? | a?client s? | ssl | verify | devices? | gpu | cuda
    | batch | timeout | retr(y|ies) | workers? | threads? | parallel | concurrency | reuse
    | callbacks? | cache | limiter | progress | verbose | log | logger | logging | alive
    | lock s? | semaphore | loop | pool | sessions? | executor | calls? | counts? | counter | stats
    | usage | metrics | history | barrier
    """,
    re.VERBOSE,
)
# Where a model is asked. It counts where nothing else names the model.
_ENDPOINT = re.compile(r"ur[il] | endpoint | host | hostname | region | location", re.X)
# A path is not a setting, but the files there may be the model: their content counts.
_FILES = re.compile(r"paths? | folder | dir | directory | file | filename", re.VERBOSE)
_NAMES = re.compile(r"(model|model_?name|model_?id|deployment(_name|_id)?|engine)")
_UNNAMED = ("", "unknown", "default")

# Packages whose objects carry requests.
_PLUMBING = re.compile(
    r"""
    ( _asyncio | _thread | _weakref | aiohttp | anyio | asyncio | boto3 | botocore | concurrent
    | contextvars | google[.]auth | grpc | httpx | logging | multiprocessing | queue | requests
    | socket | ssl | tenacity | threading | tqdm | urllib3 | weakref
    | llama_index[.]core[.](callbacks|instrumentation|rate_limiter) ) ([.].*)?
    """,
    re.VERBOSE,
)


def changes_nothing(name: str) -> bool:
    """Return whether an attribute of this name changes no answer."""
    return _has_word(name, _WITHOUT_EFFECT)


def is_endpoint(name: str) -> bool:
    """Return whether an attribute of this name says where a model is asked."""
    return _has_word(name, _ENDPOINT)


def names_files(name: str) -> bool:
    """Return whether an attribute of this name is a path."""
    return _has_word(name, _FILES)


def names_model(name: str, value: object) -> bool:
    """Return whether an attribute says which model it is."""
    return bool(
        _NAMES.fullmatch(name.lstrip("_"))
        and isinstance(value, str)
        and value.strip().lower() not in _UNNAMED
    )


def is_plumbing(kind: type) -> bool:
    """Return whether values of a class carry requests and no setting."""
    return _PLUMBING.fullmatch(kind.__module__) is not None


def _has_word(name: str, words: re.Pattern[str]) -> bool:
    """Return whether ``apiKey``, ``api_key`` or ``X-Api-Key`` contains one of the words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).lower()
    return any(words.fullmatch(word) for word in re.split(r"[^a-z0-9]+", spaced))
