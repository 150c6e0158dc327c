"""Who asks for which text, so that processes that share a store pay for each of them once.

Before a batch is asked for, its texts are claimed in the store: one that another run holds is left
to it, one that has a vector by now is not asked for. The vectors and the end of their claims are
one transaction. A run that ends gives up what it holds.

A run that died cannot. On its own machine that is known at once, because it held the lock of a
hidden file beside the store (see :mod:`llama_index_adapters.files.atomic`). Elsewhere its claims
end by themselves: :data:`CLAIM_SECONDS` after they were last renewed, which is longer than the
longest wait for a retry. A run renews its claims while it is alive, however long a request takes.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from llama_index_adapters.errors import AdaptersError
from llama_index_adapters.files.temporary import is_abandoned, remove_leftovers, temporary_file
from llama_index_adapters.services.errors import LONGEST_WAIT
from llama_index_adapters.vectors.store import EmbeddingStore
from llama_index_adapters.vectors.store_rows import Role

logger = logging.getLogger(__name__)

CLAIM_SECONDS = LONGEST_WAIT + 60.0
"""Seconds that a claim holds after it was made or renewed."""

_RENEW_SECONDS = CLAIM_SECONDS / 6
_LONGEST_PAUSE = 1.0
# So many of the texts that others hold are looked at again in one transaction.
_LOOKED_AT = 900


class Claims:
    """What one run has claimed of a model's texts in one role; a context manager.

    Args:
        store: an open store.
        model_id: the model's identity.
        role: how the texts are going to be embedded.
    """

    def __init__(self, store: EmbeddingStore, model_id: str, role: Role) -> None:
        self._store = store
        self._model_id = model_id
        self._role = role
        self._held: list[str] = []
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True, name="claims")
        self._opened = contextlib.ExitStack()
        self._owner = secrets.token_hex(8)

    def __enter__(self) -> Claims:
        """Begin to claim."""
        if self._store.path is not None:
            # Where no file can be made, others have to wait for the end of the claims.
            with contextlib.suppress(OSError):
                self._owner = self._opened.enter_context(temporary_file(self._store.path)).name
        self._renewing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give up what is still claimed."""
        self._ended.set()
        try:
            # When it cannot be written, the claims end by themselves.
            with contextlib.suppress(AdaptersError):
                self._store.release(self._owner)
        finally:
            self._opened.close()

    def take(self, texts: Sequence[str]) -> list[str]:
        """Return those of the texts that this run has to ask for; it has claimed them.

        The others have a vector by now, or are noted as being asked for by another run.
        """
        if not texts:
            return []
        states = self._store.claim(
            self._model_id,
            self._role,
            texts,
            self._owner,
            CLAIM_SECONDS,
            is_gone=self._is_gone,
        )
        self._held += [text for text, state in zip(texts, states, strict=True) if state == "held"]
        return [text for text, state in zip(texts, states, strict=True) if state == "claimed"]

    def left_by_others(self) -> list[str]:
        """Wait for what other runs hold; return the texts that they gave up, claimed by this one.

        Returns:
            An empty list when all of them have vectors.
        """
        if self._held:
            logger.info("Waiting for %d texts that another run asks for.", len(self._held))
        pause = 0.02
        while self._held:
            looked_at, self._held = self._held[:_LOOKED_AT], self._held[_LOOKED_AT:]
            taken = self.take(looked_at)
            if taken:
                return taken
            if self._held:
                self._ended.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        return []

    def _is_gone(self, owner: str) -> bool:
        path = self._store.path
        return path is not None and owner.startswith(".") and is_abandoned(path, owner)

    def _renew(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            with contextlib.suppress(AdaptersError):
                self._store.renew(self._owner, CLAIM_SECONDS)


def remove_dead_owners(store: EmbeddingStore) -> None:
    """Remove the files that killed runs have left beside a store."""
    if isinstance(store.path, Path):
        remove_leftovers(store.path)
