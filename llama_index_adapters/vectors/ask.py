"""Ask an embedding model for the vectors of many texts, from this process.

A model that is asynchronous is asked concurrently, by threads that make its synchronous
calls. Its asynchronous calls would give the same concurrency, but integrations keep an HTTP
client whose connections belong to the event loop they were opened in. An event loop of our
own, closed when we are done, leaves the user's model with connections to a closed loop: the
next call of OpenAIEmbedding then fails with "Event loop is closed", or uses up a retry. And a
notebook's loop is already running. Threads need no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.errors import AdaptersError, EmbeddingError
from llama_index_adapters.services.threads import Stop, StoppedError, work_here, work_in_threads
from llama_index_adapters.vectors.identity import is_huggingface, wrapped_models
from llama_index_adapters.vectors.request import BatchRequest, explained
from llama_index_adapters.vectors.response_order import ResponseOrder

# Requests under way at once, for an asynchronous model that does not set num_workers.
DEFAULT_WORKERS = 8

Keep = Callable[[Sequence[str], object], object]
"""Keeps texts with what the model gave for them; raises EmbeddingError for what is no vectors."""


class Ask(Protocol):
    """A way to get texts through a model: here, or on other machines."""

    def __call__(
        self, model: BaseEmbedding, texts: Sequence[str], *, batched: bool, keep: Keep
    ) -> Iterator[int]:
        """Ask for every text once, keep each batch as it arrives, yield how many were kept.

        Args:
            model: the model.
            texts: each different from the others.
            batched: whether the batch call is used; otherwise each text is asked for as a query.
            keep: called for each batch.

        Raises:
            EmbeddingError: when the model fails; what was under way is kept first.
        """


def ask_here(
    model: BaseEmbedding, texts: Sequence[str], *, batched: bool, keep: Keep
) -> Iterator[int]:
    """Ask the model in this process, see :class:`Ask`."""
    workers = workers_of(model)
    texts = in_asking_order(model, texts)
    size = model.embed_batch_size if batched else 1
    batches = (texts[start : start + size] for start in range(0, len(texts), size))
    failures: list[BaseException] = []
    stop = Stop()
    with ResponseOrder(model) as order:
        # The thread that asked also keeps, so that an interrupted run has what was under way.
        request = BatchRequest(model, batched, workers is not None, order, keep, stop)
        ended = (
            work_here(request, batches, stop)
            if workers is None
            else work_in_threads(request, batches, workers, stop)
        )
        with closing(ended):
            for done in ended:
                error = done.exception()
                if error is None:
                    yield done.result()
                elif not isinstance(error, StoppedError):
                    failures.append(error)
    if not failures:
        return
    failure = failures[0]
    ours = isinstance(failure, AdaptersError)
    if not isinstance(failure, Exception) or (ours and not isinstance(failure, EmbeddingError)):
        raise failure
    raise explained(failure, model, texts)


def in_asking_order(model: BaseEmbedding, texts: Sequence[str]) -> list[str]:
    """Return the texts in the order in which they are batched."""
    if workers_of(model) is None:
        # A local model pads a batch to its longest text. Not for a service, where batches
        # of the longest texts would exceed its limit of tokens per request.
        return sorted(texts, key=len, reverse=True)
    return list(texts)


def workers_of(model: BaseEmbedding) -> int | None:
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
