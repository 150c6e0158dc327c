"""The HTTP clients inside LlamaIndex's models of the OpenAI protocol, and what is sent by them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def event_hooks(model: object, client: str = "_get_client") -> dict[str, list[Any]] | None:
    """Return the hooks of the HTTP client that a model keeps, None when there is none.

    Args:
        model: the model; with ``reuse_client``, the default, it keeps an ``openai`` client.
        client: the method that gives this client; ``_get_aclient`` for the asynchronous one.
    """
    if not getattr(model, "reuse_client", False) or not hasattr(model, client):
        return None
    http_client = getattr(getattr(model, client)(), "_client", None)
    hooks = getattr(http_client, "event_hooks", None)
    return hooks if isinstance(hooks, dict) and {"request", "response"} <= set(hooks) else None


@contextlib.contextmanager
def before_each_request(
    models: Iterable[object], hook: Callable[[Any], Any], client: str = "_get_client"
) -> Iterator[None]:
    """Have a function called before anything is sent, also by a model that retries by itself.

    Models whose client cannot be seen are left as they are, and so are those that cannot make one:
    they say why when they are asked.
    """
    entered: list[list[Any]] = []
    try:
        for model in models:
            with contextlib.suppress(Exception):
                hooks = event_hooks(model, client)
                if hooks is not None:
                    hooks["request"].append(hook)
                    entered.append(hooks["request"])
        yield
    finally:
        for hooks_of_requests in entered:
            hooks_of_requests.remove(hook)
