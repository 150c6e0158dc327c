"""The checks of what callers give: each stands here once, with the words of its refusal."""

from __future__ import annotations

import math
from collections.abc import Collection
from os import PathLike, fsencode, fspath
from pathlib import Path

import numpy as np

from llama_index_adapters.errors import InvalidOptionError, closest_name


def as_path(path: str | PathLike[str], name: str) -> Path:
    """Return a path that a caller gave, with ``~`` and ``~user`` at its start expanded.

    Args:
        path: what was given.
        name: the argument it was given as.

    Raises:
        InvalidOptionError: when it is neither text nor a path, when no file can have that name,
            or when there is no home directory for its ``~``.
    """
    if not isinstance(path, (str, PathLike)) or not isinstance(fspath(path), str):
        raise InvalidOptionError(f"{name} is {path!r}; give a path, as str or pathlib.Path.")
    text = fspath(path)
    try:
        nameable = b"\0" not in fsencode(text)
    except UnicodeEncodeError:
        nameable = False
    if not nameable:
        raise InvalidOptionError(
            f"{name} is {text!r}; no file can have a name with NUL or half a character in it. "
            "Give a path without."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidOptionError(
            f"{name} is {text!r}, but there is no home directory for its {Path(text).parts[0]}. "
            "Give the path in full."
        ) from error


def require_whole(
    value: object, name: str, *, least: int = 1, most: int | None = None, otherwise: str = ""
) -> None:
    """Refuse what is no whole number of Python's, or lies outside the bounds.

    Args:
        value: what was given.
        name: the argument it was given as.
        least: the smallest that can be used.
        most: the largest; no bound when left out.
        otherwise: what else can be given, for the message: ``", or leave it out"``.

    Raises:
        InvalidOptionError: for anything else, True and False among it.
    """
    if type(value) is not int or value < least or (most is not None and value > most):
        bounds = f"from {least:,} on" if most is None else f"from {least:,} to {most:,}"
        raise InvalidOptionError(f"{name} is {value!r}; give a whole number {bounds}{otherwise}.")


def require_number(
    value: object,
    name: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse what is no finite number, or lies outside the bounds that are named.

    Args:
        value: what was given.
        name: the argument it was given as.
        least: the smallest that can be used; either this or ``above`` has to be named.
        above: what it has to be larger than.
        most: the largest that can be used.
        below: what it has to be smaller than.

    Raises:
        InvalidOptionError: for anything else, True and False among it.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -math.inf < value < math.inf
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    ):
        return
    low = f"above {above:g}" if least is None else f"from {least:g}{' on' if most is None else ''}"
    high = f" to {most:g}" if most is not None else f" and below {below:g}" if below else ""
    number = "number" if high else "finite number"
    raise InvalidOptionError(f"{name} is {value!r}; give a {number} {low}{high}.")


def require_one_of(value: object, name: str, known: Collection[str]) -> None:
    """Refuse what is none of some words.

    Raises:
        InvalidOptionError: for anything else, with the closest of the words.
    """
    if not isinstance(value, str):
        raise InvalidOptionError(f"{name} is {value!r}; use one of {', '.join(known)}.")
    if value not in known:
        raise InvalidOptionError(
            f"{name} is {value!r}; use one of {', '.join(known)}.{closest_name(value, known)}"
        )


def require_seed(seed: int) -> None:
    """Refuse what is no seed, before anything is paid for.

    Raises:
        InvalidOptionError: when it is not a whole number, numpy's included, from 0 to 2**63 - 1.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**63:
        raise InvalidOptionError(f"seed is {seed!r}; give a whole number from 0 to 2**63 - 1.")


def seeded_generator(seed: int) -> np.random.Generator:
    """Return the random numbers of a seed.

    Raises:
        InvalidOptionError: when it is not a whole number from 0 to 2**63 - 1.
    """
    require_seed(seed)
    return np.random.default_rng(seed)
