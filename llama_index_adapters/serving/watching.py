"""Who hears of a call of an embedding model: each event once, and none that nobody receives.

LlamaIndex reports every call of an embedding model's public methods twice: as an event and a span
of its instrumentation, and to the handlers of a callback manager. A model that wraps another
would report each text a second time, and whoever adds up tokens would pay twice on paper. So the
base model's events are the ones that count: the wrapper makes none in the instrumentation, and
reports to those callback handlers alone that do not hear of the call from the base model.

A span adds nothing up, and shows that an adapter is in use. It costs about as much as a linear
adapter of 384 dimensions, so a query has one only while somebody receives spans.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import (
    DISPATCHER_SPAN_DECORATED_ATTR,
    Dispatcher,
    NullSpanHandler,
    get_dispatcher,
)

_Method = TypeVar("_Method", bound=Callable[..., Any])


def dispatchers_of(module: str) -> tuple[Dispatcher, ...]:
    """Return the dispatchers that pass on what is reported in a module."""
    dispatcher = get_dispatcher(module)
    found = [dispatcher]
    while dispatcher.propagate:
        dispatcher = dispatcher.parent
        found.append(dispatcher)
    return tuple(found)


def receives_spans(dispatchers: Sequence[Dispatcher]) -> bool:
    """Return whether any of the dispatchers has a handler that does something with spans."""
    for dispatcher in dispatchers:
        for handler in dispatcher.span_handlers:
            if type(handler) is not NullSpanHandler:
                return True
    return False


def without_span(method: _Method) -> _Method:
    """Keep LlamaIndex from putting a span around an overriding method.

    LlamaIndex does so for whatever overrides an abstract method or one that has a span, unless it
    has one already.
    """
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


def span_if_received(method: _Method) -> _Method:
    """Put a span around a method of a class, but only while somebody receives spans."""
    dispatchers = dispatchers_of(method.__module__)
    spanned = cast(Any, dispatchers[0].span(method))
    plain = cast(Any, method)

    @functools.wraps(method)
    def call(self: object, *args: Any, **kwargs: Any) -> Any:
        chosen = spanned if receives_spans(dispatchers) else plain
        return chosen.__get__(self)(*args, **kwargs)

    @functools.wraps(method)
    async def acall(self: object, *args: Any, **kwargs: Any) -> Any:
        return await call(self, *args, **kwargs)

    return cast(_Method, without_span(acall if inspect.iscoroutinefunction(method) else call))


def unheard(
    manager: CallbackManager, heard: Collection[BaseCallbackHandler]
) -> CallbackManager | None:
    """Return a manager for those of its handlers that are not among ``heard``; None for none."""
    if not manager.handlers:
        return None
    # By identity: two handlers that compare equal are still two counts.
    ids = {id(handler) for handler in heard}
    left = [handler for handler in manager.handlers if id(handler) not in ids]
    if not left:
        return None
    # A copy, because making a manager adds the global handler; it traces into the same map.
    reduced = copy.copy(manager)
    reduced.set_handlers(left)
    return reduced


@contextmanager
def reported(
    model: BaseEmbedding, manager: CallbackManager | None, texts: list[str]
) -> Iterator[list[Embedding]]:
    """Report that a model embeds texts; the block puts their vectors into the list.

    Args:
        model: the model, as the payload names it.
        manager: whom to report to; nobody when None.
        texts: what is embedded.
    """
    vectors: list[Embedding] = []
    if manager is None:
        yield vectors
        return
    # What LlamaIndex's own payloads hold; versions before 0.14.21 have no method for it.
    named = {
        "class_name": model.class_name(),
        "model_name": model.model_name,
        "embed_batch_size": model.embed_batch_size,
    }
    with manager.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: named}) as event:
        yield vectors
        event.on_end(payload={EventPayload.CHUNKS: texts, EventPayload.EMBEDDINGS: vectors})
