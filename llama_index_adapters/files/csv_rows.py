"""The rows of CSV text, as RFC 4180 defines them.

``csv.reader`` gives the same rows, which a test compares. It is not used because it refuses a
field of more than 131,072 characters, in whatever column, unless ``csv.field_size_limit`` is raised
for everything in the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_PLAIN = re.compile(r"[^,\r\n]*")
# No other character ends a row: U+2028, NEL and form feed are part of a text.
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


class CsvError(ValueError):
    """Text that is not CSV.

    Attributes:
        line: the line of the row at fault, from 1 on.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: the line that it begins in, from 1 on.
        fields: what it holds.
    """

    line: int
    fields: list[str]


def csv_rows(text: str) -> Iterator[Row]:
    """Yield the rows of CSV text; empty lines are passed over.

    Fields are divided by commas. A field in quotes may hold commas, line breaks and doubled
    quotes; a quote inside another field stands for itself.

    Raises:
        CsvError: for a quote that is never closed, or text between a closing quote and the comma.
    """
    position, line = 0, 1
    while position < len(text):
        fields: list[str] = []
        first_line = line
        while True:
            quoted = text.startswith('"', position)
            match = (_QUOTED if quoted else _PLAIN).match(text, position)
            if match is None:
                raise CsvError("a quote is never closed", first_line)
            position = match.end()
            if quoted:
                line += len(_LINE_BREAK.findall(match[1]))
                fields.append(match[1].replace('""', '"'))
            else:
                fields.append(match[0])
            if not text.startswith(",", position):
                break
            position += 1
        end = _LINE_BREAK.match(text, position)
        if end is not None:
            position = end.end()
            line += 1
        elif position < len(text):
            raise CsvError("text follows a closing quote", first_line)
        if fields != [""] or quoted:
            yield Row(first_line, fields)
