"""What an engine does when it is asked for fewer dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llama_index_adapters.checks import require_whole
from llama_index_adapters.engines.data import TrainingVectors
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index_adapters.training.result import TrainingResult
    from llama_index_adapters.training.session import TrainingSession


def require_target_dim(target_dim: object, beside: Mapping[str, bool]) -> None:
    """Refuse a ``target_dim`` that is no dimension, or does not go with what is given beside it.

    Args:
        target_dim: as it was given; None for no fewer dimensions.
        beside: what maps to fewer dimensions do not use, and whether it was given.

    Raises:
        InvalidOptionError: saying what to leave out.
    """
    if target_dim is None:
        return
    require_whole(target_dim, "target_dim")
    for name, given in beside.items():
        if given:
            raise InvalidOptionError(
                f"target_dim is given, and so is {name}, which maps to fewer dimensions do not "
                "use. Leave one of them out."
            )


def fewer_dimensions(
    target_dim: int, vectors: TrainingVectors, options: TrainingOptions, session: TrainingSession
) -> TrainingResult:
    """Learn maps of both sides; :mod:`llama_index_adapters.training.search.dimensions` says how."""
    from llama_index_adapters.training.search.dimensions import reduce_dimensions

    train, validation = vectors.train, vectors.validation
    return reduce_dimensions(
        train, validation, target_dim, options, **vectors.unlabelled, session=session
    )
