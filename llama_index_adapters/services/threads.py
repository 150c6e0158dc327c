"""Requests under way at the same time, and how they all end when one of them has to."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StoppedError(Exception):
    """Other work has ended the run; this piece of it gives up its next attempt."""


class Stop:
    """Tells everything that is under way to make no further attempt."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End every pause, now and from now on."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the run is to end."""
        return self._event.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for the next attempt.

        Raises:
            StoppedError: when there is not going to be one.
        """
        if self._event.wait(seconds):
            raise StoppedError


def work_in_threads(
    work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, stop: Stop
) -> Generator[Future[_Result], None, None]:
    """Do the work on every item, so many at a time; yield each piece of it when it has ended.

    A single worker is a thread too: an interrupt from the keyboard reaches the main thread alone,
    so it never falls between an answer and its place on the disk. After a failure no further
    item is begun. What is under way then, or when the caller is interrupted or closes this
    generator, is waited for: it has been paid for.

    Args:
        work: what to do about an item.
        items: taken one by one, in the calling thread, each when a worker is free for it.
        workers: threads.
        stop: is set by the first piece of work that fails, and may be set by the caller.
    """
    # The pool loses sight of a thread when an interrupt comes while it starts one, so what is
    # under way is counted here.
    change = threading.Condition()
    under_way = 0

    def counted(item: _Item) -> _Result:
        nonlocal under_way
        with change:
            if stop.is_set():
                raise StoppedError
            under_way += 1
        try:
            return work(item)
        except BaseException:
            stop.set()
            raise
        finally:
            with change:
                under_way -= 1
                change.notify_all()

    pending = iter(items)
    running: set[Future[_Result]] = set()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(running) < workers and not stop.is_set():
                    try:
                        item = next(pending)
                    except StopIteration:
                        break
                    # LlamaIndex keeps the parents of its events and spans in the context.
                    context = contextvars.copy_context()
                    running.add(pool.submit(context.run, counted, item))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from done
        except BaseException:
            with change:
                stop.set()
                change.wait_for(lambda: under_way == 0)
            pool.shutdown(cancel_futures=True)
            raise


def work_here(
    work: Callable[[_Item], _Result], items: Iterable[_Item], stop: Stop
) -> Generator[Future[_Result], None, None]:
    """Do the same in the calling thread, one item after the other."""
    for item in items:
        if stop.is_set():
            return
        future: Future[_Result] = Future()
        try:
            future.set_result(work(item))
        except Exception as error:
            stop.set()
            future.set_exception(error)
        yield future
