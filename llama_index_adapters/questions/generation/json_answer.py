"""Questions in a language model's answer that is JSON, or has JSON in it."""

# ruff: noqa: RUF001  the patterns name the quotes of other scripts

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llama_index_adapters.files.text import lines_of
from llama_index_adapters.questions.generation.question_text import QUESTION_MARKS, asks

_MOST_TRIED = 200  # beginnings of JSON that turn out to be none
_QUESTION_KEY = re.compile(r"(?:.*(?:questions?|quer(?:y|ies))|q)[\s_#-]*\d*", re.IGNORECASE)
_NUMBERED_KEY = re.compile(r"(\D*)\d{1,3}")
_DECODER = json.JSONDecoder(strict=False)  # a text may go on in the next line
# What stands before and behind JSON that is the answer, and not a part of a sentence.
_BEFORE = re.compile(r"(?:\A|\n|[:：`\[{,>])[ \t]*\Z")
_AFTER = re.compile(r"[ \t,;.]*(?:\Z|\n|[`\]}\[{<])")
_LOOK_BACK = 80
# A text in quotes ends with the one before a comma, a bracket or the end: 'What's A?' is one.
_TEXT = r"{opening}((?:\\.|(?!{closing}\s*(?:[,\]}}]|\Z)).)+){closing}"
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
_TEXTS = {
    opening: re.compile(rf"{_TEXT.format(opening=opening, closing=closing)}\s*,?\s*", re.DOTALL)
    for opening, closing in _QUOTES.items()
}
_LIST = re.compile(r"\[\s*(?=[\"'“‘«])")
_FIELD = re.compile(
    rf"""(?P<edge>["'])(?P<key>[^"']{{1,40}})(?P=edge)\s*:\s*
        (?:{"|".join(_TEXT.format(opening=quote, closing=quote) for quote in "'" + '"')})""",
    re.VERBOSE | re.DOTALL,
)


def questions_in_json(text: str) -> list[str]:
    """Return the questions that JSON holds, as they are written there.

    JSON is a list of texts, an object with a key such as ``questions``, a list of such objects or
    one a line; alone, in a fence, or with prose around it. JSON within a sentence counts only when
    all its texts are questions: others may be what is asked about. A list that was cut off gives
    the texts that are complete, and so does one in Python's quotes.
    """
    questions: list[str] = []
    for value, start, end in _values(text):
        found = _questions(value)
        if _stands_alone(text, start, end) or _is_list_in_prose(text, start, end, found):
            questions += found
    for read in (_questions_of_fields, _questions_of_quotes, _questions_without_brackets):
        questions = questions or read(text)
    return questions


def _values(text: str) -> Iterator[tuple[Any, int, int]]:
    """Yield every JSON list and object that is in no other, with its place."""
    end = tried = 0
    for match in re.finditer(r"[\[{]", text):
        if match.start() < end or tried == _MOST_TRIED:
            continue
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            tried += 1
        else:
            yield value, match.start(), end


def _stands_alone(text: str, start: int, end: int) -> bool:
    before = _BEFORE.search(text, max(0, start - _LOOK_BACK), start)
    return before is not None and _AFTER.match(text, end) is not None


def _is_list_in_prose(text: str, start: int, end: int, found: list[str]) -> bool:
    """Return whether questions stand within a line that asks nothing itself."""
    line_end = text.find("\n", end)
    line = (
        text[text.rfind("\n", 0, start) + 1 : start]
        + text[end : None if line_end < 0 else line_end]
    )
    return all(map(asks, found)) and not any(mark in line for mark in QUESTION_MARKS)


def _questions(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return _questions_of_object(value)
    return _questions_of_list(value) if isinstance(value, list) else []


def _questions_of_list(parts: list[Any]) -> list[str]:
    if not all(isinstance(part, str | Mapping | list) for part in parts):
        return []  # numbers: what a question is about
    questions: list[str] = []
    for part in parts:
        if isinstance(part, str):
            questions.append(part)
        elif isinstance(part, list):
            questions += _asking(part)  # beside its answer
        elif len(part) == 1 and isinstance(only := next(iter(part.values())), str):
            questions.append(only)  # whatever its key
        else:
            questions += _questions_of_object(part)
    return questions


def _questions_of_object(content: Mapping[str, Any]) -> list[str]:
    named = [value for key, value in content.items() if _QUESTION_KEY.fullmatch(key.strip())]
    if any(isinstance(value, str | Mapping | list) for value in named):
        return [text for value in named for text in _questions(value)]
    values = list(content.values())
    numbered = [_NUMBERED_KEY.fullmatch(key.strip()) for key in content]
    words = {match[1] for match in numbered if match}
    if len(words) == 1 and all(numbered) and all(isinstance(value, str) for value in values):
        return values
    asking = _asking(values)
    if asking and len(asking) in (1, len(values)):  # beside its answer, or one of each kind
        return asking
    inner = [_questions(part) for part in values if isinstance(part, Mapping | list)]
    holding = [texts for texts in inner if any(map(asks, texts))] or inner
    return holding[0] if len(holding) == 1 else []


def _asking(parts: Iterable[Any]) -> list[str]:
    return [part for part in parts if isinstance(part, str) and asks(part)]


def _questions_of_fields(text: str) -> list[str]:
    """Return the questions of objects that JSON's reader refuses: cut off, or in other quotes."""
    return [
        _unescaped(match[3] or match[4])
        for match in _FIELD.finditer(text)
        if _QUESTION_KEY.fullmatch(match["key"])
    ]


def _questions_of_quotes(text: str) -> list[str]:
    """Return the texts of a list that JSON's reader refuses."""
    for match in _LIST.finditer(text):
        position, texts = match.end(), []
        while (opening := text[position : position + 1]) in _TEXTS:
            quoted = _TEXTS[opening].match(text, position)
            if quoted is None:
                break  # cut off
            texts.append(_unescaped(quoted[1]))
            position = quoted.end()
        if text[position : position + 1] == "]":
            position += 1
        elif position < len(text) and text[position] not in _TEXTS:
            continue
        else:
            position = len(text)
        if texts and _stands_alone(text, match.start(), position):
            return texts
    return []


def _questions_without_brackets(text: str) -> list[str]:
    """Return the texts of a line that holds several in quotes and nothing besides."""
    for line in lines_of(text):
        try:
            texts = json.loads(f"[{line.strip().rstrip(',')}]") if line.count('"') >= 4 else []
        except (ValueError, RecursionError):
            continue
        if len(texts) > 1 and all(isinstance(part, str) for part in texts):
            return _questions_of_list(texts)
    return []


def _unescaped(text: str) -> str:
    quoted = re.sub(r'(?<!\\)"', r'\\"', text.replace("\\'", "'"))
    try:
        value: str = json.loads(f'"{quoted}"', strict=False)
    except ValueError:
        return text
    return value
