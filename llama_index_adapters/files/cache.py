"""Where this package keeps what must not be paid for twice."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """Return the user's cache directory of this package (it may not exist yet)."""
    return Path(platformdirs.user_cache_dir("llama-index-adapters", appauthor=False))
