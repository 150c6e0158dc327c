"""Every wrong thing a user could hand in, the error it gives, and that nothing is left behind.

A row (see ``rows.py``) is the entry point, what is wrong, the call, the error's class and a part
of its text. The call gets a directory of its own; whatever it adds there or changes, the store of
vectors apart, counts as left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.bad_inputs import adapters, commands, datasets, indexes, training, vectors
from tests.bad_inputs.rows import BadInput

PARTS = (datasets, vectors, training, adapters, indexes, commands)


def table() -> Iterator[BadInput]:
    """Yield every row."""
    for part in PARTS:
        yield from part.table()


def tried() -> dict[str, Any]:
    """Try the whole table; return how many inputs and how many did not hold."""
    rows, entries, failed = list(table()), set(), 0
    for row in rows:
        entries.add(row.entry)
        try:
            row.check()
        except Exception as error:
            failed += 1
            print(row.entry, row.wrong, repr(error))
    return {"inputs": len(rows), "entry_points": len(entries), "failed": failed}
