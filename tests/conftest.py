"""Fixtures that several modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# One thread for each process of tests and for those that they start: with tiny tensors, threads
# mostly wait for each other. numpy and torch read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from tests.faulty_openai import FaultyOpenAI


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: with tiny tensors, threads mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
