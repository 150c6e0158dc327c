"""How many threads a training takes: those that its products pay for and the process may use.

A step of training is a few products and many small sums. Threads that share them wait for each
other at the end of each. On a quiet machine that costs microseconds; where other work runs too,
one of them often waits for its turn on a processor, milliseconds long, and the others with it, many
times in a step. So a training whose products are small takes one thread, however many processors
there are, and nothing takes more than the process was given.

The number follows from the sizes of the data and from what the process may use, never from how busy
the machine is: the bytes of an adapter depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import TypeVar

import torch
from threadpoolctl import LibController, ThreadpoolController

from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.options import TrainingOptions

# A processor takes 15 ms or more for so many, several times as long as a thread waits for its turn
# where as many other processes run as there are processors.
MULTIPLY_ADDS_A_THREAD = 5e8


@contextmanager
def training_threads(
    train: VectorDataset, *, n_judged: int, options: TrainingOptions
) -> Iterator[None]:
    """Train with as many threads as pay, and leave everybody's settings as they were.

    A number that was set lower than that, by ``OMP_NUM_THREADS`` or ``torch.set_num_threads`` or
    their like, is kept. torch has a number for each thread that works with it: only that of
    the calling thread changes. The libraries that numpy multiplies with have one for the process:
    while several trainings run in it, they share the smallest.

    Args:
        train: what to learn from.
        n_judged: how many queries are ranked at once.
        options: how to train.
    """
    n_passages, dim = train.passages.shape
    batch = min(options.batch_size, len(train.queries))
    step = batch * (options.negatives_of(n_passages) or n_passages) * dim
    # numpy also decomposes second moments, but that is made of many small products.
    ranking = n_judged * n_passages * dim
    with _torch_threads(threads_for(step)), _BLAS.at_most(threads_for(ranking)):
        yield


def threads_for(multiply_adds: float) -> int:
    """Return how many threads a product pays for, of those that this process may use."""
    return max(1, min(usable_processors(), int(multiply_adds / MULTIPLY_ADDS_A_THREAD)))


def usable_processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, by its affinity and its container's quota.

    Args:
        root: where the file system begins.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:  # macOS, Windows
        count = os.cpu_count() or 1
    return max(1, int(min([count, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield every bound on processor time, as a number of processors, that a cgroup sets.

    Each group on the way from the root to that of the process may have one. In a container the
    path that the kernel names may not be visible; its own group is the root then.
    """
    mounted = root / "sys/fs/cgroup"
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top = mounted
        elif "cpu" in controllers.split(","):
            top = mounted / "cpu"
        else:
            continue
        own = top / group.strip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(top):
                break
            quota = _quota(folder)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Return the bound that one group sets.

    It is in ``cpu.max`` ("200000 100000", or "max 100000" without a bound) since version 2
    (https://docs.kernel.org/admin-guide/cgroup-v2.html), in two files before
    (https://docs.kernel.org/scheduler/sched-bwc.html; -1 without a bound).
    """
    said = _text(folder / "cpu.max")
    if said is None:
        said = " ".join(_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    numbers = said.split()
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


# Two threads that change torch's number at the same time would each restore what the other set.
_TORCH = Lock()


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    with _TORCH:  # a thread that has not worked with torch begins with what another is setting
        before = torch.get_num_threads()
    if number >= before:
        yield
        return
    _set_in_this_thread(number)
    try:
        yield
    finally:
        _set_in_this_thread(before)


def _set_in_this_thread(number: int) -> None:
    """Set torch's number of threads for the calling thread alone.

    torch sets it for the calling thread and also as what threads begin with that have not worked
    with it yet; the second is put back, by a thread that is gone afterwards.
    """
    with _TORCH:
        others = _in_a_new_thread(torch.get_num_threads)
        torch.set_num_threads(number)
        _in_a_new_thread(partial(torch.set_num_threads, others))


_T = TypeVar("_T")


def _in_a_new_thread(function: Callable[[], _T]) -> _T:
    results: list[_T] = []
    thread = Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def libraries() -> list[LibController]:
    """Return the libraries that numpy and scipy multiply with, if they have a number of their own.

    One that is built on OpenMP has that of the thread that calls it, as torch has.
    """
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in loaded if getattr(library, "threading_layer", "") != "openmp"]


class _ProcessWide:
    """The number of threads of the libraries that numpy and scipy multiply with.

    It is kept here because it is theirs: one for the whole process.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._bounds: list[int] = []
        self._before: list[tuple[LibController, int]] = []

    @contextmanager
    def at_most(self, bound: int) -> Iterator[None]:
        """Keep the number below a bound, and below the bounds of all others who are inside."""
        with self._lock:
            if not self._bounds:
                self._before = [(library, library.num_threads) for library in libraries()]
            self._bounds.append(bound)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._bounds.remove(bound)
                self._set()

    def _set(self) -> None:
        # threadpoolctl lets the thread that sets a number decide until it ends, and others in vain:
        # so one does that ends at once. Who is inside threadpoolctl's own limits keeps those.
        for library, before in self._before:
            number = min([before, *self._bounds])
            _in_a_new_thread(partial(library.set_num_threads, number))


_BLAS = _ProcessWide()
