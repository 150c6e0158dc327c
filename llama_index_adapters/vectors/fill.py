"""What a store lacks is embedded: the texts that are missing, in the way that their role needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.services.progress import progress_bar
from llama_index_adapters.vectors.ask import Ask, ask_here
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.claims import Claims, remove_dead_owners
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from llama_index_adapters.vectors.store_rows import ROLES, Role

logger = logging.getLogger(__name__)

# How many texts are embedded in both roles to find out whether the roles differ.
PROBE_TEXTS = 3
# Vectors with at least this cosine count as equal: services answer the same text slightly
# differently from call to call.
SAME_COSINE = 0.9999


@dataclass(frozen=True)
class StoreFiller:
    """Embeds what an open store lacks of a model's vectors.

    Attributes:
        model: the model.
        store: where its vectors are looked up and kept.
        show_progress: whether to show a progress bar while the model works.
        ask: how texts get through the model.
    """

    model: IdentifiedModel
    store: EmbeddingStore
    show_progress: bool
    ask: Ask

    def fill(self, texts: Sequence[str], role: Role) -> int:
        """Embed the texts that the store lacks; return how many texts the model was sent."""
        remove_dead_owners(self.store)
        missing = self._missing(texts, role)
        if not missing:
            return 0
        asked = 0
        embed_model = self.model.model
        symmetric = self.store.symmetric(self.model.identity)
        # LlamaIndex's cache is keyed by the text alone, so with a cache the passages' vectors
        # may be the queries' too; then the verdict is needed for passages as well.
        has_cache = embed_model.embeddings_cache is not None
        if symmetric is None and (role == "query" or has_cache) and len(missing) > PROBE_TEXTS:
            here = replace(self, show_progress=False, ask=ask_here)
            symmetric, asked = here._probe(texts)
            missing = self._missing(texts, role)
        if not symmetric:
            embed_model = _without_cache(embed_model)
        batched = role == "passage" or bool(symmetric)
        return asked + self._embed(embed_model, missing, role, batched=batched)

    def _missing(self, texts: Sequence[str], role: Role) -> list[str]:
        return self.store.missing(self.model.identity, role, texts)

    def _probe(self, texts: Sequence[str]) -> tuple[bool, int]:
        """Find out whether the model embeds both roles in the same way; the vectors are stored."""
        # From all texts rather than the missing ones: a run that is continued after it was
        # killed picks the same ones. Of several lengths: a model may truncate queries earlier.
        by_length = sorted(dict.fromkeys(texts), key=len)
        probes = [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
        identity, embed_model = self.model.identity, _without_cache(self.model.model)
        asked = 0
        vectors: list[NDArray[np.float32]] = []
        for role in ROLES:
            missing = self._missing(probes, role)
            asked += self._embed(embed_model, missing, role, batched=role == "passage")
            vectors.append(self.store.get(identity, role, probes).vectors.astype(np.float64))
        queries, passages = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
        cosines = (queries * passages).sum(axis=1)
        symmetric = self.store.set_symmetric(identity, bool((cosines >= SAME_COSINE).all()))
        logger.info(
            "%s embeds queries %s passages (lowest cosine %.6f of %d texts).",
            self.model.label,
            "like" if symmetric else "differently from",
            cosines.min(),
            len(probes),
        )
        return symmetric, asked

    def _embed(
        self, embed_model: BaseEmbedding, texts: Sequence[str], role: Role, *, batched: bool
    ) -> int:
        """Have every text embedded, by this run or another; return how many this one asked for."""
        asked = 0

        def keep(batch: Sequence[str], vectors: object) -> None:
            self.store.put(self.model.identity, role, batch, checked_vectors(vectors, len(batch)))

        def take(batch: Sequence[str]) -> list[str]:
            nonlocal asked
            taken = claims.take(batch)
            asked += len(taken)
            return taken

        with (
            Claims(self.store, self.model.identity, role) as claims,
            progress_bar(
                total=len(texts),
                desc="Embedding queries" if role == "query" else "Embedding passages",
                unit="text",
                disable=not self.show_progress or not texts,
            ) as bar,
        ):
            pending: Sequence[str] = texts
            while pending:
                for kept in self.ask(embed_model, pending, batched=batched, keep=keep, take=take):
                    bar.update(kept)
                pending = claims.left_by_others()
            bar.update(len(texts) - bar.n)
        return asked


def _without_cache(embed_model: BaseEmbedding) -> BaseEmbedding:
    """Return the model without its cache, which does not tell a query from a passage."""
    if embed_model.embeddings_cache is None:
        return embed_model
    return embed_model.model_copy(update={"embeddings_cache": None})
