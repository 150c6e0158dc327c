"""Whatever is a question set gives finite numbers, or an error that says what it lacks."""

from __future__ import annotations

import contextlib
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from llama_index_adapters.cli import models
from llama_index_adapters.errors import AdaptersError
from tests.degenerate_sets import ENTRY_POINTS, SETS, Case, model_of

# Underflow to zero is what is meant to happen with tiny vectors.
ERRORS = {"divide": "raise", "over": "raise", "invalid": "raise"}
PAIRS = list(product(ENTRY_POINTS, SETS))


def attempt(entry_point: str, name: str, directory: Path) -> None:
    """Hand a set to an entry point; warnings of any library are errors."""
    with warnings.catch_warnings(), np.errstate(**ERRORS):
        warnings.simplefilter("error")
        with contextlib.suppress(AdaptersError):
            ENTRY_POINTS[entry_point](Case(name, directory))


@pytest.fixture
def tried(tmp_path, monkeypatch, subtests):
    """Tries pairs of an entry point and a set."""

    def all_of(pairs):
        for number, (entry_point, name) in enumerate(pairs):
            monkeypatch.setattr(models, "open_embed_model", lambda _, name=name: model_of(name))
            directory = tmp_path / str(number)
            directory.mkdir()
            with subtests.test(entry_point=entry_point, set=name):
                attempt(entry_point, name, directory)

    return all_of


def test_every_set_and_every_entry_point(tried):
    # 13 shares no factor with the numbers of either, so each comes in turn.
    tried(PAIRS[::13])


@pytest.mark.slow
def test_each_with_each(tried):
    tried(PAIRS)


def test_what_a_set_lacks_is_said(tmp_path):
    for name, entry_point, said in (
        ("one query", "auto", "1 query cannot be split by query to judge adapters"),
        ("one query", "linear", "1 query cannot be split by query to judge adapters"),
        ("every vector equal", "auto", "All 12 have the same vector: .* the embedding model"),
        ("every vector equal", "linear", "All 12 have the same vector: .* the embedding model"),
        ("one query", "split by query", "1 distinct queries, too few for 3 sides"),
        ("one passage", "split by passage", "1 groups of queries that share no passage"),
    ):
        with pytest.raises(AdaptersError, match=said):
            ENTRY_POINTS[entry_point](Case(name, tmp_path))


def test_a_model_that_tells_nothing_apart_is_said(tmp_path, caplog):
    for entry_point in ("evaluate", "no labels"):
        caplog.clear()
        ENTRY_POINTS[entry_point](Case("every vector equal", tmp_path))
        assert "has the same vector for all 12 passage texts" in caplog.text
        caplog.clear()
        ENTRY_POINTS[entry_point](Case("passages all equal", tmp_path))
        assert "the same vector" not in caplog.text
