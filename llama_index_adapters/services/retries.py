"""When a request that failed is made again, and after how long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import tenacity
from tenacity.wait import wait_base, wait_random_exponential

from llama_index_adapters.services.errors import retry_after

logger = logging.getLogger(__name__)

RETRY_WAIT: wait_base = wait_random_exponential(multiplier=1, max=60)
"""Seconds between attempts where the server does not say how long to wait."""


class WaitAsTold(wait_base):
    """Wait as long as the server's ``retry-after`` asks for, else as :data:`RETRY_WAIT` says."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait."""
        error = retry_state.outcome.exception() if retry_state.outcome else None
        told = None if error is None else retry_after(error)
        return RETRY_WAIT(retry_state) if told is None else told


def retry_policy(
    attempts: int, may_pass: Callable[[BaseException], bool], request: str
) -> dict[str, Any]:
    """Return the arguments of :class:`tenacity.Retrying`, and of its asynchronous twin.

    The last attempt's error is raised as it is. A log line says that another attempt follows,
    with the class of the error alone: its text may repeat what was sent.

    Args:
        attempts: how many there are in all.
        may_pass: whether an error is one after which the same request may succeed.
        request: what the log calls the request, such as ``"A batch of texts"``.
    """

    def log(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "%s failed (%s); trying again in %.1f seconds.",
            request,
            type(error).__name__,
            state.upcoming_sleep,
        )

    return {
        "stop": tenacity.stop_after_attempt(attempts),
        "wait": WaitAsTold(),
        "retry": tenacity.retry_if_exception(may_pass),
        "before_sleep": log,
        "reraise": True,
    }
