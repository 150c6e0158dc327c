"""Texts go through an embedding model once; what it gave is stored as it arrives."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llama_index_adapters.errors import EmbeddingError, InvalidDatasetError, InvalidOptionError
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.questions.question_set import as_dataset
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.ask import Ask, ask_here
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.identity import checked_model, model_identity, model_label
from llama_index_adapters.vectors.request import RejectedTextError
from llama_index_adapters.vectors.store import ROLES, EmbeddingStore, Role

logger = logging.getLogger(__name__)

# How many texts are embedded in both roles to find out whether the roles differ.
PROBE_TEXTS = 3
# Vectors with at least this cosine count as equal: services answer the same text slightly
# differently from call to call.
SAME_COSINE = 0.9999


@dataclass(frozen=True)
class EmbeddedDataset:
    """A question set as vectors, and what that took.

    Attributes:
        data: the vectors.
        texts_embedded: how many texts the model was asked to embed; the rest were stored.
        seconds: wall-clock time.
    """

    data: VectorDataset
    texts_embedded: int
    seconds: float


def embed_dataset(
    dataset: object,
    embed_model: BaseEmbedding,
    store: EmbeddingStore | Path | str | None = None,
    *,
    similarity: Similarity = "cosine",
    show_progress: bool = True,
) -> EmbeddedDataset:
    """Embed a question set's passages and queries, as far as they are not stored yet.

    Args:
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
        embed_model: any LlamaIndex embedding model.
        store: an open store, or the path of one; by default the one in the user's cache
            directory.
        similarity: how the vector store compares a query with a passage.
        show_progress: whether to show a progress bar while the model works.

    Raises:
        InvalidDatasetError: when the parts of the dataset do not fit together.
        InvalidOptionError: for a value that cannot be used.
        EmbeddingError: when the model fails or returns something that is not vectors.
            What it gave before is stored; the same call again continues.
    """
    started = time.perf_counter()
    if similarity not in SIMILARITIES:
        raise InvalidOptionError(
            f"similarity is {similarity!r}; use one of {', '.join(SIMILARITIES)}."
        )
    questions = as_dataset(dataset)
    checked_model(embed_model)
    rows = {node_id: row for row, node_id in enumerate(questions.corpus)}
    relevance = Relevance.from_rows(
        [
            [rows[node_id] for node_id in questions.relevant_docs[query]]
            for query in questions.queries
        ]
    )
    parts: tuple[tuple[Role, dict[str, str]], ...] = (
        ("passage", questions.corpus),
        ("query", questions.queries),
    )
    opened = nullcontext(store) if isinstance(store, EmbeddingStore) else EmbeddingStore(store)
    with opened as open_store:
        embedded = [
            _embed(embed_model, list(texts.values()), role, open_store, show_progress, list(texts))
            for role, texts in parts
        ]
    (passages, new_passages), (queries, new_queries) = embedded
    data = VectorDataset(
        queries,
        passages,
        relevance,
        similarity=similarity,
        query_ids=tuple(questions.queries),
        passage_ids=tuple(questions.corpus),
    )
    return EmbeddedDataset(data, new_passages + new_queries, time.perf_counter() - started)


def embed_role(
    texts: Sequence[str],
    role: Role,
    embed_model: BaseEmbedding,
    store: Path | str | None = None,
    *,
    show_progress: bool = True,
) -> tuple[NDArray[np.float32], int, float]:
    """Embed queries or passages without labels, as far as they are not stored yet.

    Returns:
        Their vectors ``(n_texts, dim)``, how many texts the model was asked for, and the
        seconds it took.

    Raises:
        InvalidDatasetError: for something that is not text, is empty or cannot be encoded.
        EmbeddingError: when the model fails; what it gave before is stored.
    """
    started = time.perf_counter()
    with EmbeddingStore(store) as open_store:
        vectors, embedded = _embed(embed_model, texts, role, open_store, show_progress)
    return vectors, embedded, time.perf_counter() - started


def embed_texts(
    embed_model: BaseEmbedding,
    texts: Sequence[str],
    role: Role,
    store: EmbeddingStore,
    *,
    show_progress: bool = True,
) -> NDArray[np.float32]:
    """Return the vectors of texts, ``(n_texts, dim)``, embedding only what is not stored.

    The model is called through its public methods, in its own batch size, and each batch is
    stored as it arrives. LlamaIndex has no batch call for queries. So before queries are
    embedded for the first time, :data:`PROBE_TEXTS` of them are embedded in both roles: when
    the vectors are the same, queries go through the batch call and share the passages'
    vectors; otherwise they go one by one.

    Args:
        embed_model: any LlamaIndex embedding model.
        texts: the texts; one that occurs several times is embedded once.
        role: ``"query"`` or ``"passage"``.
        store: where vectors are looked up and kept.
        show_progress: whether to show a progress bar while the model works.

    Raises:
        InvalidDatasetError: for something that is not text, is empty or cannot be encoded.
        InvalidOptionError: for another role, or something that is no embedding model.
        EmbeddingError: when the model fails or returns something that is not vectors.
            What it gave before is stored; the same call again continues.
    """
    return _embed(embed_model, texts, role, store, show_progress)[0]


def store_vectors(
    embed_model: BaseEmbedding,
    texts: Sequence[str],
    role: Role,
    store: EmbeddingStore,
    *,
    show_progress: bool = True,
    ids: Sequence[str] | None = None,
    ask: Ask = ask_here,
) -> int:
    """Embed the texts that the store lacks, as :func:`embed_texts` does, and leave them there.

    Args:
        embed_model: any LlamaIndex embedding model.
        texts: the texts; one that occurs several times is embedded once.
        role: ``"query"`` or ``"passage"``.
        store: where vectors are kept.
        show_progress: whether to show a progress bar while the model works.
        ids: a name for each text, for the one that the model rejects.
        ask: how texts get through the model. The :data:`PROBE_TEXTS` are asked for here.

    Returns:
        How many texts the model was asked for; the rest were stored.

    Raises:
        InvalidDatasetError: for something that is not text, is empty or cannot be encoded.
        InvalidOptionError: for another role, or something that is no embedding model.
        EmbeddingError: when the model fails; what it gave before is stored.
    """
    texts = _checked_texts(texts)
    if role not in ROLES:
        raise InvalidOptionError(f"role is {role!r}; use one of {', '.join(ROLES)}.")
    model_id = model_identity(embed_model)
    try:
        return _Run(embed_model, model_id, store, show_progress, ask).fill(texts, role)
    except EmbeddingError as error:
        total = len(set(texts))
        stored = total - len(store.missing(model_id, role, texts))
        which = ""
        if isinstance(error, RejectedTextError):
            row = texts.index(error.text)
            name = f"texts[{row}]" if ids is None else f"{role} {ids[row]!r}"
            which = f" The rejected text is {name}: shorten it or leave it out."
        raise EmbeddingError(
            f"{error}{which} {stored} of {total} {role} texts are stored in {store.path} and will "
            "not be embedded again; the same call continues with the rest."
        ) from error.__cause__  # None where it would show what the message leaves out


def _embed(
    embed_model: BaseEmbedding,
    texts: Sequence[str],
    role: Role,
    store: EmbeddingStore,
    show_progress: bool,
    ids: Sequence[str] | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Return the vectors and how many texts the model was asked to embed."""
    embedded = store_vectors(embed_model, texts, role, store, show_progress=show_progress, ids=ids)
    vectors, found = store.get(model_identity(embed_model), role, texts)
    if not found.all():
        raise EmbeddingError(
            f"{np.count_nonzero(~found)} vectors disappeared from {store.path} while texts were "
            "embedded. Another program changes the file; name another one."
        )
    return vectors, embedded


@dataclass(frozen=True)
class _Run:
    """One model, one store: embeds what is missing and counts it."""

    embed_model: BaseEmbedding
    model_id: str
    store: EmbeddingStore
    show_progress: bool
    ask: Ask = ask_here

    def fill(self, texts: Sequence[str], role: Role) -> int:
        """Embed the texts that the store lacks; return how many texts the model was sent."""
        missing = self.store.missing(self.model_id, role, texts)
        if not missing:
            return 0
        embedded = 0
        symmetric = self.store.symmetric(self.model_id)
        # LlamaIndex's cache is keyed by the text alone, so with a cache the passages' vectors
        # may be the queries' too; then the verdict is needed for passages as well.
        has_cache = self.embed_model.embeddings_cache is not None
        if symmetric is None and (role == "query" or has_cache) and len(missing) > PROBE_TEXTS:
            here = replace(self, show_progress=False, ask=ask_here)
            symmetric, embedded = here.probe(texts)
            missing = self.store.missing(self.model_id, role, texts)
        model = self.embed_model if symmetric else _without_cache(self.embed_model)
        batched = role == "passage" or bool(symmetric)
        return embedded + self.embed(model, missing, role, batched=batched)

    def probe(self, texts: Sequence[str]) -> tuple[bool, int]:
        """Find out whether the model treats both roles alike; the vectors are stored."""
        # From all texts rather than the missing ones: a run that is continued after it was
        # killed picks the same ones. Of several lengths: a model may truncate queries earlier.
        by_length = sorted(dict.fromkeys(texts), key=len)
        probes = [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
        embedded = 0
        vectors: list[NDArray[np.float32]] = []
        for role in ROLES:
            missing = self.store.missing(self.model_id, role, probes)
            model = _without_cache(self.embed_model)
            embedded += self.embed(model, missing, role, batched=role == "passage")
            vectors.append(self.store.get(self.model_id, role, probes).vectors.astype(np.float64))
        queries, passages = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
        cosines = (queries * passages).sum(axis=1)
        symmetric = self.store.set_symmetric(self.model_id, bool((cosines >= SAME_COSINE).all()))
        logger.info(
            "%s embeds queries %s passages (lowest cosine %.6f of %d texts).",
            model_label(self.embed_model),
            "like" if symmetric else "differently from",
            cosines.min(),
            len(probes),
        )
        return symmetric, embedded

    def embed(
        self, model: BaseEmbedding, texts: Sequence[str], role: Role, *, batched: bool
    ) -> int:
        """Send the texts to the model, store each batch as it arrives, return their number."""

        def keep(batch: Sequence[str], vectors: object) -> None:
            self.store.put(self.model_id, role, batch, checked_vectors(vectors, len(batch)))

        with tqdm(
            total=len(texts),
            desc="Embedding queries" if role == "query" else "Embedding passages",
            unit="text",
            disable=not self.show_progress or not texts,
        ) as bar:
            for kept in self.ask(model, texts, batched=batched, keep=keep):
                bar.update(kept)
        return len(texts)


def _without_cache(model: BaseEmbedding) -> BaseEmbedding:
    """Return the model without its cache, which does not tell a query from a passage."""
    if model.embeddings_cache is None:
        return model
    return model.model_copy(update={"embeddings_cache": None})


def _checked_texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InvalidDatasetError("texts is one str; expected a list of them.")
    checked = list(texts)
    wrong = [row for row, text in enumerate(checked) if not isinstance(text, str)]
    if wrong:
        raise InvalidDatasetError(
            f"{len(wrong)} texts are not str, the first at {wrong[:5]} "
            f"({type(checked[wrong[0]]).__name__})."
        )
    empty = [row for row, text in enumerate(checked) if not text.strip()]
    if empty:
        raise InvalidDatasetError(
            f"{len(empty)} texts are empty, the first at {empty[:5]}. Leave them out."
        )
    broken = [row for row, text in enumerate(checked) if not is_encodable(text)]
    if broken:
        raise InvalidDatasetError(
            f"{len(broken)} texts hold half of a surrogate pair, which no model can encode, the "
            f"first at {broken[:5]}. Leave them out, or mend them."
        )
    return checked
