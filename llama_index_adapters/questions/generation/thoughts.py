"""What a language model thought before it answered, cut off."""

# ruff: noqa: RUF001  the patterns name the signs of other scripts

from __future__ import annotations

import re
from typing import NamedTuple

# A name may be of any language: <思考>.
_NAME = r"[^\W\d_][\w:-]{0,30}"
_TAG = re.compile(
    rf"""
      < (?P<xml_end> / )? (?P<xml> {_NAME} ) \s* (?: \s [^<>\n]{{0,80}} )? >
    | \[ (?P<square_end> / )? (?P<square> {_NAME} ) \]
    | ◁ (?P<diamond_end> / )? (?P<diamond> {_NAME} ) ▷
    | <\| (?: begin | (?P<pipe_end> end ) ) _of_ (?P<pipe> {_NAME} ) \|>
    """,
    re.VERBOSE,
)
_THOUGHT = re.compile(
    r"think|thought|reason|reflect|analy|scratch|ponder|monolog|deliberat|cot$|plan$", re.IGNORECASE
)
# Elements whose text is, or may be, the answer.
_ANSWER = re.compile(
    r"""
    (?: .* [_:-] )?
    (?: q | questions? | quer(?:y|ies) | answers? | output | response | result | final | solution
      | items? | list | ol | ul | li | p | div | span | b | i | u | em | strong | code | pre
      | body | html | table | tbody | thead | tr | t[dh] | br | hr | json | xml | data | root )
    [_-]? \d*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SENTENCE_END = frozenset(".!?:…。！？：>*")
# Of a tag that is spoken about: in quotes, or before the rest of a sentence.
_QUOTES = frozenset("`'\"“‘«")
_REST_OF_SENTENCE = frozenset("?,.;:!)`'\"”’»？，。；：！）")
# The channels of OpenAI's harmony format; the second form is what is left where special tokens
# are not decoded.
_FINAL = re.compile(r"<\|channel\|>final[^<]*<\|message\|>|assistantfinal")
_CHANNELS = re.compile(r"<\|channel\|>|\Aanalysis(?=[A-Z])")
_SPECIAL = re.compile(
    r"<[|｜](?:start|im_start)[|｜]>(?:assistant)?|<[|｜][^<>\s]{1,30}[|｜]>|</?s>"
)


class _Tag(NamedTuple):
    name: str
    closes: bool
    start: int
    end: int


def without_thoughts(answer: str) -> str:
    """Return a language model's answer without what it thought before.

    Cut are elements named after thinking, and elements of any other name that stand on lines of
    their own, unless the name is that of an answer (``<questions>``, ``<li>``). An end without a
    beginning cuts all that is before it, a beginning without an end all that follows: such thoughts
    were cut off by the limit of tokens, and nothing was answered. A tag within a sentence is
    something that is asked about and stays.
    """
    text = answer
    if _CHANNELS.search(text):
        final = [match.end() for match in _FINAL.finditer(text)]
        text = text[final[-1] :] if final else ""
    parts: list[str] = []
    position = 0
    opened: _Tag | None = None
    for tag in map(_tag, _TAG.finditer(text)):
        if not _delimits_thoughts(text, tag):
            continue
        if opened is None and tag.closes:
            parts, position = [], tag.end
        elif opened is None:
            parts.append(text[position : tag.start])
            opened = tag
        elif tag.closes and tag.name == opened.name:
            position, opened = tag.end, None
    if opened is None:
        parts.append(text[position:])
    return _SPECIAL.sub("", "\n".join(parts))


def holds_answer(name: str) -> bool:
    """Return whether an element of that name may hold the answer, or a part of it."""
    return _ANSWER.fullmatch(name) is not None


def _tag(match: re.Match[str]) -> _Tag:
    found = match.groupdict()
    kind = next(kind for kind in ("xml", "square", "diamond", "pipe") if found[kind])
    return _Tag(found[kind].lower(), bool(found[f"{kind}_end"]), match.start(), match.end())


def _delimits_thoughts(text: str, tag: _Tag) -> bool:
    before = text[text.rfind("\n", 0, tag.start) + 1 : tag.start].strip(" \t")
    line_end = text.find("\n", tag.end)
    after = text[tag.end : len(text) if line_end < 0 else line_end].strip(" \t")
    if not _THOUGHT.search(tag.name):
        # Of another name: only what has lines of its own.
        is_element = text[tag.start] == "<" and not holds_answer(tag.name)
        return is_element and not before and not after
    ends_sentence = not before or before[-1] in _SENTENCE_END
    if not tag.closes:
        return ends_sentence
    if ends_sentence or not after:
        return True
    is_spoken_about = after[0] in _REST_OF_SENTENCE or before[-1] in _QUOTES
    if text[tag.end].isspace():
        is_spoken_about = is_spoken_about or after[0].islower()
    return not is_spoken_about
