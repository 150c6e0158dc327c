"""Ask an embedding model for the vectors of many texts, from this process.

A service is asked concurrently by threads that make the model's synchronous calls. Its
asynchronous calls would give the same concurrency, but integrations keep an HTTP client whose
connections belong to the event loop they were opened in. An event loop of our own, closed when we
are done, leaves the user's model with connections to a closed loop: the next call of
OpenAIEmbedding then fails with "Event loop is closed", or uses up a retry. And a notebook's loop is
already running. Threads need no loop.

But they need synchronous calls that may overlap, and asynchronous methods do not say that: those of
many local models call the synchronous ones, around a context that has one buffer. So several
threads ask only where the calls are known to hold no state (:data:`SAFE_IN_THREADS`), or where the
user asks for it with ``num_workers``. Any other service is asked by one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.errors import AdaptersError, EmbeddingError
from llama_index_adapters.services.clients import before_each_request
from llama_index_adapters.services.identity.folders import is_huggingface
from llama_index_adapters.services.threads import Stop, StoppedError, work_here, work_in_threads
from llama_index_adapters.vectors.request import BatchRequest, explained
from llama_index_adapters.vectors.response_order import ResponseOrder, with_wrapped
from llama_index_adapters.vectors.wrapped import wrapped_models

logger = logging.getLogger(__name__)

DEFAULT_WORKERS = 8
"""Requests under way at once, for a service of :data:`SAFE_IN_THREADS` without ``num_workers``."""

SAFE_IN_THREADS = frozenset(
    f"llama_index.embeddings.{name}"
    for name in (
        # One client that is made for threads: httpx's, or boto3's.
        *("bedrock", "cohere", "mistralai", "nvidia", "ollama", "openai"),
        # A client for each call.
        *("llamafile", "text_embeddings_inference", "xinference"),
    )
)
"""Packages whose synchronous calls share nothing but a client that may be used by threads."""

_SYNCHRONOUS = ("_get_text_embeddings", "_get_text_embedding", "_get_query_embedding")
_ASYNCHRONOUS = ("_aget_text_embeddings", "_aget_text_embedding")

Keep = Callable[[Sequence[str], object], object]
"""Keeps texts with what the model gave for them; raises EmbeddingError for what is no vectors."""

Take = Callable[[Sequence[str]], Sequence[str]]
"""Given a batch that is about to be asked for, returns what of it has to be."""


class Ask(Protocol):
    """A way to get texts through a model: here, or on other machines."""

    def __call__(
        self,
        model: BaseEmbedding,
        texts: Sequence[str],
        *,
        batched: bool,
        keep: Keep,
        take: Take,
    ) -> Iterator[int]:
        """Ask for every text once, keep each batch as it arrives, yield how many were kept.

        Args:
            model: the model.
            texts: each different from the others.
            batched: whether the batch call is used; otherwise each text is asked for as a query.
            keep: called for each batch.
            take: called right before a batch is asked for; what it leaves out is not.

        Raises:
            EmbeddingError: when the model fails; what was under way is kept first.
        """


def ask_here(
    model: BaseEmbedding,
    texts: Sequence[str],
    *,
    batched: bool,
    keep: Keep,
    take: Take = lambda batch: batch,
) -> Iterator[int]:
    """Ask the model in this process, see :class:`Ask`."""
    workers = workers_of(model)
    if workers == 1 and model.num_workers is None:
        logger.info(
            "%s is asked for one batch at a time, because it is not known whether its calls may "
            "overlap. Set num_workers to have more under way.",
            type(model).__name__,
        )
    texts = in_asking_order(model, texts)
    size = model.embed_batch_size if batched else 1
    batches = (take(texts[start : start + size]) for start in range(0, len(texts), size))
    failures: list[BaseException] = []
    stop = Stop()
    with (
        before_each_request(with_wrapped(model), lambda _: stop.refuse_next()),
        ResponseOrder(model) as order,
    ):
        # The thread that asked also keeps, so that an interrupted run has what was under way.
        request = BatchRequest(model, batched, workers is not None, order, keep, stop)
        ended = (
            work_here(request, filter(None, batches), stop)
            if workers is None
            else work_in_threads(request, filter(None, batches), workers, stop)
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
    """Return how many requests may be under way at once; None: the model is no service."""
    if not _is_service(model):
        return None
    if model.num_workers:
        return model.num_workers
    return DEFAULT_WORKERS if _is_safe_in_threads(model) else 1


def _is_service(model: BaseEmbedding) -> bool:
    """Return whether the model's class has asynchronous code of its own for passages.

    HuggingFaceEmbedding's only moves its synchronous code to a thread: it computes here. A model
    that wraps another is a service when that one is.
    """
    wrapped = list(wrapped_models(model))
    if wrapped:
        return all(map(_is_service, wrapped))
    return not is_huggingface(model) and any(
        _home_of(type(model), name) is not BaseEmbedding for name in _ASYNCHRONOUS
    )


def _is_safe_in_threads(model: BaseEmbedding) -> bool:
    wrapped = list(wrapped_models(model))
    if wrapped and not all(map(_is_safe_in_threads, wrapped)):
        return False
    homes = {_home_of(type(model), name) for name in _SYNCHRONOUS} - {BaseEmbedding}
    safe = {"llama_index_adapters"} if wrapped else SAFE_IN_THREADS
    return all(any(_is_within(home.__module__, name) for name in safe) for home in homes)


def _home_of(cls: type, name: str) -> type:
    """Return the class that defines a method."""
    return next(base for base in cls.__mro__ if name in vars(base))


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
