"""Whether anybody watches an embedding model: events and spans that nobody receives are skipped.

LlamaIndex reports every call of an embedding model twice: as events and spans of its
instrumentation, and to the handlers of a callback manager. Making a report costs about twice
what a linear adapter of 384 dimensions does, so one that nobody receives is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from llama_index.core.instrumentation import (
    DISPATCHER_SPAN_DECORATED_ATTR,
    Dispatcher,
    NullEventHandler,
    NullSpanHandler,
    get_dispatcher,
)

_Method = TypeVar("_Method", bound=Callable[..., object])


def dispatchers_of(*modules: str) -> tuple[Dispatcher, ...]:
    """Return the dispatchers that pass on what is reported in modules, each of them once."""
    found: dict[str, Dispatcher] = {}
    for module in modules:
        dispatcher = get_dispatcher(module)
        while dispatcher.propagate:
            found[dispatcher.name] = dispatcher
            dispatcher = dispatcher.parent
        found[dispatcher.name] = dispatcher
    return tuple(found.values())


def is_watched(dispatchers: Sequence[Dispatcher]) -> bool:
    """Return whether any of the dispatchers has a handler that does something."""
    for dispatcher in dispatchers:
        for handler in dispatcher.event_handlers:
            if type(handler) is not NullEventHandler:
                return True
        for span_handler in dispatcher.span_handlers:
            if type(span_handler) is not NullSpanHandler:
                return True
    return False


def without_span(method: _Method) -> _Method:
    """Keep LlamaIndex from wrapping an overriding method in a span of its own.

    LlamaIndex wraps whatever overrides a method that has a span, unless it has one already.
    This is for a method that leaves the span to the one it overrides.
    """
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


def unspanned(method: _Method) -> _Method:
    """Return a bound method as it was written, without the span that LlamaIndex put around it."""
    written: _Method = getattr(method, "__wrapped__", method)
    return written
