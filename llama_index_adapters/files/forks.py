"""Locks that a forked process finds free.

A child of ``os.fork`` has the forking thread alone. A lock that another thread held stays held
there for ever, and so do the locks inside SQLite, which cannot be made anew. So a fork waits until
no thread holds one of ours, and the child has new ones.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_WAIT = 5.0
"""Seconds that a fork waits: who holds a lock for longer waits for another process, and idly."""


class ForkLock:
    """A lock for threads, re-entrant, that no fork leaves locked in the child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _ALL[id(self)] = self

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside the block."""
        with self._lock:
            yield

    def renew(self) -> None:
        """Forget who held it, in a child."""
        self._lock = threading.RLock()

    def acquire(self, seconds: float) -> bool:
        """Take it if it becomes free in time."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


# What a fork has to know of; it holds nothing alive.
_ALL: weakref.WeakValueDictionary[int, ForkLock] = weakref.WeakValueDictionary()
_FORKING = threading.local()


def _locks() -> list[ForkLock]:
    # The references, in one step: another thread may make a lock meanwhile.
    return [lock for lock in (reference() for reference in _ALL.valuerefs()) if lock is not None]


def _before() -> None:
    _FORKING.held = [lock for lock in _locks() if lock.acquire(LONGEST_WAIT)]


def _in_parent() -> None:
    for lock in _FORKING.held:
        lock.release()
    _FORKING.held = []


def _in_child() -> None:
    _FORKING.held = []
    for lock in _locks():
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
