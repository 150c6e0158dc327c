"""Stand-ins that count what is asked of them."""

from __future__ import annotations
