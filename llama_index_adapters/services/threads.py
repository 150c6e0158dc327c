"""Requests under way at the same time, and how they all end when one of them has to.

The threads are daemons of our own and not a pool's: Python waits for those of
``concurrent.futures`` before it ends, and a model may sleep for minutes before a retry of its own.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

GRACE_SECONDS = 1.0
"""How long what is under way has after an interrupt until it is given up."""


class StoppedError(Exception):
    """Other work has ended the run; this piece of it gives up its next attempt."""


class GivenUp(BaseException):
    """Ends a request whose run is over.

    Not an ``Exception``: after those, libraries try again.
    """


class Stop:
    """Tells everything that is under way to make no further attempt."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._asking: set[int] = set()

    def set(self) -> None:
        """End every pause, now and from now on; no request is begun any more."""
        with self._lock:
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

    def ask(self, request: Callable[[], _Result]) -> _Result:
        """Make a request that may be given up while it is under way.

        Raises:
            StoppedError: when none is to be made any more.
        """
        thread = threading.get_ident()
        with self._lock:
            if self._event.is_set():
                raise StoppedError
            self._asking.add(thread)
        try:
            return request()
        finally:
            with self._lock:
                self._asking.discard(thread)

    def refuse_next(self) -> None:
        """End a request of this run that is about to send something after the run was stopped.

        A model that tries again by itself sends several times in one request.
        """
        if self._event.is_set() and threading.get_ident() in self._asking:
            raise GivenUp

    def give_up(self) -> None:
        """End the requests under way.

        Python ends a thread's work as soon as the thread runs Python again: one that sleeps in a
        library before it tries again does not get to try.
        """
        with self._lock:
            self._event.set()
            for thread in self._asking:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(GivenUp)
                )


def work_in_threads(
    work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, stop: Stop
) -> Generator[Future[_Result], None, None]:
    """Do the work on every item, so many at a time; yield each piece of it when it has ended.

    A single worker is a thread too: an interrupt from the keyboard reaches the main thread alone,
    so it never falls between an answer and its place on the disk. After a failure no further
    item is begun, and what is under way is waited for: it has been paid for. When the caller is
    interrupted or closes this generator, that has :data:`GRACE_SECONDS`; then its requests are
    given up, and no thread keeps the process alive.

    Args:
        work: what to do about an item; what it asks of others it asks by :meth:`Stop.ask`.
        items: taken one by one, in the calling thread, each when a worker is free for it.
        workers: threads.
        stop: is set by the first piece of work that fails, and may be set by the caller.
    """
    tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    ended: SimpleQueue[Future[_Result]] = SimpleQueue()
    threads: list[threading.Thread] = []

    def worker() -> None:
        while (task := tasks.get()) is not None:
            task()

    def begin(item: _Item) -> None:
        def task() -> None:
            future: Future[_Result] = Future()
            try:
                if stop.is_set():
                    raise StoppedError
                future.set_result(work(item))
            except GivenUp:
                future.set_exception(StoppedError())
            except BaseException as error:
                stop.set()
                future.set_exception(error)
            ended.put(future)

        # LlamaIndex keeps the parents of its events and spans in the context.
        context = contextvars.copy_context()
        tasks.put(lambda: context.run(task))

    pending = iter(items)
    running = 0
    try:
        while True:
            while running < workers and not stop.is_set():
                try:
                    item = next(pending)
                except StopIteration:
                    break
                if running == len(threads):
                    thread = threading.Thread(target=worker, daemon=True, name="requests")
                    # Before it is started: an interrupt may come in between.
                    threads.append(thread)
                    thread.start()
                begin(item)
                running += 1
            if not running:
                return
            done = ended.get()
            running -= 1
            yield done
    except BaseException:
        stop.set()
        raise
    finally:
        for _ in threads:
            tasks.put(None)
        try:
            _wait_for(threads, GRACE_SECONDS)
        finally:
            stop.give_up()


def _wait_for(threads: Iterable[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        with contextlib.suppress(RuntimeError):  # the interrupt came before it was started
            thread.join(max(deadline - time.monotonic(), 0.0))


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
