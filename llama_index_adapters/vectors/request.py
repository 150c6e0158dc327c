"""One batch of texts to an embedding model, through the failures of a service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenacity
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray
from tenacity.wait import wait_base, wait_random_exponential

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.services.errors import (
    REFUSED,
    REJECTED,
    WaitAsTold,
    described,
    is_transient,
    may_be_shown,
    status_of,
)
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.identity import model_label
from llama_index_adapters.vectors.response_order import ResponseOrder

logger = logging.getLogger(__name__)

ATTEMPTS = 4
RETRY_WAIT: wait_base = wait_random_exponential(multiplier=1, max=30)  # seconds
# So many rejected texts in one batch are no accident; the rest of it is not tried any more.
MOST_REJECTED = 3


class RejectedTextError(EmbeddingError):
    """The model rejects one text of a batch; the others are stored.

    Attributes:
        text: the rejected text; the message does not repeat it.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True)
class BatchRequest:
    """Asks for the vectors of a batch until they are kept, or it is clear that they cannot be.

    A failure that may pass (HTTP 408, 409, 425, 429 and 5xx, lost connections, broken answers) is
    tried again, :data:`ATTEMPTS` times in all, with growing random waits or as long as
    ``retry-after`` says. A model that retries by itself does so within each attempt.

    Attributes:
        model: the model.
        batched: whether the batch call is used; otherwise each text is asked for as a query.
        is_service: whether an answer that is not vectors may be another one next time.
        order: restores the order of an answer.
        keep: stores texts with the vectors they got; raises EmbeddingError for what is none.
    """

    model: BaseEmbedding
    batched: bool
    is_service: bool
    order: ResponseOrder
    keep: Callable[[Sequence[str], object], Any]

    def __call__(self, texts: Sequence[str]) -> int:
        """Ask and keep; return the number of texts.

        A batch that the model rejects is halved until the text at fault stands alone, so that
        the others are kept.

        Raises:
            RejectedTextError: for the first text that the model rejects by itself.
        """
        pending = [texts]
        rejected: list[tuple[str, Exception]] = []
        while pending and len(rejected) < MOST_REJECTED:
            part = pending.pop()
            try:
                self._until_kept(part)
            except Exception as error:
                if status_of(error) not in REJECTED:
                    raise
                if len(part) == 1:
                    rejected.append((part[0], error))
                else:
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
        if rejected:
            text, reason = rejected[0]
            raise RejectedTextError(
                f"It rejects a text of {len(text):,} characters", text
            ) from reason
        return len(texts)

    def _until_kept(self, texts: Sequence[str]) -> None:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=WaitAsTold(RETRY_WAIT),
            retry=tenacity.retry_if_exception(self._may_pass),
            before_sleep=_log,
            reraise=True,
        )
        retrying(self._once, texts)

    def _once(self, texts: Sequence[str]) -> None:
        vectors: Any
        if self.batched:
            self.order.forget()
            vectors = self.model.get_text_embedding_batch(list(texts))
            if hasattr(vectors, "__len__"):
                vectors = self.order.restored(vectors)
        else:
            vectors = [self.model.get_query_embedding(text) for text in texts]
        self.keep(texts, vectors)

    def _may_pass(self, error: BaseException) -> bool:
        if isinstance(error, EmbeddingError):
            return self.is_service
        # An answer without what it should hold: integrations fail on it in their own ways.
        broken = isinstance(error, (AttributeError, IndexError, KeyError, TypeError, ValueError))
        has_status = status_of(error) is not None
        return is_transient(error) or (self.is_service and broken and not has_status)


def ask_passages(model: BaseEmbedding, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a model's vectors of passages, ``(n, dim)``, asked for like those that are stored.

    Raises:
        EmbeddingError: when the model fails.
    """
    kept: dict[str, NDArray[np.float32]] = {}

    def keep(batch: Sequence[str], vectors: object) -> None:
        kept.update(zip(batch, checked_vectors(vectors, len(batch)), strict=True))

    failure: Exception | None = None
    try:
        with ResponseOrder(model) as order:
            BatchRequest(model, True, False, order, keep)(list(texts))
    except Exception as error:
        failure = error
    if failure is not None:
        raise explained(failure, model, texts)
    return np.stack([kept[text] for text in texts])


def explained(failure: Exception, model: BaseEmbedding, texts: Sequence[str]) -> EmbeddingError:
    """Return the error to raise for what ended the requests, its cause set where it may be shown.

    Args:
        failure: what :class:`BatchRequest` raised.
        model: the model that was asked.
        texts: what it was sent; none of them is repeated.
    """
    message = f"The embedding model {model_label(model)} failed."
    cause: BaseException = failure
    error: EmbeddingError
    if isinstance(failure, RejectedTextError):
        cause = failure.__cause__ or failure
        said = described(cause, model, texts)
        error = RejectedTextError(f"{message} {failure} ({said}).", failure.text)
    elif isinstance(failure, EmbeddingError):
        error = EmbeddingError(f"{message} {str(failure).rstrip('.')}.")
    else:
        refused = status_of(failure) in REFUSED
        advice = " It refuses the credentials; check its key." if refused else ""
        error = EmbeddingError(f"{message} {described(failure, model, texts)}.{advice}")
    error.__cause__ = cause if may_be_shown(cause, model, texts) else None
    error.__suppress_context__ = True
    return error


def _log(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning(
        "A batch of texts failed (%s); trying again in %.1f seconds.",
        type(error).__name__,
        state.upcoming_sleep,
    )
