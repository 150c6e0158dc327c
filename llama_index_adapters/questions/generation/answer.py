"""The questions in a language model's answer, whatever form the model chose."""

# ruff: noqa: RUF001  the patterns name the signs of other scripts

from __future__ import annotations

import re
from typing import NamedTuple

from llama_index_adapters.files.text import is_encodable, lines_of
from llama_index_adapters.questions.generation.json_answer import questions_in_json
from llama_index_adapters.questions.generation.marks import labels_of, without_marks
from llama_index_adapters.questions.generation.question_text import (
    QUESTION_MARKS,
    asks,
    is_remark,
    question_of,
    refuses,
    states,
    without_annotation,
)
from llama_index_adapters.questions.generation.thoughts import holds_answer, without_thoughts

_MARK = f"[{re.escape(QUESTION_MARKS)}]"
_FENCE = re.compile(r"\s*(?:```|~~~)[^`]*")
_BREAK = re.compile(rf"<br\s*/?>|(?<={_MARK})\\n", re.IGNORECASE)
# An element that has its lines to itself, or is beside others.
_ELEMENT = re.compile(
    r"""
    (?: ^ | (?<= > ) ) [ \t]* < (?P<name> [a-z][\w-]* ) > (?P<text> (?: (?! < (?P=name) > ) . )*? )
    </ (?P=name) > (?= [ \t]* (?: $ | < ) )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_ITEM_NAME = re.compile(r"(?:.*[_-])?(?:q|question|query|li|item)[_-]?\d*", re.IGNORECASE)
_MOST_NESTED = 4
# The marks of several items in one line: "1. What is A? 2. What is B?"
_MARK_IN_LINE = re.compile(
    rf"""
      (?: ^ | (?<= [.!。！;；,，:：] ) | (?<= {_MARK} ) ) \s*
        (?: [^\W\d_]{{1,15}} \s? )? (\d{{1,2}}) [.)）、:：] (?! \d )
    | (?: ^ | (?<= \s ) | (?<= {_MARK} ) )
        (?: [(（] (\d{{1,2}}) [)）] | (\d{{1,2}}) [)）] | ([①-⑳]) )
    """,
    re.VERBOSE,
)
# Between two questions in one line; the second begins like a sentence.
_BETWEEN = re.compile(
    rf"(?: (?<= {_MARK} ) (?: \s* [|/;,、•·–—-] \s* | \s+ ) | (?<= ？ ) | (?<= [α-ωά-ώ]; ) \s+ )"
    r"(?= \S ) (?! [a-zα-ωά-ώ)\]\"'”’»」』）] )",
    re.VERBOSE,
)
_JOIN = re.compile(rf"(?<={_MARK})[\s,;]*(?:\w{{1,3}}[\s,;]*)?$")
_CONJUNCTION = re.compile(r"(?:and|or|but|if|then|also)\b", re.IGNORECASE)
_INTRODUCTION = re.compile(r"[^?？]*(?::\s+|：\s*)(?=\S)")
_LONGEST_QUERY = 16, 120  # words and characters of a query of keywords without any mark
_NOT_IN_A_QUERY = re.compile(r"[,;.!?]\s|[，、；。！|]|^[\[{<]")
_CELLS = re.compile(r"\|(.+)\|")


def parse_questions(answer: str, limit: int) -> list[str]:
    """Return the questions in a language model's answer.

    Thoughts are cut off first. JSON is taken as it is meant; otherwise the lines are read:

    - Where lines are marked as items (numbers, bullets, labels, quotes) and some of them ask, these
      are the questions. Others of the same list are queries of keywords, unless they end like a
      statement. Lines without a mark are introductions, whatever their language.
    - Where no item asks, the lines that end like a question are taken; several on one line are
      parted when there are fewer lines than questions were asked for.
    - Where nothing asks, the items of one list are queries of keywords, and so are bare lines, if
      they are no more than were asked for and none of them is a sentence.

    Numbering, bullets, labels, bold type and quotes are taken off. A refusal is no question. What
    can be read in two ways is left out rather than guessed. Repetitions (whatever their case) are
    dropped.

    Args:
        answer: what the model wrote.
        limit: how many questions were asked for, and are returned at most.
    """
    text = without_thoughts(answer)
    found = [
        question
        for written in questions_in_json(text)
        for question in (
            _questions_in_lines(written, limit) if "\n" in written else [_undressed(written, limit)]
        )
    ]
    if not found:
        found = _questions_in_lines(_without_elements(text), limit)
    questions: dict[str, str] = {}
    for question in found:
        if question:
            questions.setdefault(question.casefold(), question)
    return list(questions.values())[:limit]


class _Line(NamedTuple):
    """A line of an answer.

    Attributes:
        kind: what marks it as an item, with its list and its indentation; "" for nothing.
        text: the rest of it.
    """

    kind: str
    text: str


def _undressed(question: str, limit: int) -> str:
    return question_of(without_marks(question, limit=limit).text)


def _questions_in_lines(text: str, limit: int) -> list[str]:
    lines = _lines(text, limit)
    items = [_Line(line.kind, question_of(line.text)) for line in lines if line.kind]
    kinds = {line.kind for line in items if asks(line.text)}
    unmarked = [line.text for line in lines if not line.kind and not is_remark(line.text)]
    asking = [line for line in unmarked if asks(line) or _BETWEEN.search(line)]
    if _is_refused(lines):
        return []
    if kinds:
        return [line.text for line in items if line.kind in kinds or asks(line.text)]
    if asking:
        # A question before a list may be the introduction of it, or what the list answers.
        is_ambiguous = len(asking) == 1 and len(items) > 1
        return [] if is_ambiguous else _parted(asking, limit)
    if items:
        is_list = len({line.kind for line in items}) == 1
        return [line.text for line in items] if is_list and all(line.text for line in items) else []
    queries = [line for line in unmarked if not line.endswith((":", "："))]
    return queries if len(queries) <= limit and all(map(_is_query, queries)) else []


def _is_refused(lines: list[_Line]) -> bool:
    """Return whether a refusal stands before the first question; what follows is asked back."""
    for line in lines:
        if not line.kind and refuses(line.text):
            return True
        if line.kind or asks(line.text):
            return False
    return False


def _lines(text: str, limit: int) -> list[_Line]:
    """Return the lines that hold something, without their marks."""
    written = [part for line in lines_of(_BREAK.sub("\n", text)) for part in _at_marks(line)]
    labels = labels_of(written)
    lines: list[_Line] = []
    label = ""  # in a line of its own: it belongs to the next
    is_open = False
    lists = 0  # a line without a mark ends a list
    for line in written:
        content = line.strip()
        indentation = len(line) - len(line.lstrip())
        kind, bare = without_marks(line, limit=limit, labels=labels)
        bare = without_annotation(bare)
        cells = _CELLS.fullmatch(content)
        if _FENCE.fullmatch(line):
            continue
        if cells:
            lines += [_Line("cell", cell) for cell in _asking_cell(cells[1])]
        elif kind and not bare:
            label = kind
        elif not kind and not label and is_open and (indentation or content[:1].islower()):
            lines[-1] = _Line(lines[-1].kind, f"{lines[-1].text} {bare}")
        elif bare:
            kind, label = kind or label, ""
            lists += not kind
            lines.append(_Line(kind and f"{lists} {indentation // 2} {kind}", bare))
        # An item that does not end goes on in the next line.
        last = lines[-1] if lines and content else _Line("", "")
        is_open = bool(last.kind) and not asks(last.text) and not states(last.text)
    return lines


def _at_marks(line: str) -> list[str]:
    """Part a line that holds several numbered items."""
    marks = list(_MARK_IN_LINE.finditer(line))
    numbers = [_ordinal(next(filter(None, mark.groups()))) for mark in marks]
    if len(marks) < 2 or numbers != list(range(1, len(marks) + 1)):
        return [line]
    before = line[: marks[0].start()].strip()
    if before and not before.endswith((":", "：")):
        return [line]
    places = [mark.start() for mark in marks]
    parts = [
        line[start:end].strip() for start, end in zip(places, [*places[1:], None], strict=True)
    ]
    return [before, *parts] if before else parts


def _ordinal(number: str) -> int:
    return int(number) if number.isdecimal() else ord(number) - ord("①") + 1


def _asking_cell(row: str) -> list[str]:
    """Return the cell of a table's row that asks, if it is one."""
    asking = [cell.strip() for cell in row.split("|") if asks(cell.strip())]
    return asking if len(asking) == 1 else []


def _parted(asking: list[str], limit: int) -> list[str]:
    """Return the questions of lines, parted where lines are fewer than what was asked for."""
    parted = [_parts(line) for line in asking] if len(asking) < limit else [[q] for q in asking]
    return [question_of(part) for parts in parted for part in parts if asks(part)]


def _parts(line: str) -> list[str]:
    parts = [part for part in _BETWEEN.split(line) if part]
    asking = [part for part in parts if asks(part)]
    fragments = any(part.isascii() and " " not in part for part in asking)
    if len(asking) < 2 or fragments or any(map(_CONJUNCTION.match, parts[1:])):
        return [line]
    introduction = _INTRODUCTION.match(asking[0])
    return [asking[0][introduction.end() :] if introduction else asking[0], *asking[1:]]


def _is_query(text: str) -> bool:
    """Return whether an unmarked line may be a query of keywords."""
    words, characters = _LONGEST_QUERY
    return (
        len(text) <= characters
        and len(text.split()) <= words
        and not states(text)
        and not _NOT_IN_A_QUERY.search(text)
        and is_encodable(text)
    )


def _without_elements(text: str) -> str:
    """Replace elements by their text, an answer beside questions by nothing."""
    for _ in range(_MOST_NESTED):
        names = {match["name"].lower() for match in _ELEMENT.finditer(text)}
        has_questions = any(map(_ITEM_NAME.fullmatch, names))

        def content(match: re.Match[str], has_questions: bool = has_questions) -> str:
            name = match["name"]
            if _ITEM_NAME.fullmatch(name):
                return f"\n- {match['text'].strip()}\n"
            is_answer = name.lower().startswith(("answer", "a_", "a-"))
            keeps = holds_answer(name) and not (is_answer and has_questions)
            return f"\n{match['text'] if keeps else ''}\n"

        text = _ELEMENT.sub(content, text)
    return text
