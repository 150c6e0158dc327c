"""What happens when a real client talks to a service that fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from llama_index_adapters import agenerate_qa_embedding_pairs, generate_qa_embedding_pairs
from llama_index_adapters.errors import EmbeddingError, GenerationError
from llama_index_adapters.vectors import request
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.faulty_openai import (
    BROKEN,
    KEY,
    LIMIT,
    OUT_OF_ORDER,
    STATUSES,
    TRANSIENT,
    FaultyOpenAI,
    llm_of,
    model_of,
    vector_of,
)

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_waits")]

TEXTS = [f"the planted marker text number {number}" for number in range(12)]
CHAT = ("429", "429 retry-after", "500", "503", *BROKEN, "none")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddingStore]:
    with EmbeddingStore(tmp_path / "store.sqlite3") as opened:
        yield opened


def embed(model: OpenAIEmbedding, store: EmbeddingStore, texts: list[str] = TEXTS) -> Any:
    return Embedder(model, store, show_progress=False).texts(texts, "passage").vectors


def right(texts: list[str] = TEXTS) -> Any:
    return np.float32([vector_of(text) for text in texts])


# Every fault once; the ways of asking take turns.
PASSING = (*TRANSIENT, *OUT_OF_ORDER)


@pytest.mark.parametrize(("workers", "faults"), [(1, PASSING[::2]), (3, PASSING[1::2])])
def test_embedding_survives_a_fault_that_passes(
    server: FaultyOpenAI,
    tmp_path: Path,
    subtests: pytest.Subtests,
    workers: int,
    faults: tuple[str, ...],
) -> None:
    for fault in faults:
        with subtests.test(fault=fault), EmbeddingStore(tmp_path / f"{fault}.sqlite3") as store:
            first = model_of(server, num_workers=1)
            server.plan()
            embed(first, store, TEXTS[:4])
            server.plan(fault, fault)
            found = embed(model_of(server, fault, num_workers=workers), store)
            np.testing.assert_array_equal(found, right())
            assert server.injected == [fault, fault]
            assert sorted(server.served) == sorted(TEXTS[4:])  # none of them twice
            server.plan(always="500")
            embed(model_of(server), store)
            assert not server.requests


def test_a_fault_that_stays_says_what_is_stored(
    server: FaultyOpenAI, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for fault in ("429", "timeout", "html", "too few", "nan", "other dimension"):
        with subtests.test(fault=fault), EmbeddingStore(tmp_path / f"{fault}.sqlite3") as store:
            server.plan()
            embed(model_of(server), store, TEXTS[:4])
            server.plan(always=fault)
            server.echo = True
            said = r"4 of 12 passage texts are stored in .*continues"
            with pytest.raises(EmbeddingError, match=said):
                embed(model_of(server, fault), store)
            assert len(server.requests) == request.ATTEMPTS
            assert store.count() == 4
            server.plan()
            np.testing.assert_array_equal(embed(model_of(server), store), right())
            assert sorted(server.served) == sorted(TEXTS[4:])


def test_retry_after_is_waited_for(server: FaultyOpenAI, store: EmbeddingStore) -> None:
    fault = "429 retry-after"
    server.plan(fault, fault)
    embed(model_of(server), store, TEXTS[:2])
    waits = [later - earlier for earlier, later in itertools.pairwise(server.times)]
    told = float(STATUSES[fault][1]["retry-after"])
    assert len(waits) == 2
    assert min(waits) >= told


@pytest.mark.parametrize("fault", ["401", "403"])
def test_refused_credentials_end_embedding_at_once_and_no_key_is_repeated(
    server: FaultyOpenAI, store: EmbeddingStore, fault: str
) -> None:
    server.plan(always=fault)
    server.echo = True
    with pytest.raises(EmbeddingError, match=f"HTTP {fault}. It refuses the credentials") as caught:
        embed(model_of(server), store)
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_a_text_that_is_too_long_is_named_and_the_others_are_kept(
    server: FaultyOpenAI, tmp_path: Path
) -> None:
    corpus = {f"p{number}": text for number, text in enumerate(TEXTS[:8])}
    corpus["p5"] = "x" * (LIMIT + 1)
    data = {"queries": {"q": "why?"}, "corpus": corpus, "relevant_docs": {"q": ["p0"]}}
    path = tmp_path / "store.sqlite3"
    server.plan()
    with pytest.raises(EmbeddingError, match=r"BadRequestError, HTTP 400.*maximum context") as e:
        Embedder(model_of(server, embed_batch_size=8), path, show_progress=False).dataset(data)
    assert f"a text of {LIMIT + 1:,} characters" in str(e.value)
    assert "The rejected text is passage 'p5': shorten it or leave it out. 7 of 8" in str(e.value)
    assert sorted(server.served) == sorted(text for text in corpus.values() if len(text) < LIMIT)


def test_when_everything_is_rejected_it_stops_soon(
    server: FaultyOpenAI, store: EmbeddingStore
) -> None:
    server.plan()
    texts = [f"{number}" * LIMIT * 2 for number in range(64)]
    with pytest.raises(EmbeddingError, match=r"texts\[0\].*0 of 64"):
        embed(model_of(server, embed_batch_size=64), store, texts)
    assert len(server.requests) < 15


def test_numbers_that_all_agree_say_nothing_and_the_client_is_left_as_it_was(
    server: FaultyOpenAI, store: EmbeddingStore
) -> None:
    model = model_of(server)
    before = list(model._get_client()._client.event_hooks["response"])
    server.plan("out of order")
    np.testing.assert_array_equal(embed(model, store, TEXTS[:4]), right(TEXTS[:4]))
    assert model._get_client()._client.event_hooks["response"] == before


def nodes() -> list[TextNode]:
    return [TextNode(id_=f"n{row}", text=text) for row, text in enumerate(TEXTS[:3])]


def generated(way: str, llm: OpenAI, path: Path, **options: Any) -> Any:
    options = {
        "qa_generate_prompt_tmpl": "{context_str}",
        "output_path": path,
        "verbose": False,
        **options,
    }
    if way == "sync":
        return generate_qa_embedding_pairs(nodes(), llm, **options)
    return asyncio.run(agenerate_qa_embedding_pairs(nodes(), llm, **options))


@pytest.mark.parametrize(("way", "faults"), [("sync", CHAT[::2]), ("async", CHAT[1::2])])
def test_generation_survives_a_fault_that_passes(
    server: FaultyOpenAI,
    tmp_path: Path,
    subtests: pytest.Subtests,
    way: str,
    faults: tuple[str, ...],
) -> None:
    for fault in faults:
        with subtests.test(fault=fault):
            server.plan(fault, fault)
            found = generated(way, llm_of(server, fault), tmp_path / f"{fault}.json")
            assert len(found.queries) == 6
            assert sorted(server.served) == sorted(TEXTS[:3])


@pytest.mark.parametrize(
    ("way", "faults"), [("sync", ("429", "timeout")), ("async", ("html", "none"))]
)
def test_generation_that_fails_says_what_is_stored(
    server: FaultyOpenAI,
    tmp_path: Path,
    subtests: pytest.Subtests,
    way: str,
    faults: tuple[str, ...],
) -> None:
    for fault in faults:
        with subtests.test(fault=fault):
            path = tmp_path / f"{fault}.json"
            server.plan("zero", always=fault)
            server.echo = True
            said = r"'n\d'.*0 of 3 nodes have questions"
            with pytest.raises(GenerationError, match=said) as caught:
                generated(way, llm_of(server, fault), path, on_failure="fail", retry_limit=2)
            assert KEY not in str(caught.value)
            assert not any(text in str(caught.value) for text in TEXTS)
            server.plan()
            assert len(generated(way, llm_of(server), path).queries) == 6


@pytest.mark.parametrize("way", ["sync", "async"])
def test_refused_credentials_end_generation_at_once(
    server: FaultyOpenAI, tmp_path: Path, way: str
) -> None:
    server.plan(always="401")
    server.echo = True
    with pytest.raises(GenerationError, match=r"HTTP 401\)\. Check its key") as caught:
        generated(way, llm_of(server), tmp_path / "set.json")
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)
