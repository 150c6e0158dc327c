"""The seeds that callers give, and the random numbers that follow from them."""

from __future__ import annotations

import numpy as np

from llama_index_adapters.errors import InvalidOptionError


def require_seed(seed: int) -> None:
    """Refuse what is no seed, before anything is paid for.

    Raises:
        InvalidOptionError: when it is not a whole number from 0 to 2**63 - 1.
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
