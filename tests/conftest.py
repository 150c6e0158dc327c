"""Fixtures that several modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# One thread for each process of tests and for those that they start: with tiny tensors, threads
# mostly wait for each other. numpy and torch read it when they are imported.
os.environ["OMP_NUM_THREADS"] = "1"

if TYPE_CHECKING:
    from tests.faulty_openai import FaultyOpenAI


# Processes are given whole files, so that a file's servers are started once. These take longest
# and come first: no process should have one left when the others have ended.
LONGEST_FIRST = (
    "test_search.py",
    "test_workers.py",
    "test_index_conformance.py",
    "test_kills.py",
    "test_ray.py",
    "test_threads.py",
    "test_local.py",
    "test_bench.py",
    "test_bad_inputs.py",
    "test_engine.py",
    "test_sharing.py",
    "test_index_docs.py",
    "test_readme.py",
    "test_identity.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyOpenAI]:
    """An OpenAI-compatible service on loopback that fails as a test plans it."""
    from tests.faulty_openai import serving

    with serving() as service:
        yield service


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once; only a server's ``retry-after`` is waited for."""
    import tenacity

    from llama_index_adapters.services import retries

    monkeypatch.setattr(retries, "RETRY_WAIT", tenacity.wait_none())
