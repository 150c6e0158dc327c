"""Vectors that were computed once, in one SQLite file.

The file holds hashes and numbers: the sha256 of a model's identity settings, the sha256 of
each text, its role and its vector. It holds no text, no key and no path.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import EmbeddingError
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.store_file import StoreFile, usable_path
from llama_index_adapters.vectors.store_rows import (
    CHUNK,
    ModelRow,
    Role,
    add_model,
    find_model,
    last_unchecked_row,
    select,
    stored_digests,
    text_digest,
    write_model,
)

DEFAULT_BUSY_SECONDS = 60.0

ClaimState = Literal["claimed", "stored", "held"]

_FLOAT = np.dtype("<f4")
# A claim that ends later than this was not written by this package.
_LONGEST_CLAIM = 24 * 60 * 60.0


class StoredVectors(NamedTuple):
    """What :meth:`EmbeddingStore.get` found, one row per text asked for.

    Attributes:
        vectors: ``(n_texts, dim)`` float32; a row that was not found is zero. ``dim`` is 0
            while the model has no vector at all.
        found: ``(n_texts,)`` bool.
    """

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]


class EmbeddingStore:
    """A persistent map from (model, role, text) to a float32 vector.

    Threads may share one store; processes of one machine may share its file. A batch is written
    in one transaction, so a process that is killed leaves either the whole batch or nothing of it.
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
        self._file = StoreFile(usable_path(path), busy_seconds)

    @classmethod
    def in_memory(cls) -> EmbeddingStore:
        """Return a store that lasts as long as this object."""
        store = cls.__new__(cls)
        store._file = StoreFile(None, DEFAULT_BUSY_SECONDS)
        return store

    @property
    def path(self) -> Path | None:
        """The file; None for a store in memory."""
        return self._file.path

    def __str__(self) -> str:
        """Say where the vectors are."""
        return str(self._file)

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
        self._file.close()

    def get(self, model_id: str, role: Role, texts: Sequence[str]) -> StoredVectors:
        """Return the stored vectors of some texts; a text may occur more than once.

        Raises:
            InvalidFileError: when one of them is not what was stored.
        """
        damaged = self._file.damaged
        with self._file.transaction("DEFERRED") as connection:
            model = find_model(connection, model_id, damaged)
            dimension = (model and model.dimension) or 0
            vectors = np.zeros((len(texts), dimension), dtype=np.float32)
            found = np.zeros(len(texts), dtype=np.bool_)
            if model is None or not dimension:
                return StoredVectors(vectors, found)
            role = model.stored_role(role)
            unchecked = last_unchecked_row(connection, damaged)
            for start in range(0, len(texts), CHUNK):
                digests = [text_digest(text) for text in texts[start : start + CHUNK]]
                columns = "text_sha256, vector, checksum, rowid"
                rows = {
                    row[0]: row
                    for row in select(connection, "vector", columns, model, role, digests)
                }
                for place, digest in enumerate(digests, start):
                    if digest in rows:
                        _, vector, checksum, row = rows[digest]
                        if type(vector) is not bytes:
                            raise damaged("a vector is not a row of bytes")
                        if len(vector) != dimension * _FLOAT.itemsize:
                            raise damaged(
                                f"a vector has {len(vector)} bytes, expected "
                                f"{dimension * _FLOAT.itemsize}"
                            )
                        if checksum is None and row <= unchecked:
                            pass  # written by format 1
                        elif checksum != model.vector_checksum(role, digest, vector):
                            raise damaged("a vector does not fit its checksum")
                        vectors[place] = np.frombuffer(vector, dtype=_FLOAT)
                        found[place] = True
        stored = vectors[found]
        if not (np.isfinite(stored).all() and stored.any(axis=1).all()):
            raise damaged("a vector is zero or not finite")
        return StoredVectors(vectors, found)

    def missing(self, model_id: str, role: Role, texts: Sequence[str]) -> list[str]:
        """Return the texts without a vector, each once, in the order given."""
        unique = list(dict.fromkeys(texts))
        with self._file.transaction("DEFERRED") as connection:
            model = find_model(connection, model_id, self._file.damaged)
            if model is None:
                return unique
            role = model.stored_role(role)
            absent: list[str] = []
            for start in range(0, len(unique), CHUNK):
                chunk = unique[start : start + CHUNK]
                digests = [text_digest(text) for text in chunk]
                stored = stored_digests(connection, model, role, digests)
                absent += [
                    text
                    for text, digest in zip(chunk, digests, strict=True)
                    if digest not in stored
                ]
        return absent

    def put(self, model_id: str, role: Role, texts: Sequence[str], vectors: object) -> int:
        """Store one vector per text in one transaction; what is there already stays.

        Claims of these texts end with it.

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
        with self._file.transaction("IMMEDIATE") as connection:
            model = add_model(connection, model_id, self._file.damaged)
            if model.dimension is None:
                model = model._replace(dimension=dimension)
                write_model(connection, model)
            elif model.dimension != dimension:
                raise EmbeddingError(
                    f"The model returned vectors of {dimension} dimensions, but those stored "
                    f"for it in {self} have {model.dimension}."
                )
            role = model.stored_role(role)
            digests = [text_digest(text) for text in texts]
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO vector (model, role, text_sha256, vector, checksum) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    (model.row, role, digest, vector, model.vector_checksum(role, digest, vector))
                    for digest, vector in zip(
                        digests, (row.tobytes() for row in matrix), strict=True
                    )
                ),
            )
            added = connection.total_changes - before
            connection.executemany(
                "DELETE FROM claim WHERE model = ? AND role = ? AND text_sha256 = ?",
                ((model.row, role, digest) for digest in digests),
            )
        return added

    def symmetric(self, model_id: str) -> bool | None:
        """Return whether the model embeds queries as it embeds passages; None: not known."""
        with self._file.transaction("DEFERRED") as connection:
            model = find_model(connection, model_id, self._file.damaged)
        return model and model.symmetric

    def set_symmetric(self, model_id: str, symmetric: bool) -> bool:
        """Store that verdict, unless there is one already, and return the one that holds.

        From then on a symmetric model's vectors are shared by both roles.
        """
        with self._file.transaction("IMMEDIATE") as connection:
            model = add_model(connection, model_id, self._file.damaged)
            if model.symmetric is not None:
                return model.symmetric
            if symmetric:
                self._share_roles(connection, model)
            write_model(connection, model._replace(symmetric=symmetric))
        return symmetric

    def _share_roles(self, connection: sqlite3.Connection, model: ModelRow) -> None:
        """Keep one row for each text, under the role that a symmetric model has."""
        queries = connection.execute(
            "SELECT rowid, text_sha256, vector, checksum FROM vector "
            "WHERE model = ? AND role = 'query'",
            (model.row,),
        ).fetchall()
        for row, digest, vector, checksum in queries:
            if type(digest) is not bytes or type(vector) is not bytes:
                raise self._file.damaged("a vector is not a row of bytes")
            if checksum is not None:
                if checksum != model.vector_checksum("query", digest, vector):
                    raise self._file.damaged("a vector does not fit its checksum")
                checksum = model.vector_checksum("passage", digest, vector)
            connection.execute(
                "UPDATE OR IGNORE vector SET role = 'passage', checksum = ? WHERE rowid = ?",
                (checksum, row),
            )
        for table in ("vector", "claim"):
            connection.execute(
                f"DELETE FROM {table} WHERE model = ? AND role = 'query'", (model.row,)
            )

    def adopt(self, model_id: str, former_id: str) -> None:
        """Let a model have the vectors that a store of format 1 holds under its former identity.

        Format 1 knew a model by less, so only whoever is sure that nothing of what is known now
        tells it from another model may call this. A model that has a row here keeps its own.
        """
        if self._adoptable(model_id, former_id, "DEFERRED") is None:
            return
        self._adoptable(model_id, former_id, "IMMEDIATE")

    def _adoptable(
        self, model_id: str, former_id: str, kind: Literal["DEFERRED", "IMMEDIATE"]
    ) -> ModelRow | None:
        """Return the row that can be adopted; in a writing transaction it is."""
        with self._file.transaction(kind) as connection:
            if find_model(connection, model_id, self._file.damaged) is not None:
                return None
            model = find_model(connection, former_id, self._file.damaged)
            if model is None or not model.former:
                return None
            if kind == "IMMEDIATE":
                write_model(connection, model._replace(identity=model_id, former=False))
        return model

    def claim(
        self,
        model_id: str,
        role: Role,
        texts: Sequence[str],
        owner: str,
        seconds: float,
        *,
        is_gone: Callable[[str], bool] = lambda owner: False,
    ) -> list[ClaimState]:
        """Claim texts that are about to be asked for, see :class:`~.claims.Claims`.

        Args:
            model_id: the model.
            role: how the texts are going to be embedded.
            texts: each different from the others.
            owner: who claims.
            seconds: how long the claim holds unless it is renewed.
            is_gone: whether another owner is known to have ended; its claims are free.

        Returns:
            For each text whether it is claimed now, has a vector, or is held by another owner.
        """
        now = time.time()
        free: dict[object, bool] = {owner: True}
        states: list[ClaimState] = []
        with self._file.transaction("IMMEDIATE", durable=False) as connection:
            model = add_model(connection, model_id, self._file.damaged)
            role = model.stored_role(role)
            for start in range(0, len(texts), CHUNK):
                digests = [text_digest(text) for text in texts[start : start + CHUNK]]
                known: dict[bytes, ClaimState] = {}
                columns = "text_sha256, owner, expires"
                for digest, other, expires in select(
                    connection, "claim", columns, model, role, digests
                ):
                    if other not in free:
                        free[other] = not isinstance(other, str) or is_gone(other)
                    holds = isinstance(expires, float) and now < expires < now + _LONGEST_CLAIM
                    if holds and not free[other]:
                        known[digest] = "held"
                known |= dict.fromkeys(stored_digests(connection, model, role, digests), "stored")
                states += [known.get(digest, "claimed") for digest in digests]
                connection.executemany(
                    "INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)",
                    (
                        (model.row, role, digest, owner, now + seconds)
                        for digest in digests
                        if digest not in known
                    ),
                )
        return states

    def renew(self, owner: str, seconds: float) -> None:
        """Let everything that an owner has claimed hold for so long from now on."""
        with self._file.transaction("IMMEDIATE", durable=False) as connection:
            connection.execute(
                "UPDATE claim SET expires = ? WHERE owner = ?", (time.time() + seconds, owner)
            )

    def release(self, owner: str) -> None:
        """Give up everything that an owner has claimed."""
        with self._file.transaction("IMMEDIATE", durable=False) as connection:
            connection.execute("DELETE FROM claim WHERE owner = ?", (owner,))

    def count(self, model_id: str | None = None) -> int:
        """Return how many vectors are stored, in all or of one model."""
        with self._file.transaction("DEFERRED") as connection:
            row = connection.execute(
                "SELECT count(*) FROM vector JOIN model ON model.id = vector.model "
                "WHERE ? IS NULL OR identity = ?",
                (model_id, model_id),
            ).fetchone()
        return int(row[0])
