"""The order in which a service numbered the vectors of its answer.

The OpenAI protocol numbers every vector of an answer (``index``) and does not promise their order.
LlamaIndex's OpenAIEmbedding, and what is built on it, takes them as they come. A server or a proxy
that answers in another order would give every text of a batch the vector of another one, and no
check of the vectors could tell. So the answers are read a second time, for these numbers.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.services.clients import event_hooks
from llama_index_adapters.vectors.wrapped import wrapped_models

_WHOLE = re.compile(r"[0-9]{1,9}(\.0*)?")
_SHOWN = 20  # characters of what is no number


class ResponseOrder:
    """Puts a model's vectors into the order of their texts; a context manager.

    It sees models that keep an ``openai`` client (OpenAIEmbedding and its subclasses with
    ``reuse_client``, the default). For any other the order is the integration's word.

    Args:
        model: the model that is going to be asked, in the thread that asks :meth:`restored`.
    """

    def __init__(self, model: BaseEmbedding) -> None:
        self._hooks: list[list[Any]] = [
            hooks["response"] for hooks in map(event_hooks, with_wrapped(model)) if hooks
        ]
        self._seen = threading.local()

    def __enter__(self) -> ResponseOrder:
        """Begin to read answers."""
        for hooks in self._hooks:
            hooks.append(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the model's client as it was."""
        for hooks in self._hooks:
            hooks.remove(self._note)

    def forget(self) -> None:
        """Forget the last answer of this thread; call it before the model is asked."""
        self._seen.numbers = None

    def restored(self, vectors: Sequence[Any]) -> Sequence[Any]:
        """Return the vectors in the order of the texts.

        Raises:
            EmbeddingError: when the answer numbered them in a way that leaves this open.
        """
        given = getattr(self._seen, "numbers", None)
        if given is None or len(given) != len(vectors) or len(given) < 2:
            return vectors  # a wrong number of vectors is refused where they are checked
        numbers = [whole_number(value) for value in given]
        if numbers == list(range(len(numbers))):
            return vectors
        if None not in numbers and len(set(numbers)) == 1:
            return vectors  # some servers give all of them the number 0
        if sorted(number for number in numbers if number is not None) != list(range(len(numbers))):
            shown = ", ".join(repr(value)[:_SHOWN] for value in given[:5])
            raise EmbeddingError(
                f"The service numbered its {len(numbers)} vectors {shown} and so on, so it is not "
                "known which text each belongs to."
            )
        return [vector for _, vector in sorted(zip(numbers, vectors, strict=True), key=_number)]

    def _note(self, response: Any) -> None:
        self._seen.numbers = None
        if not str(response.request.url.path).rstrip("/").endswith("/embeddings"):
            return
        response.read()
        try:
            rows = response.json()["data"]
            numbers = [row.get("index") for row in rows]
        except (AttributeError, KeyError, TypeError, ValueError):
            return
        if any(number is not None for number in numbers):
            self._seen.numbers = numbers


def whole_number(value: object) -> int | None:
    """Return the whole number that JSON may spell ``3``, ``3.0`` or ``"3"``; None for the rest."""
    if isinstance(value, str):
        return int(float(value)) if _WHOLE.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _number(pair: tuple[int | None, Any]) -> int:
    assert pair[0] is not None
    return pair[0]


def with_wrapped(model: BaseEmbedding) -> Iterator[BaseEmbedding]:
    """Yield a model and those that it wraps."""
    yield model
    for inner in wrapped_models(model):
        yield from with_wrapped(inner)
