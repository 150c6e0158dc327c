"""What people read, in pieces that a test can check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
NEEDS_KEY = "<!-- needs a key -->"
DOCUMENTS = tuple(
    sorted(
        path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    )
)


class Block(NamedTuple):
    """A fenced block of code: its language, its first line in the file and what is before it."""

    language: str
    line: int
    code: str
    needs_key: bool


def tokens(name: str) -> list[Token]:
    return MarkdownIt().enable("table").parse((ROOT / name).read_text(encoding="utf-8"))


def blocks(name: str, *languages: str) -> list[Block]:
    parsed = tokens(name)
    before = [None, *parsed]
    return [
        Block(
            token.info,
            token.map[0] + 2,
            token.content,
            previous is not None and previous.content.strip() == NEEDS_KEY,
        )
        for previous, token in zip(before, parsed, strict=False)
        if token.type == "fence" and token.info in languages
    ]


def run(name: str, block: Block, session: dict[str, object]) -> None:
    """Run a block of Python as if it was pasted into a session."""
    # Empty lines first, so that a traceback has the document's line numbers.
    code = "\n" * (block.line - 1) + block.code
    exec(compile(code, ROOT / name, "exec"), session)


def inline(name: str) -> Iterator[Token]:
    for token in tokens(name):
        yield from token.children or ()


def links(name: str) -> list[str]:
    return [token.attrs["href"] for token in inline(name) if token.type == "link_open"]


def code_spans(name: str) -> list[str]:
    return [token.content for token in inline(name) if token.type == "code_inline"]


def anchors(name: str) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    parsed = tokens(name)
    headings = (
        parsed[position + 1].content
        for position, token in enumerate(parsed)
        if token.type == "heading_open"
    )
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def table_below(name: str, heading: str) -> dict[str, list[str]]:
    """The first table below a heading: bare first cell to the other cells of its row."""
    parsed = tokens(name)
    start = next(
        position
        for position, token in enumerate(parsed)
        if token.type == "inline"
        and parsed[position - 1].type == "heading_open"
        and token.content == heading
    )
    rows: list[list[str]] = []
    for position, token in enumerate(parsed[start:], start):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and parsed[position - 1].type in ("td_open", "th_open"):
            rows[-1].append(token.content)
        elif token.type == "table_close":
            break
    return {first.strip("`"): rest for first, *rest in rows[1:]}
