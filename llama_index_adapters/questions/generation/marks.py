"""What marks a line of text as an item of a list: bullets, numbers, labels, quotes."""

# ruff: noqa: RUF001  the patterns name the dashes, quotes and full-width signs of other scripts

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from llama_index_adapters.questions.generation.question_text import QUOTES, plain, unquoted

_DECORATION = re.compile(r"#{1,6}\s+|>\s*")
_BULLET = re.compile(r"[-*+–—]\s+|[•‣▪●◦·○■□▶►→➤➢✓✔☐※★☆❓❔]\s*")
# A number counts as numbering only with the punctuation of a list behind it, so that a question
# may begin with "2021 revenue", "3.5 inch" or "1:1 meetings".
_LETTER = r"[a-zA-Z]|[ivxIVX]{1,4}|[一二三四五六七八九十]{1,3}"
_NUMBER = re.compile(
    rf"""
      [(（] \s* (?: \d{{1,3}} | {_LETTER} ) \.? \s* [)）] \s* [.:、：]? \s*
    | (?: \d{{1,3}} | {_LETTER} ) [)）] \s*
    | [\[【〔] \s* \d{{1,3}} \s* [\]】〕] \s* [.:：]? \s*
    | \d{{1,3}} \\? \. (?: [)\-] \s* | \s+ | (?= [^\W\d_] ) (?! [a-z] ) | (?= ¿ ) )
    | \d{{1,3}} [、．] \s* | \d{{1,3}} (?: : \s+ | ： \s* )
    | \d{{1,3}} \s* [-–—] \s+ (?= [^\W\d] ) (?! [a-z] ) | \d{{1,3}} \s+ [-–—] \s+ (?= \D )
    | [\#№] \s? \d{{1,3}} (?: [.:)] \s* | \s+ (?! [a-z] ) )
    | \d \ufe0f? \u20e3 \s*
    | [①-⒛⓪-⓿❶-➓㉑-㉟㊱-㊿] \s* [.、:：]? \s*
    | (?: [a-z] | [ivx]{{1,4}} ) \. \s+ (?= [^\W\d_] | ¿ ) (?! [a-z] )
    | [一二三四五六七八九十]{{1,3}} [、．：:] \s*
    """,
    re.VERBOSE,
)
# Only where the lines go through the alphabet: "A. Smith" and "I. Newton" begin questions too.
_CAPITAL = re.compile(r"(?P<letter>[A-H]|[IVX]{1,4})\.\s+")
_CAPITALS = "capitals"
# A label is a word or a few with a number and the punctuation of a label: "Frage 1:".
_WORD = r"[^\W\d_][^\s\d:：.!?？()（）]{0,20}"
_LABEL = re.compile(
    rf"""
    (?P<word> {_WORD} (?: [ _-] {_WORD} ){{0,2}} ) \s* (?: \# | № | n [.º°]+ )? \s*
    [(（]? (?P<number> \d{{1,3}} | [一二三四五六七八九十]{{1,3}} ) \s* [^\W\d_]? \s* [)）]?
    (?P<end> \s* (?: [:：)）、] | [.．] (?! \d ) | \s [-–—] (?= \s ) ) | $ ) \s*
    """,
    re.VERBOSE,
)
_QUESTION_WORD = re.compile(r"(?:\w+[ _-]){0,2}(?:q|questions?|quer(?:y|ies))", re.IGNORECASE)
# Without a number a label has no shape of its own: "Python: how do I sort?" has none.
_NAMED = re.compile(
    r"""
    (?: (?: [^\W\d_]+ \s ){0,2} (?: question | query ) (?: \s (?: one | two | three | four ) )?
      | q | frage | pregunta | pergunta | domanda | vraag | fråga | spørgsmål | pytanie | otázka
      | soru | pertanyaan | câu \s hỏi | вопрос | питання | ερώτηση | 问题 | 問題 | 问 | 問 | 質問
      | 질문 | سؤال | السؤال | प्रश्न | คำถาม ) \s* [:：] \s*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NUMERALS = "一二三四五六七八九十"


class Marked(NamedTuple):
    """A line without its marks.

    Attributes:
        kind: what marks it as an item, the same for items of one list; "" for none.
        text: the rest, plain; "" for a label alone.
    """

    kind: str
    text: str


def labels_of(lines: Iterable[str]) -> frozenset[str]:
    """Return the words of the labels that number several lines from 1 on."""
    numbers: dict[str, list[int]] = {}
    letters: list[str] = []
    for line in lines:
        text = _after(_BULLET, _undecorated(plain(line)))
        label, capital = _LABEL.match(text), _CAPITAL.match(text)
        if label:
            numbers.setdefault(label["word"].casefold(), []).append(_value(label["number"]))
        if capital:
            letters.append(capital["letter"])
    words = {
        word
        for word, found in numbers.items()
        if len(found) > 1 and found == list(range(1, len(found) + 1))
    }
    return frozenset(words | ({_CAPITALS} if letters[:2] in (["A", "B"], ["I", "II"]) else set()))


def without_marks(line: str, *, limit: int, labels: frozenset[str] = frozenset()) -> Marked:
    """Take the marks off a line.

    Args:
        line: the line.
        limit: how many questions were asked for: a higher number is no label's, as in "Windows 10:
            how do I reset it?", but for words that mean a question.
        labels: words that are labels here, from :func:`labels_of`.
    """
    text = _undecorated(plain(line))
    bare = unquoted(text)
    kind = "quotes" if bare != text and text[0] in QUOTES else ""
    for name, pattern in _MARKS.items():
        match = pattern.match(bare)
        if match and _is_mark(pattern, match, limit, labels):
            kind = kind or f"{name} {_style(match)}"
            bare = unquoted(bare[match.end() :].strip())
    return Marked(kind, bare)


_MARKS = {
    "bullet": _BULLET,
    "number": _NUMBER,
    "capital": _CAPITAL,
    "label": _LABEL,
    "name": _NAMED,
}


def _style(match: re.Match[str]) -> str:
    """Return what the marks of a list have in common: the word of a label, or punctuation."""
    if match.re is _LABEL:
        return match["word"].casefold()
    return match[0].casefold() if match.re is _NAMED else re.sub(r"[\w\s]", "", match[0])


def _is_mark(
    pattern: re.Pattern[str], match: re.Match[str], limit: int, labels: frozenset[str]
) -> bool:
    if pattern is _CAPITAL:
        return _CAPITALS in labels
    return pattern is not _LABEL or _is_label(match, limit, labels)


def _is_label(match: re.Match[str], limit: int, labels: frozenset[str]) -> bool:
    if match["word"].casefold() in labels or _QUESTION_WORD.fullmatch(match["word"]):
        return True
    # What begins in lower case goes on with the sentence: "Formula 1: who won in 2020?"
    goes_on = match.string[match.end() : match.end() + 1].islower()
    return bool(match["end"].strip()) and 1 <= _value(match["number"]) <= limit and not goes_on


def _value(number: str) -> int:
    """Return a number of digits, of any script, or of Chinese numerals up to ten."""
    return int(number) if number.isdecimal() else _NUMERALS.find(number) + 1


def _undecorated(text: str) -> str:
    return _after(_DECORATION, text)


def _after(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.match(text)
    return text[match.end() :] if match else text
