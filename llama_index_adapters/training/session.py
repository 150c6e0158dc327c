"""What all parts of a training share: who trains together, who watches, who keeps checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.training.workers import ALONE, Workers

AfterStep = Callable[[BaseAdapter, int], None]


@dataclass(frozen=True)
class TrainingSession:
    """Created once where a training begins, and handed down as it is.

    Attributes:
        workers: those that train together, each of which makes the same calls with the same data.
        show_progress: show bars.
        after_step: called with the adapter and the number of every step taken.
    """

    workers: Workers = ALONE
    show_progress: bool = False
    after_step: AfterStep | None = None

    def trial(self) -> TrainingSession:
        """Return the same session for what is only tried: nobody watches, nothing is saved."""
        return replace(self, show_progress=False, after_step=None)

    def without_progress(self) -> TrainingSession:
        """Return the same session without bars."""
        return replace(self, show_progress=False)


UNWATCHED = TrainingSession()
