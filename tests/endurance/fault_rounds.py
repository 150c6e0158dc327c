"""Many runs against a service that fails at random, seeded; what was stored is compared."""

from __future__ import annotations

import logging
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tenacity
from llama_index.core.schema import TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from llama_index_adapters import generate_qa_embedding_pairs
from llama_index_adapters.errors import EmbeddingError, GenerationError
from llama_index_adapters.questions.generation.journal import Journal, text_digest
from llama_index_adapters.services import retries
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.faulty_openai import BROKEN, TRANSIENT, FaultyOpenAI, serving, vector_of

TEXTS = [f"text number {number}" for number in range(40)]
QUESTION_FAULTS = ("429", "429 retry-after", "500", "503", *BROKEN, "none")


def faults(rounds: int = 60, seed: int = 1) -> dict[str, Any]:
    """Embed and generate so often, each time until everything is there.

    Every request fails with probability 0.5, so that some runs end with an error and are
    continued by the next call.
    """
    retries.RETRY_WAIT = tenacity.wait_none()
    logging.disable(logging.WARNING)
    rng = random.Random(seed)
    count: Counter[str] = Counter()
    injected: Counter[str] = Counter()
    with serving() as server, tempfile.TemporaryDirectory() as name:
        server.hang = 0.15
        for number in range(rounds):
            _embed(server, Path(name) / f"{number}.sqlite3", rng, count, injected)
            _generate(server, Path(name) / f"{number}.json", rng, count, injected)
    figures = dict(sorted(count.items()))
    return {"seed": seed, "rounds": rounds, "injected": dict(sorted(injected.items())), **figures}


def _plan(server: FaultyOpenAI, names: tuple[str, ...], rng: random.Random) -> None:
    server.plan(*(rng.choice(names) if rng.random() < 0.5 else "" for _ in range(200)))


def _model(server: FaultyOpenAI, workers: int) -> OpenAIEmbedding:
    return OpenAIEmbedding(
        api_base=server.url,
        api_key="sk-none",
        embed_batch_size=5,
        num_workers=workers,
        timeout=0.1,
        max_retries=0,
    )


def _embed(
    server: FaultyOpenAI,
    path: Path,
    rng: random.Random,
    count: Counter[str],
    injected: Counter[str],
) -> None:
    names = (*TRANSIENT, "out of order", "401")
    with EmbeddingStore(path) as store:
        model = _model(server, 1)
        server.plan()  # the first answer of all says how many dimensions are right
        Embedder(model, store, show_progress=False).texts(TEXTS[:5], "passage")
        while True:
            model = _model(server, rng.choice([1, 3]))
            missing = set(store.missing(IdentifiedModel(model).identity, "passage", TEXTS))
            _plan(server, names, rng)
            try:
                found = Embedder(model, store, show_progress=False).texts(TEXTS, "passage").vectors
            except EmbeddingError:
                found = None
                count["embedding runs ended by an error"] += 1
            injected.update(fault for fault in server.injected if fault)
            asked = {text for texts in server.requests for text in texts}
            count["stored vectors asked for again"] += len(asked - missing)
            vectors, stored = store.get(IdentifiedModel(model).identity, "passage", TEXTS)
            right = np.float32([vector_of(text) for text in TEXTS])[stored]
            wrong = ~(vectors[stored] == right).all(axis=1) if stored.any() else np.zeros(0)
            count["vectors stored wrong"] += int(wrong.sum())
            if found is not None:
                count["vectors stored"] += len(found)
                return


def _answered(path: Path, nodes: Sequence[TextNode]) -> set[str]:
    """Return the texts that have questions on the disk.

    What the service has answered may be more: an answer that comes after the client's time is up
    is lost to it.
    """
    with Journal(path.with_name(f"{path.name}.progress.jsonl")) as journal:
        return {node.text for node in nodes if journal.find(node.node_id, [text_digest(node.text)])}


def _generate(
    server: FaultyOpenAI,
    path: Path,
    rng: random.Random,
    count: Counter[str],
    injected: Counter[str],
) -> None:
    nodes = [TextNode(id_=f"n{number}", text=text) for number, text in enumerate(TEXTS[:6])]
    while True:
        answered = _answered(path, nodes)
        llm = OpenAI(
            "gpt-4o-mini", api_base=server.url, api_key="sk-none", timeout=0.1, max_retries=0
        )
        _plan(server, QUESTION_FAULTS, rng)
        found = None
        try:
            found = generate_qa_embedding_pairs(
                nodes,
                llm,
                "{context_str}",
                output_path=path,
                on_failure="fail",
                num_workers=rng.choice([1, 2]),
                verbose=False,
            )
        except GenerationError:
            count["generation runs ended by an error"] += 1
        injected.update(fault for fault in server.injected if fault)
        asked = {text for texts in server.requests for text in texts}
        count["answered nodes asked again"] += len(asked & answered)
        if found is not None:
            count["questions kept"] += len(found.queries)
            count["questions lost"] += 2 * len(nodes) - len(found.queries)
            return
