"""Small tables for notebooks: plain HTML without style or script, everything in it escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def facts(title: str, values: Mapping[str, object]) -> str:
    """Return a title with a table of names and values.

    Args:
        title: what is shown.
        values: its values by name; whole numbers get thousands separators.
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in values.items()
    )
    return f"<p><b>{escape(title)}</b></p><table><tbody>{rows}</tbody></table>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *notes: str) -> str:
    """Return a table with its heading, and notes below it, one a line."""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    below = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{below}"


def cut(text: str, length: int = 160) -> str:
    """Return the beginning of a text, in one line."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= length else one_line[: length - 1].rstrip() + "…"


def paragraphs(text: str) -> str:
    """Return lines of text as paragraphs."""
    return "".join(f"<p>{escape(line)}</p>" for line in text.splitlines() if line.strip())


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(str(value))
