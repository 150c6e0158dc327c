"""The rows of a store's tables, each with a checksum over what it says and belongs to.

SQLite notices a damaged page only where its own structure is hurt. A row that is damaged elsewhere,
or that a damaged index leads to, is found by its checksum.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from llama_index_adapters.errors import InvalidFileError, InvalidOptionError

Role = Literal["query", "passage"]
ROLES: tuple[Role, ...] = get_args(Role)

CHUNK = 900
"""Texts in one statement: below SQLITE_MAX_VARIABLE_NUMBER of every SQLite (999)."""

Damaged = Callable[[str], InvalidFileError]
"""Makes the error for a damaged store out of what is wrong with it."""

_COLUMNS = "id, identity, dimension, symmetric, former, checksum"


class ModelRow(NamedTuple):
    """A row of the table of models.

    Attributes:
        row: its number.
        identity: see :attr:`llama_index_adapters.vectors.identity.IdentifiedModel.identity`.
        dimension: of its vectors; None while there are none.
        symmetric: whether both roles have the same vectors; None while it is not known.
        former: whether the identity is one that format 1 gave.
    """

    row: int
    identity: str
    dimension: int | None
    symmetric: bool | None
    former: bool

    def checksum(self) -> int:
        """Return the checksum of this row."""
        return zlib.crc32(repr(tuple(self)).encode())

    def vector_checksum(self, role: Role, digest: bytes, vector: bytes) -> int:
        """Return the checksum of a vector of this model."""
        return zlib.crc32(vector, zlib.crc32(repr((self.row, role, digest)).encode()))

    def stored_role(self, role: Role) -> Role:
        """Return the role under which the vectors lie: a symmetric model has only one.

        Raises:
            InvalidOptionError: for another role.
        """
        if role not in ROLES:
            raise InvalidOptionError(f"role is {role!r}; use one of {', '.join(ROLES)}.")
        return "passage" if self.symmetric else role


def find_model(connection: sqlite3.Connection, identity: str, damaged: Damaged) -> ModelRow | None:
    """Return a model's row, None when there is none.

    Raises:
        InvalidFileError: when it is damaged.
    """
    columns = connection.execute(
        f"SELECT {_COLUMNS} FROM model WHERE identity = ?", (identity,)
    ).fetchone()
    if columns is None:
        return None
    model = _model(columns, damaged)
    if columns[-1] != model.checksum():
        raise damaged("what it says of a model does not fit its checksum")
    return model


def add_model(connection: sqlite3.Connection, identity: str, damaged: Damaged) -> ModelRow:
    """Return a model's row, which is added when there is none."""
    model = find_model(connection, identity, damaged)
    if model is not None:
        return model
    added = connection.execute("INSERT INTO model (identity) VALUES (?)", (identity,))
    assert added.lastrowid is not None
    model = ModelRow(added.lastrowid, identity, None, None, former=False)
    write_model(connection, model)
    return model


def write_model(connection: sqlite3.Connection, model: ModelRow) -> None:
    """Write what has changed of a model, and its checksum."""
    connection.execute(
        "UPDATE model SET identity = ?, dimension = ?, symmetric = ?, former = ?, checksum = ? "
        "WHERE id = ?",
        (*model[1:], model.checksum(), model.row),
    )


def write_checksums(connection: sqlite3.Connection, damaged: Damaged) -> None:
    """Give the models of a store of format 1 their checksums.

    Raises:
        InvalidFileError: when one of them cannot be read.
    """
    for columns in connection.execute(f"SELECT {_COLUMNS} FROM model").fetchall():
        write_model(connection, _model(columns, damaged))


def last_unchecked_row(connection: sqlite3.Connection, damaged: Damaged) -> int:
    """Return the number of the last row that format 1 wrote, without a checksum; 0: there is none.

    Raises:
        InvalidFileError: when that cannot be read.
    """
    found = connection.execute("SELECT last_row FROM unchecked").fetchone()
    if found is None or not isinstance(found[0], int):
        raise damaged("it does not say which rows have a checksum")
    return found[0]


def text_digest(text: str) -> bytes:
    """Return what a text is known by."""
    # surrogatepass: a text with a lone surrogate cannot be encoded otherwise.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def select(
    connection: sqlite3.Connection,
    table: Literal["vector", "claim"],
    columns: str,
    model: ModelRow,
    role: Role,
    digests: Sequence[bytes],
) -> sqlite3.Cursor:
    """Read some columns of the rows of at most :data:`CHUNK` texts."""
    marks = ",".join("?" * len(digests))
    return connection.execute(
        f"SELECT {columns} FROM {table} WHERE model = ? AND role = ? AND text_sha256 IN ({marks})",
        (model.row, role, *digests),
    )


def stored_digests(
    connection: sqlite3.Connection, model: ModelRow, role: Role, digests: Sequence[bytes]
) -> set[bytes]:
    """Return those of at most :data:`CHUNK` texts that have a vector."""
    return {row[0] for row in select(connection, "vector", "text_sha256", model, role, digests)}


def _model(columns: Sequence[object], damaged: Damaged) -> ModelRow:
    row, identity, dimension, symmetric, former, _ = columns
    if (
        not isinstance(row, int)
        or not isinstance(identity, str)
        or not (dimension is None or (isinstance(dimension, int) and dimension > 0))
        or symmetric not in (None, 0, 1)
        or former not in (0, 1)
    ):
        raise damaged("what it says of a model cannot be read")
    verdict = None if symmetric is None else bool(symmetric)
    return ModelRow(row, identity, dimension, verdict, bool(former))
