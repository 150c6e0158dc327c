"""The page of what was tried is what the last soak run wrote, and nothing was lost in it."""

from __future__ import annotations

import json

from tests.endurance.robustness_table import PAGE, page
from tests.endurance.soak import FIGURES

LOST = (
    *("vectors stored wrong", "stored vectors asked for again", "questions lost"),
    *("answered nodes asked again", "paid_twice", "unreadable", "different", "left_behind"),
    *("failed", "findings"),
)


def lost(figures: object) -> dict[str, int]:
    """Return everything that counts a loss, by where it stands."""
    found: dict[str, int] = {}
    if isinstance(figures, dict):
        for name, value in figures.items():
            if name in LOST:
                found[name] = value
            found |= {f"{name} {inner}": count for inner, count in lost(value).items()}
    return found


def test_the_page_is_made_of_the_figures() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(FIGURES.read_text(encoding="utf-8")))


def test_nothing_was_lost() -> None:
    counted = lost(json.loads(FIGURES.read_text(encoding="utf-8")))
    assert len(counted) > 10
    assert not any(counted.values()), counted
