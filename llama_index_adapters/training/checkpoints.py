"""Adapters that are saved while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.checks import as_path, require_whole
from llama_index_adapters.errors import InvalidOptionError

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter


@dataclass(frozen=True)
class Checkpoints:
    """Saves an adapter after some of its training steps.

    Attributes:
        directory: receives a directory ``step_N`` for each.
        every: steps between two.
    """

    directory: Path
    every: int

    def __call__(self, adapter: BaseAdapter, step: int) -> None:
        """Save the adapter when the step is one of them."""
        if self.due(step):
            self.save(adapter, step)

    def due(self, step: int) -> bool:
        """Return whether a step is one of them."""
        return step % self.every == 0

    def save(self, adapter: BaseAdapter, step: int) -> None:
        """Save the adapter."""
        save_adapter(self.directory / f"step_{step}", adapter)


def checkpoints_in(
    path: str | PathLike[str] | None, every: int, *, beside: Path
) -> Checkpoints | None:
    """Return where an engine saves checkpoints; None without a path.

    Args:
        path: the engine's ``model_checkpoint_path``.
        every: its ``checkpoint_save_steps``.
        beside: the directory of the finished adapter, which saving replaces.

    Raises:
        InvalidOptionError: for a path or a number that cannot be used, or when the directory of
            a step holds other files.
        InvalidFileError: when the path is a file.
        UnwritableFileError: when nothing can be written there.
    """
    require_whole(every, "checkpoint_save_steps")
    if path is None:
        return None
    directory = as_path(path, "model_checkpoint_path")
    if directory.resolve().is_relative_to(beside.resolve()):
        raise InvalidOptionError(
            f"model_checkpoint_path {directory} lies in model_output_path {beside}, which is "
            "replaced when the adapter is saved. Give checkpoints a directory of their own."
        )
    # Found now, and not after the first hundred steps.
    require_own_directory(directory / f"step_{every}")
    for saved in directory.glob("step_*"):
        require_own_directory(saved)
    return Checkpoints(directory, every)
