"""The exceptions of this package: one small tree.

Every error inherits :class:`AdaptersError` and the built-in exception a caller
would expect, so ``except ValueError`` around a call keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdaptersError(Exception):
    """Root of every error this package raises on purpose."""


class InvalidDatasetError(AdaptersError, ValueError):
    """Queries, corpus and relevance do not fit together."""


class InvalidFileError(AdaptersError, ValueError):
    """A file exists but does not hold what it should."""


class MissingFileError(AdaptersError, FileNotFoundError):
    """A file or directory that was named is not there."""


class UnwritableFileError(AdaptersError, OSError):
    """A file or directory cannot be opened or written where it should be."""


class InvalidOptionError(AdaptersError, ValueError):
    """An option has a value that cannot be used."""


class UnknownOptionError(AdaptersError, TypeError):
    """An option has a name that does not exist."""


class InvalidVectorsError(AdaptersError, ValueError):
    """Arrays of vectors with a wrong shape, type or value."""


class UnsupportedStoreError(AdaptersError, TypeError):
    """A vector store cannot be read."""


class EmbeddingError(AdaptersError, RuntimeError):
    """The embedding model failed, or returned something that is not vectors."""


class GenerationError(AdaptersError, RuntimeError):
    """The language model failed while it generated questions."""


class InvalidAdapterError(AdaptersError, ValueError):
    """An adapter, or a directory that should hold one, is not usable."""


class ModelMismatchError(AdaptersError, ValueError):
    """The base model is not the one an adapter was trained on."""


class TrainingError(AdaptersError, RuntimeError):
    """Training went wrong in a way that no better data would mend."""


class NotTrainedError(AdaptersError, RuntimeError):
    """A result was asked for before training."""


class MissingExtraError(AdaptersError, ImportError):
    """An optional dependency is not installed."""


def closest_name(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
