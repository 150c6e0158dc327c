"""One batch of texts to an embedding model, through the failures of a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenacity
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.services.errors import REJECTED, Failure, is_transient, status_of
from llama_index_adapters.services.retries import retry_policy
from llama_index_adapters.services.threads import Stop
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.response_order import ResponseOrder

ATTEMPTS = 4
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
        stop: ends the waits between attempts.
    """

    model: BaseEmbedding
    batched: bool
    is_service: bool
    order: ResponseOrder
    keep: Callable[[Sequence[str], object], Any]
    stop: Stop

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
        policy = retry_policy(ATTEMPTS, self._may_pass, "A batch of texts")
        tenacity.Retrying(sleep=self.stop.pause, **policy)(self._once, texts)

    def _once(self, texts: Sequence[str]) -> None:
        vectors: Any
        if self.batched:
            self.order.forget()
            vectors = self.stop.ask(lambda: self.model.get_text_embedding_batch(list(texts)))
            if hasattr(vectors, "__len__"):
                vectors = self.order.restored(vectors)
        else:
            vectors = self.stop.ask(
                lambda: [self.model.get_query_embedding(text) for text in texts]
            )
        self.keep(texts, vectors)

    def _may_pass(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False  # an interrupt, whatever was being handled when it came
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
            BatchRequest(model, True, False, order, keep, Stop())(list(texts))
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
    message = f"The embedding model {IdentifiedModel(model).label} failed."
    cause: BaseException = failure
    if isinstance(failure, RejectedTextError):
        cause = failure.__cause__ or failure
    told = Failure.of(cause, model, texts)
    error: EmbeddingError
    if isinstance(failure, RejectedTextError):
        error = RejectedTextError(f"{message} {failure} ({told.text}).", failure.text)
    elif isinstance(failure, EmbeddingError):
        error = EmbeddingError(f"{message} {str(failure).rstrip('.')}.")
    else:
        advice = " It refuses the credentials; check its key." if told.refused else ""
        error = EmbeddingError(f"{message} {told.text}.{advice}")
    error.__cause__ = told.cause
    error.__suppress_context__ = True
    return error
