"""Which attributes of a model change no answer, told by their names and types."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"""
    keys? | secrets? | token | passw(or)?d | credentials? | auth | authorization | bearer | cookies?
    """,
    re.VERBOSE,
)
# Somebody's right to ask, or how a model runs, or what it has done so far.
_WITHOUT_EFFECT = re.compile(
    r"""
    user | username | organization | org | project | tenant | account | profile | ad
    | compartment | port | proxy | proxies | headers? | a?clients? | sdk | conn | connections? | ssl
    | verify | devices? | gpu | cuda | batch | timeout | retr(y|ies) | workers? | threads?
    | parallel | concurrency | reuse | callbacks? | cache | stores? | limiter | progress | verbose
    | log | logger | logging | alive | locks? | semaphore | loop | pool | sessions? | executor
    | calls? | counts? | counter | stats | usage | metrics | history | barrier
    """,
    re.VERBOSE,
)
# At the end of a name they say that it changes answers, whatever stands before: user_prompt.
_WITH_EFFECT = re.compile(
    r"""
    prompts? | instructions? | prefix(es)? | suffix(es)? | templates? | models? | tasks? | pooling
    | dimensions? | dims? | normali[sz]e | revision
    """,
    re.VERBOSE,
)
_LIMITS = re.compile(r"max | min | limit | length | size", re.VERBOSE)
_CLIENT = re.compile(r"api | a?clients? | sdk | conn | connections?", re.VERBOSE)
# Where a model is asked. It counts where nothing else names the model.
_ENDPOINT = re.compile(
    r"ur[il] | endpoints? | hosts? | hosted | hosting | hostname | region | location", re.VERBOSE
)
# A path is not a setting, but the files there may be the model: their content counts.
_FILES = re.compile(r"paths? | folder | dir | directory | file | filename", re.VERBOSE)
_SCRATCH = re.compile(r"downloads? | save | output | te?mp | work | working", re.VERBOSE)
_NAMES = re.compile(
    r"""
    model | model_?(name|id|uid|name_or_path|id_or_path|path|file|dir|folder) | folder_name | engine
    | ([a-z]+_)?deployment(_name|_id)? | service_id
    """,
    re.VERBOSE,
)
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


def changes_nothing(name: str, value: object) -> bool:
    """Return whether an attribute of this name changes no answer."""
    if _has_word(name, _SECRET):
        number = isinstance(value, int) and not isinstance(value, bool)
        return not (number and _has_word(name, _LIMITS) and not _has_word(name, _WITHOUT_EFFECT))
    if _WITH_EFFECT.fullmatch(_words(name)[-1]):
        return False
    if "api" in _words(name) and not is_endpoint(name):
        return True
    return _has_word(name, _WITHOUT_EFFECT) or (names_files(name) and _has_word(name, _SCRATCH))


def may_be_client(name: str) -> bool:
    """Return whether an attribute of this name may hold what answers, or only asks it."""
    return _has_word(name, _CLIENT) and not _has_word(name, _SECRET)


def is_endpoint(name: str) -> bool:
    """Return whether an attribute of this name says where a model is asked."""
    words = _words(name)
    return _has_word(name, _ENDPOINT) or (words[-1] == "base" and "api" in words)


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
    return any(words.fullmatch(word) for word in _words(name))


def _words(name: str) -> list[str]:
    """Return the words of ``apiKey``, ``api_key`` or ``X-Api-Key``: at least one."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).lower()
    return [word for word in re.split(r"[^a-z0-9]+", spaced) if word] or [""]
