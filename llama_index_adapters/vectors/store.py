"""Vectors that were computed once, in one SQLite file.

The file holds hashes and numbers: the sha256 of a model's identity settings, the sha256 of
each text, its role and its vector. It holds no text, no key and no path.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.checks import as_path, require_one_of
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidFileError,
    MissingFileError,
    UnwritableFileError,
)
from llama_index_adapters.files.cache import cache_directory
from llama_index_adapters.vectors.checks import checked_vectors

Role = Literal["query", "passage"]
ROLES: tuple[Role, ...] = get_args(Role)

FORMAT_VERSION = 1
DEFAULT_BUSY_SECONDS = 60.0

# Written into the SQLite header ("LIAE"), so that another program's database is recognised.
_APPLICATION_ID = 0x4C494145
# Of SQLite's own cache; its default of 2 MiB makes a store of a million vectors read pages again.
_CACHE_KIB = 64 * 1024
_FLOAT = np.dtype("<f4")
# Below SQLITE_MAX_VARIABLE_NUMBER of every SQLite that Python 3.10 can be built with (999).
_CHUNK = 900
_SCHEMA = (
    """CREATE TABLE model (
        id INTEGER PRIMARY KEY,
        identity TEXT NOT NULL UNIQUE,
        dimension INTEGER,
        symmetric INTEGER
    )""",
    """CREATE TABLE vector (
        model INTEGER NOT NULL REFERENCES model (id),
        role TEXT NOT NULL,
        text_sha256 BLOB NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (model, role, text_sha256)
    )""",
)


class StoredVectors(NamedTuple):
    """What :meth:`EmbeddingStore.get` found, one row per text asked for.

    Attributes:
        vectors: ``(n_texts, dim)`` float32; a row that was not found is zero. ``dim`` is 0
            while the model has no vector at all.
        found: ``(n_texts,)`` bool.
    """

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]


class _Model(NamedTuple):
    """A row of the table of models."""

    row: int
    dimension: int | None
    symmetric: bool | None


class EmbeddingStore:
    """A persistent map from (model, role, text) to a float32 vector.

    Threads may share one store; processes may share its file. A batch is written in one
    transaction, so a process that is killed leaves either the whole batch or nothing of it.
    A vector that is stored is never replaced, so two processes that embed the same text
    agree afterwards on the one that came first.

    Args:
        path: the SQLite file, created when it is not there. By default
            ``embeddings.sqlite3`` in the user's cache directory, shared by all runs.
        busy_seconds: how long to wait for another process that is writing.

    Raises:
        InvalidFileError: for a file that is no embedding store, is damaged, or was written
            by a newer version.
        MissingFileError: when the folder of an explicit ``path`` does not exist.
        UnwritableFileError: when the file cannot be created or written.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        busy_seconds: float = DEFAULT_BUSY_SECONDS,
    ) -> None:
        self.path = _usable_path(path)
        self.busy_seconds = busy_seconds
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        self._process = os.getpid()
        with self._lock, self._explained():
            self._connected()

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Using the store again opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
                self._connection = None

    def get(self, model_id: str, role: Role, texts: Sequence[str]) -> StoredVectors:
        """Return the stored vectors of some texts; a text may occur more than once."""
        with self._transaction("DEFERRED") as connection:
            model = _find_model(connection, model_id)
            dimension = (model and model.dimension) or 0
            vectors = np.zeros((len(texts), dimension), dtype=np.float32)
            found = np.zeros(len(texts), dtype=np.bool_)
            if model is None or not dimension:
                return StoredVectors(vectors, found)
            for start in range(0, len(texts), _CHUNK):
                digests = [_digest(text) for text in texts[start : start + _CHUNK]]
                blobs = dict(_select(connection, "text_sha256, vector", model, role, digests))
                for row, digest in enumerate(digests, start):
                    blob = blobs.get(digest)
                    if blob is None:
                        continue
                    if len(blob) != dimension * _FLOAT.itemsize:
                        raise InvalidFileError(
                            f"The embedding store {self.path} is damaged: a vector has "
                            f"{len(blob)} bytes, expected {dimension * _FLOAT.itemsize}. "
                            f"{self._advice()}"
                        )
                    vectors[row] = np.frombuffer(blob, dtype=_FLOAT)
                    found[row] = True
        return StoredVectors(vectors, found)

    def missing(self, model_id: str, role: Role, texts: Sequence[str]) -> list[str]:
        """Return the texts without a vector, each once, in the order given."""
        unique = list(dict.fromkeys(texts))
        with self._transaction("DEFERRED") as connection:
            model = _find_model(connection, model_id)
            if model is None:
                return unique
            absent: list[str] = []
            for start in range(0, len(unique), _CHUNK):
                chunk = unique[start : start + _CHUNK]
                digests = [_digest(text) for text in chunk]
                stored = {
                    row[0] for row in _select(connection, "text_sha256", model, role, digests)
                }
                absent += [
                    text
                    for text, digest in zip(chunk, digests, strict=True)
                    if digest not in stored
                ]
        return absent

    def put(self, model_id: str, role: Role, texts: Sequence[str], vectors: object) -> int:
        """Store one vector per text in one transaction; what is there already stays.

        Args:
            model_id: see :attr:`llama_index_adapters.vectors.identity.IdentifiedModel.identity`.
            role: how the texts were embedded.
            texts: ``n`` texts.
            vectors: ``(n, dim)``, anything NumPy can read as numbers.

        Returns:
            How many vectors were new.

        Raises:
            EmbeddingError: for a wrong number of vectors, NaN, infinity, a zero vector, or
                another dimension than the model's vectors have had so far. Nothing of the
                batch is stored then.
        """
        matrix = checked_vectors(vectors, len(texts)).astype(_FLOAT, copy=False)
        if not len(texts):
            return 0
        dimension = matrix.shape[1]
        with self._transaction("IMMEDIATE") as connection:
            model = _add_model(connection, model_id)
            if model.dimension is None:
                connection.execute(
                    "UPDATE model SET dimension = ? WHERE id = ?", (dimension, model.row)
                )
            elif model.dimension != dimension:
                raise EmbeddingError(
                    f"The model returned vectors of {dimension} dimensions, but those stored "
                    f"for it in {self.path} have {model.dimension}."
                )
            before = connection.total_changes
            role = _stored_role(model, role)
            connection.executemany(
                "INSERT INTO vector (model, role, text_sha256, vector) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (
                    (model.row, role, _digest(text), row.tobytes())
                    for text, row in zip(texts, matrix, strict=True)
                ),
            )
            return connection.total_changes - before

    def symmetric(self, model_id: str) -> bool | None:
        """Return whether the model embeds queries as it embeds passages; None: not known."""
        with self._transaction("DEFERRED") as connection:
            model = _find_model(connection, model_id)
        return model and model.symmetric

    def set_symmetric(self, model_id: str, symmetric: bool) -> bool:
        """Store that verdict, unless there is one already, and return the one that holds.

        From then on a symmetric model's vectors are shared by both roles.
        """
        with self._transaction("IMMEDIATE") as connection:
            model = _add_model(connection, model_id)
            if model.symmetric is not None:
                return model.symmetric
            connection.execute(
                "UPDATE model SET symmetric = ? WHERE id = ?", (int(symmetric), model.row)
            )
            if symmetric:
                # One row per text from here on, under the role that _stored_role names.
                connection.execute(
                    "UPDATE OR IGNORE vector SET role = 'passage' WHERE model = ?", (model.row,)
                )
                connection.execute(
                    "DELETE FROM vector WHERE model = ? AND role = 'query'", (model.row,)
                )
        return symmetric

    def count(self, model_id: str | None = None) -> int:
        """Return how many vectors are stored, in all or of one model."""
        with self._transaction("DEFERRED") as connection:
            row = connection.execute(
                "SELECT count(*) FROM vector JOIN model ON model.id = vector.model "
                "WHERE ? IS NULL OR identity = ?",
                (model_id, model_id),
            ).fetchone()
        return int(row[0])

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction, undone by any exception."""
        with self._lock, self._explained():
            connection = self._connected()
            connection.execute(f"BEGIN {kind}")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._process != os.getpid():
            # A connection must not cross a fork, not even to be closed: the child would
            # release the parent's locks. So it is kept, untouched, and replaced.
            self._inherited.append(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = self._connect()
            self._process = os.getpid()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self.busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("BEGIN")
            version = self._version(connection)
            connection.execute("COMMIT")
            if version != FORMAT_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                # Another process may have created the tables while this one waited.
                if self._version(connection) != FORMAT_VERSION:
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
                connection.execute("COMMIT")
            # Readers go on while another process writes. Where the file system does not
            # support it SQLite keeps its default, which is slower but as safe.
            connection.execute("PRAGMA journal_mode = WAL")
            # Keys are hashes, so inserts touch pages everywhere: room for those of a large store.
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # Every batch was paid for: it survives a loss of power too.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the file's format version, 0 for a new file; refuse what is not ours.

        Inside a transaction, so that a store that is just being created is seen whole.
        """
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION_ID and (application or version or tables):
            raise InvalidFileError(
                f"{self.path} is a SQLite database of another program, not an embedding "
                "store. Name another file."
            )
        if version > FORMAT_VERSION:
            raise InvalidFileError(
                f"The embedding store {self.path} has format version {version}, and this "
                f"version of llama-index-adapters reads up to {FORMAT_VERSION}. Upgrade "
                "llama-index-adapters, or name another file."
            )
        return version

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UnwritableFileError(
                    f"The embedding store {self.path} stayed locked by another process for "
                    f"{self.busy_seconds:g} seconds. Wait until it has finished, or name "
                    "another file."
                ) from error
            raise UnwritableFileError(
                f"The embedding store {self.path} cannot be opened or written ({error}). "
                "Check that its folder is writable and the disk is not full, or name "
                "another file."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InvalidFileError(
                f"{self.path} is not a readable embedding store ({error}). {self._advice()}"
            ) from error

    def _advice(self) -> str:
        return (
            "Name another file, or move this one away together with those of the same name "
            "that end in -wal and -shm: a new store is created and the texts are embedded again."
        )


def _usable_path(path: Path | str | None) -> Path:
    if path is None:
        folder = cache_directory()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableFileError(
                f"The cache directory {folder} cannot be created ({error.strerror}). Name a "
                "file for the embedding store instead."
            ) from error
        return folder / "embeddings.sqlite3"
    usable = as_path(path, "store").absolute()
    if usable.is_dir():
        raise InvalidFileError(f"The embedding store {usable} is a folder; name a file in it.")
    if not usable.parent.is_dir():
        raise MissingFileError(
            f"The folder {usable.parent} of the embedding store does not exist. Create it, or "
            "name a file in another folder."
        )
    return usable


def _digest(text: str) -> bytes:
    # surrogatepass: a text with a lone surrogate cannot be encoded otherwise.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _find_model(connection: sqlite3.Connection, model_id: str) -> _Model | None:
    found = connection.execute(
        "SELECT id, dimension, symmetric FROM model WHERE identity = ?", (model_id,)
    ).fetchone()
    if found is None:
        return None
    row, dimension, symmetric = found
    return _Model(row, dimension, None if symmetric is None else bool(symmetric))


def _add_model(connection: sqlite3.Connection, model_id: str) -> _Model:
    connection.execute(
        "INSERT INTO model (identity) VALUES (?) ON CONFLICT DO NOTHING", (model_id,)
    )
    model = _find_model(connection, model_id)
    assert model is not None
    return model


def _stored_role(model: _Model, role: Role) -> Role:
    """Return the role under which a model's vectors lie: a symmetric model has only one."""
    require_one_of(role, "role", ROLES)
    return "passage" if model.symmetric else role


def _select(
    connection: sqlite3.Connection, columns: str, model: _Model, role: Role, digests: list[bytes]
) -> sqlite3.Cursor:
    marks = ",".join("?" * len(digests))
    return connection.execute(
        f"SELECT {columns} FROM vector WHERE model = ? AND role = ? AND text_sha256 IN ({marks})",
        (model.row, _stored_role(model, role), *digests),
    )
