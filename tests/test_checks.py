"""Each check: what it takes, and the words of its refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llama_index_adapters.checks import (
    as_path,
    require_number,
    require_one_of,
    require_seed,
    require_whole,
    seeded_generator,
)
from llama_index_adapters.errors import InvalidOptionError, UnwritableFileError
from llama_index_adapters.files.cache import cache_directory


def refused(check, value, *arguments, **bounds) -> str:
    with pytest.raises(InvalidOptionError) as caught:
        check(value, *arguments, **bounds)
    return str(caught.value)


def test_paths():
    assert as_path("a/b", "store") == as_path(Path("a/b"), "store") == Path("a/b")
    for value in (3, None, b"a"):
        expected = f"store is {value!r}; give a path, as str or pathlib.Path."
        assert refused(as_path, value, "store") == expected


def test_paths_that_name_no_file():
    for value in ("a\0b", Path("a\0b"), "half of \ud83d"):
        expected = f"store is {str(value)!r}; no file can have a name with NUL or half a character"
        assert refused(as_path, value, "store").startswith(expected)


def test_a_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/a", "store") == as_path(Path("~/a"), "store") == tmp_path / "a"
    assert as_path("a/~", "store") == Path("a/~")
    said = refused(as_path, "~nosuchuser/x", "store")
    assert said == (
        "store is '~nosuchuser/x', but there is no home directory for its ~nosuchuser. "
        "Give the path in full."
    )


def test_no_home_directory_for_the_cache(monkeypatch):
    pwd = pytest.importorskip("pwd")

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UnwritableFileError, match="Set HOME or XDG_CACHE_HOME, or name a file"):
        cache_directory()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/llama-index-adapters")


def test_whole_numbers():
    require_whole(1, "epochs")
    require_whole(0, "mined", least=0)
    require_whole(2048, "size", most=2048)
    for value in (0, -1, 2.0, "3", None, True, np.float64(2)):
        expected = f"epochs is {value!r}; give a whole number from 1 on."
        assert refused(require_whole, value, "epochs") == expected
    said = refused(require_whole, 2049, "size", most=2048, otherwise=", or leave it out")
    assert said == "size is 2049; give a whole number from 1 to 2,048, or leave it out."


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "expected"),
    [
        ({"above": 0}, [1e-300, 1, 10**400], [0, -1, INFINITE], "a finite number above 0"),
        ({"least": 0}, [0, 0.5, 10**400], [-1e-300, INFINITE], "a finite number from 0 on"),
        ({"least": 0, "most": 1}, [0, 1], [-0.1, 1.1], "a number from 0 to 1"),
        ({"least": 0, "below": 1}, [0, 0.9], [-0.1, 1], "a number from 0 on and below 1"),
        ({"above": 0, "below": 1}, [0.1], [0, 1], "a number above 0 and below 1"),
    ],
)
def test_numbers_in_their_bounds(bounds, good, bad, expected):
    for value in good:
        require_number(value, "rate", **bounds)
    for value in (*bad, NAN, -INFINITE, "0.5", None, True):
        said = refused(require_number, value, "rate", **bounds)
        assert said == f"rate is {value!r}; give {expected}."


def test_words():
    require_one_of("query", "role", ("query", "passage"))
    said = refused(require_one_of, "querry", "role", ("query", "passage"))
    assert said == "role is 'querry'; use one of query, passage. Did you mean 'query'?"
    for value in (None, 3, ["query"], np.array(["query", "passage"])):
        said = refused(require_one_of, value, "role", ("query", "passage"))
        assert said == f"role is {value!r}; use one of query, passage."


def test_seeds():
    for seed in (0, 2**63 - 1, np.int64(5), np.uint8(5)):
        require_seed(seed)
    for seed in (-1, 2**63, 0.5, "0", None, True, np.float64(1)):
        expected = f"seed is {seed!r}; give a whole number from 0 to 2**63 - 1."
        assert refused(require_seed, seed) == expected
        assert refused(seeded_generator, seed) == expected
    numbers = [seeded_generator(seed).random() for seed in (3, np.int64(3), 4)]
    assert numbers[0] == numbers[1] != numbers[2]
