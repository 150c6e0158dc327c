"""The SQLite file of a store: opening, upgrading, transactions, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidFileError, MissingFileError, UnwritableFileError
from llama_index_adapters.files.cache import cache_directory
from llama_index_adapters.files.forks import ForkLock
from llama_index_adapters.vectors.store_rows import write_checksums

FORMAT_VERSION = 2

# Written into the SQLite header ("LIAE"), so that another program's database is recognised.
_APPLICATION_ID = 0x4C494145
# Of SQLite's own cache; its default of 2 MiB makes a store of a million vectors read pages again.
_CACHE_KIB = 64 * 1024
_FORMAT_1 = (
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
# What format 2 has beyond it. Adding a column touches no row, however large the store.
_FORMAT_2 = (
    "ALTER TABLE model ADD COLUMN former INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE model ADD COLUMN checksum INTEGER",
    "ALTER TABLE vector ADD COLUMN checksum INTEGER",
    "CREATE TABLE unchecked (last_row INTEGER NOT NULL)",
    "INSERT INTO unchecked SELECT coalesce(max(rowid), 0) FROM vector",
    # Identities were made of less; see EmbeddingStore.adopt.
    "UPDATE model SET former = 1",
    """CREATE TABLE claim (
        model INTEGER NOT NULL,
        role TEXT NOT NULL,
        text_sha256 BLOB NOT NULL,
        owner TEXT NOT NULL,
        expires REAL NOT NULL,
        PRIMARY KEY (model, role, text_sha256)
    ) WITHOUT ROWID""",
)
# What SQLite says when it is not the content of the file that is at fault.
_OF_THE_DISK = ("unable to open", "readonly", "disk is full", "disk I/O error", "authorization")


class StoreFile:
    """The file of a store and this process's connection to it.

    Args:
        path: the file, created when it is not there; None for the memory of this process.
        busy_seconds: how long to wait for another process that is writing.

    Raises:
        InvalidFileError: for a file that is no embedding store, is damaged, or was written
            by a newer version.
        UnwritableFileError: when the file cannot be created or written.
    """

    def __init__(self, path: Path | None, busy_seconds: float) -> None:
        self.path = path
        self.busy_seconds = busy_seconds
        self._lock = ForkLock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        self._process = os.getpid()
        with self._lock.held(), self._explained():
            self.connected()

    def __str__(self) -> str:
        """Say where the vectors are."""
        return "the memory of this process" if self.path is None else str(self.path)

    def close(self) -> None:
        """Close the connection; the next transaction opens another one."""
        with self._lock.held():
            # Memory lasts as long as its connection.
            if self._connection is not None and self._process == os.getpid() and self.path:
                self._connection.close()
                self._connection = None

    @contextmanager
    def transaction(
        self, kind: Literal["DEFERRED", "IMMEDIATE"], *, durable: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction, undone by any exception.

        One that is not durable may be lost with the power, and waits for no disk.
        """
        with self._lock.held(), self._explained():
            connection = self.connected()
            if not durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                connection.execute(f"BEGIN {kind}")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not durable:
                    connection.execute("PRAGMA synchronous = FULL")

    def connected(self) -> sqlite3.Connection:
        """Return the connection of this process."""
        forked = self._process != os.getpid()
        if self._connection is not None and forked and self.path is not None:
            # A connection must not cross a fork, not even to be closed: the child would
            # release the parent's locks. So it is kept, untouched, and replaced.
            self._inherited.append(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = self._connect()
            self._process = os.getpid()
        return self._connection

    def damaged(self, how: str) -> InvalidFileError:
        """Return the error for a store that does not say what was written into it."""
        return InvalidFileError(f"The embedding store {self} is damaged: {how}. {_ADVICE}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path or ":memory:",
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # What is damaged is compared and refused; it need not be readable as UTF-8 for that.
            connection.text_factory = _as_text
            connection.execute("BEGIN")
            version = self._version(connection)
            connection.execute("COMMIT")
            if version != FORMAT_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                # Another process may have created the tables while this one waited.
                self._upgrade(connection, self._version(connection))
                connection.execute("COMMIT")
            self._let_readers_go_on(connection)
            # Keys are hashes, so inserts touch pages everywhere: room for those of a large store.
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # Every batch was paid for: it survives a loss of power too.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _let_readers_go_on(self, connection: sqlite3.Connection) -> None:
        """Write ahead, so that readers go on while another process writes.

        Where the file system does not support it SQLite keeps its default, which is slower but
        as safe. The change needs the file alone, and SQLite does not wait for that as it waits
        for any other lock: when several processes open a new store, one of them is refused.
        """
        deadline = time.monotonic() + self.busy_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the file's format version, 0 for a new file; refuse what is not ours.

        Inside a transaction, so that a store that is just being created is seen whole.
        """
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION_ID and (application or version or tables):
            raise InvalidFileError(
                f"{self} is a SQLite database of another program, not an embedding "
                "store. Name another file."
            )
        if version > FORMAT_VERSION:
            raise InvalidFileError(
                f"The embedding store {self} has format version {version}, and this "
                f"version of llama-index-adapters reads up to {FORMAT_VERSION}. Upgrade "
                "llama-index-adapters, or name another file."
            )
        if version < 0:
            raise self.damaged(f"its format version is {version}")
        return version

    def _upgrade(self, connection: sqlite3.Connection, version: int) -> None:
        """Add what a store of this version lacks; 0 stands for a new file."""
        if version == FORMAT_VERSION:
            return
        for statement in (*(_FORMAT_1 if version == 0 else ()), *_FORMAT_2):
            connection.execute(statement)
        write_checksums(connection, self.damaged)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # What SQLite says of a damaged file may hold bytes of it that Python cannot read.
            said = str(error)
            if "locked" in said:
                raise UnwritableFileError(
                    f"The embedding store {self} stayed locked by another process for "
                    f"{self.busy_seconds:g} seconds. Wait until it has finished, or name "
                    "another file."
                ) from error
            if any(words in said for words in _OF_THE_DISK):
                raise UnwritableFileError(
                    f"The embedding store {self} cannot be opened or written ({error}). "
                    "Check that its folder is writable and the disk is not full, or name "
                    "another file."
                ) from error
            raise InvalidFileError(
                f"{self} is not a readable embedding store ({error}). {_ADVICE}"
            ) from error


_ADVICE = (
    "Name another file, or move this one away together with those of the same name "
    "that end in -wal and -shm: a new store is created and the texts are embedded again."
)


def usable_path(path: Path | str | None) -> Path:
    """Return where a store is to be, in the user's cache directory when nothing is named.

    Raises:
        InvalidFileError: for a folder.
        MissingFileError: when the folder of the file does not exist.
        UnwritableFileError: when the cache directory cannot be created.
    """
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


def _as_text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
