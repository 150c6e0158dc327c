"""Texts go through an embedding model once; what it gave is stored as it arrives.

A model that is asynchronous is asked concurrently, by threads that make its synchronous
calls. Its asynchronous calls would give the same concurrency, but integrations keep an HTTP
client whose connections belong to the event loop they were opened in. An event loop of our
own, closed when we are done, leaves the user's model with connections to a closed loop: the
next call of OpenAIEmbedding then fails with "Event loop is closed", or uses up a retry. And a
notebook's loop is already running. Threads need no loop.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llama_index_adapters.dataset.qa_dataset import as_dataset
from llama_index_adapters.errors import (
    AdaptersError,
    EmbeddingError,
    InvalidDatasetError,
    InvalidOptionError,
)
from llama_index_adapters.ranking import SIMILARITIES, Similarity
from llama_index_adapters.relevance import Relevance
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.identity import (
    checked_model,
    is_huggingface,
    model_identity,
    model_label,
    wrapped_models,
)
from llama_index_adapters.vectors.request import BatchRequest, RejectedTextError, explained
from llama_index_adapters.vectors.response_order import ResponseOrder
from llama_index_adapters.vectors.store import ROLES, EmbeddingStore, Role
from llama_index_adapters.vectors.vector_dataset import VectorDataset

logger = logging.getLogger(__name__)

# Requests under way at once, for an asynchronous model that does not set num_workers.
DEFAULT_WORKERS = 8
# How many texts are embedded in both roles to find out whether the roles differ.
PROBE_TEXTS = 3
# Vectors with at least this cosine count as equal: services answer the same text slightly
# differently from call to call.
SAME_COSINE = 0.9999


@dataclass(frozen=True)
class EmbeddedDataset:
    """A question set as vectors, and what that took.

    Attributes:
        data: the vectors.
        texts_embedded: how many texts the model was asked to embed; the rest were stored.
        seconds: wall-clock time.
    """

    data: VectorDataset
    texts_embedded: int
    seconds: float


def embed_dataset(
    dataset: object,
    embed_model: BaseEmbedding,
    store: EmbeddingStore | Path | str | None = None,
    *,
    similarity: Similarity = "cosine",
    show_progress: bool = True,
) -> EmbeddedDataset:
    """Embed a question set's passages and queries, as far as they are not stored yet.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
        embed_model: any LlamaIndex embedding model.
        store: an open store, or the path of one; by default the one in the user's cache
            directory.
        similarity: how the vector store compares a query with a passage.
        show_progress: whether to show a progress bar while the model works.

    Raises:
        InvalidDatasetError: when the parts of the dataset do not fit together.
        InvalidOptionError: for a value that cannot be used.
        EmbeddingError: when the model fails or returns something that is not vectors.
            What it gave before is stored; the same call again continues.
    """
    started = time.perf_counter()
    if similarity not in SIMILARITIES:
        raise InvalidOptionError(
            f"similarity is {similarity!r}; use one of {', '.join(SIMILARITIES)}."
        )
    questions = as_dataset(dataset)
    checked_model(embed_model)
    rows = {node_id: row for row, node_id in enumerate(questions.corpus)}
    relevance = Relevance.from_rows(
        [
            [rows[node_id] for node_id in questions.relevant_docs[query]]
            for query in questions.queries
        ]
    )
    parts: tuple[tuple[Role, dict[str, str]], ...] = (
        ("passage", questions.corpus),
        ("query", questions.queries),
    )
    opened = nullcontext(store) if isinstance(store, EmbeddingStore) else EmbeddingStore(store)
    with opened as open_store:
        embedded = [
            _embed(embed_model, list(texts.values()), role, open_store, show_progress, list(texts))
            for role, texts in parts
        ]
    (passages, new_passages), (queries, new_queries) = embedded
    data = VectorDataset(
        queries,
        passages,
        relevance,
        similarity=similarity,
        query_ids=tuple(questions.queries),
        passage_ids=tuple(questions.corpus),
    )
    return EmbeddedDataset(data, new_passages + new_queries, time.perf_counter() - started)


def embed_role(
    texts: Sequence[str],
    role: Role,
    embed_model: BaseEmbedding,
    store: Path | str | None = None,
    *,
    show_progress: bool = True,
) -> tuple[NDArray[np.float32], int, float]:
    """Embed queries or passages without labels, as far as they are not stored yet.

    Returns:
        Their vectors ``(n_texts, dim)``, how many texts the model was asked for, and the
        seconds it took.

    Raises:
        InvalidDatasetError: for something that is not text, or is empty.
        EmbeddingError: when the model fails; what it gave before is stored.
    """
    started = time.perf_counter()
    with EmbeddingStore(store) as open_store:
        vectors, embedded = _embed(embed_model, texts, role, open_store, show_progress)
    return vectors, embedded, time.perf_counter() - started


def embed_texts(
    embed_model: BaseEmbedding,
    texts: Sequence[str],
    role: Role,
    store: EmbeddingStore,
    *,
    show_progress: bool = True,
) -> NDArray[np.float32]:
    """Return the vectors of texts, ``(n_texts, dim)``, embedding only what is not stored.

    The model is called through its public methods, in its own batch size, and each batch is
    stored as it arrives. LlamaIndex has no batch call for queries. So before queries are
    embedded for the first time, :data:`PROBE_TEXTS` of them are embedded in both roles: when
    the vectors are the same, queries go through the batch call and share the passages'
    vectors; otherwise they go one by one.

    Args:
        embed_model: any LlamaIndex embedding model.
        texts: the texts; one that occurs several times is embedded once.
        role: ``"query"`` or ``"passage"``.
        store: where vectors are looked up and kept.
        show_progress: whether to show a progress bar while the model works.

    Raises:
        InvalidDatasetError: for something that is not text, or is empty.
        InvalidOptionError: for another role, or something that is no embedding model.
        EmbeddingError: when the model fails or returns something that is not vectors.
            What it gave before is stored; the same call again continues.
    """
    return _embed(embed_model, texts, role, store, show_progress)[0]


def _embed(
    embed_model: BaseEmbedding,
    texts: Sequence[str],
    role: Role,
    store: EmbeddingStore,
    show_progress: bool,
    ids: Sequence[str] | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Return the vectors and how many texts the model was asked to embed."""
    texts = _checked_texts(texts)
    if role not in ROLES:
        raise InvalidOptionError(f"role is {role!r}; use one of {', '.join(ROLES)}.")
    model_id = model_identity(embed_model)
    try:
        embedded = _Run(embed_model, model_id, store, show_progress).fill(texts, role)
    except EmbeddingError as error:
        total = len(set(texts))
        stored = total - len(store.missing(model_id, role, texts))
        which = ""
        if isinstance(error, RejectedTextError):
            row = texts.index(error.text)
            name = f"texts[{row}]" if ids is None else f"{role} {ids[row]!r}"
            which = f" The rejected text is {name}: shorten it or leave it out."
        raise EmbeddingError(
            f"{error}{which} {stored} of {total} {role} texts are stored in {store.path} and will "
            "not be embedded again; the same call continues with the rest."
        ) from error.__cause__  # None where it would show what the message leaves out
    vectors, found = store.get(model_id, role, texts)
    if not found.all():
        raise EmbeddingError(
            f"{np.count_nonzero(~found)} vectors disappeared from {store.path} while texts were "
            "embedded. Another program changes the file; name another one."
        )
    return vectors, embedded


@dataclass(frozen=True)
class _Run:
    """One model, one store: embeds what is missing and counts it."""

    embed_model: BaseEmbedding
    model_id: str
    store: EmbeddingStore
    show_progress: bool

    def fill(self, texts: Sequence[str], role: Role) -> int:
        """Embed the texts that the store lacks; return how many texts the model was sent."""
        missing = self.store.missing(self.model_id, role, texts)
        if not missing:
            return 0
        embedded = 0
        symmetric = self.store.symmetric(self.model_id)
        # LlamaIndex's cache is keyed by the text alone, so with a cache the passages' vectors
        # may be the queries' too; then the verdict is needed for passages as well.
        has_cache = self.embed_model.embeddings_cache is not None
        if symmetric is None and (role == "query" or has_cache) and len(missing) > PROBE_TEXTS:
            symmetric, embedded = replace(self, show_progress=False).probe(texts)
            missing = self.store.missing(self.model_id, role, texts)
        model = self.embed_model if symmetric else _without_cache(self.embed_model)
        batched = role == "passage" or bool(symmetric)
        return embedded + self.embed(model, missing, role, batched=batched)

    def probe(self, texts: Sequence[str]) -> tuple[bool, int]:
        """Find out whether the model treats both roles alike; the vectors are stored."""
        # From all texts rather than the missing ones: a run that is continued after it was
        # killed picks the same ones. Of several lengths: a model may truncate queries earlier.
        by_length = sorted(dict.fromkeys(texts), key=len)
        probes = [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
        embedded = 0
        vectors: list[NDArray[np.float32]] = []
        for role in ROLES:
            missing = self.store.missing(self.model_id, role, probes)
            model = _without_cache(self.embed_model)
            embedded += self.embed(model, missing, role, batched=role == "passage")
            vectors.append(self.store.get(self.model_id, role, probes).vectors.astype(np.float64))
        queries, passages = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
        cosines = (queries * passages).sum(axis=1)
        symmetric = self.store.set_symmetric(self.model_id, bool((cosines >= SAME_COSINE).all()))
        logger.info(
            "%s embeds queries %s passages (lowest cosine %.6f of %d texts).",
            model_label(self.embed_model),
            "like" if symmetric else "differently from",
            cosines.min(),
            len(probes),
        )
        return symmetric, embedded

    def embed(
        self, model: BaseEmbedding, texts: Sequence[str], role: Role, *, batched: bool
    ) -> int:
        """Send the texts to the model, store each batch as it arrives, return their number."""
        workers = _workers(model)
        if workers is None:
            # A local model pads a batch to its longest text. Not for a service, where batches
            # of the longest texts would exceed its limit of tokens per request.
            texts = sorted(texts, key=len, reverse=True)
        size = model.embed_batch_size if batched else 1
        batches = (texts[start : start + size] for start in range(0, len(texts), size))

        # The thread that asked also stores, so that an interrupted run keeps what was under way.
        def keep(batch: Sequence[str], vectors: object) -> None:
            self.store.put(self.model_id, role, batch, checked_vectors(vectors, len(batch)))

        failures: list[BaseException] = []
        remaining = takewhile(lambda _: not failures, batches)
        with (
            ResponseOrder(model) as order,
            tqdm(
                total=len(texts),
                desc="Embedding queries" if role == "query" else "Embedding passages",
                unit="text",
                disable=not self.show_progress or not texts,
            ) as bar,
        ):
            request = BatchRequest(model, batched, workers is not None, order, keep)
            for done in _finished(request, remaining, workers):
                error = done.exception()
                if error is None:
                    bar.update(done.result())
                else:
                    failures.append(error)
        if not failures:
            return len(texts)
        failure = failures[0]
        ours = isinstance(failure, AdaptersError)
        if not isinstance(failure, Exception) or (ours and not isinstance(failure, EmbeddingError)):
            raise failure
        raise explained(failure, self.embed_model, texts)


def _finished(
    work: Callable[[Sequence[str]], int],
    batches: Iterable[Sequence[str]],
    workers: int | None,
) -> Iterator[Future[int]]:
    """Do the work, yielding a finished future per batch; without workers, in this thread."""
    if workers is None:
        for batch in batches:
            future: Future[int] = Future()
            try:
                future.set_result(work(batch))
            except Exception as error:
                future.set_exception(error)
            yield future
        return
    pending = iter(batches)
    running: set[Future[int]] = set()
    with ThreadPoolExecutor(workers) as pool:
        while True:
            for batch in islice(pending, workers - len(running)):
                # LlamaIndex keeps the parents of its events and spans in the context.
                context = contextvars.copy_context()
                running.add(pool.submit(context.run, work, batch))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from done


def _workers(model: BaseEmbedding) -> int | None:
    """Return how many requests may be under way at once; None: the model is not asynchronous."""
    if not _is_asynchronous(model):
        return None
    return max(1, model.num_workers or DEFAULT_WORKERS)


def _is_asynchronous(model: BaseEmbedding) -> bool:
    """Return whether the model's class has asynchronous code of its own for passages.

    HuggingFaceEmbedding's only moves its synchronous code to a thread: it computes here, and
    threads would compete for it. A model that wraps another is as asynchronous as that one.
    """
    wrapped = list(wrapped_models(model))
    if wrapped:
        return all(_is_asynchronous(inner) for inner in wrapped)
    return not is_huggingface(model) and any(
        getattr(type(model), name) is not getattr(BaseEmbedding, name)
        for name in ("_aget_text_embeddings", "_aget_text_embedding")
    )


def _without_cache(model: BaseEmbedding) -> BaseEmbedding:
    """Return the model without its cache, which does not tell a query from a passage."""
    if model.embeddings_cache is None:
        return model
    return model.model_copy(update={"embeddings_cache": None})


def _checked_texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InvalidDatasetError("texts is one str; expected a list of them.")
    checked = list(texts)
    wrong = [row for row, text in enumerate(checked) if not isinstance(text, str)]
    if wrong:
        raise InvalidDatasetError(
            f"{len(wrong)} texts are not str, the first at {wrong[:5]} "
            f"({type(checked[wrong[0]]).__name__})."
        )
    empty = [row for row, text in enumerate(checked) if not text.strip()]
    if empty:
        raise InvalidDatasetError(
            f"{len(empty)} texts are empty, the first at {empty[:5]}. Leave them out."
        )
    return checked
