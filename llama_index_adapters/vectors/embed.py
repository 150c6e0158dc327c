"""Texts go through an embedding model once; what it gave is stored as it arrives."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.checks import require_one_of
from llama_index_adapters.errors import EmbeddingError, InvalidDatasetError
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.questions.question_set import Questions, as_dataset
from llama_index_adapters.questions.views import relevance_of
from llama_index_adapters.retrieval.ranking import SIMILARITIES, Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.ask import Ask, ask_here
from llama_index_adapters.vectors.fill import StoreFiller
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.request import RejectedTextError
from llama_index_adapters.vectors.store import EmbeddingStore
from llama_index_adapters.vectors.store_rows import ROLES, Role

logger = logging.getLogger(__name__)

# Two texts may well have one vector, such as two spellings of one.
_MANY_TEXTS = 3


@dataclass(frozen=True)
class EmbeddingCost:
    """What embedding took; costs are added with ``+``.

    Attributes:
        texts: how many texts the model was asked to embed; the rest were stored.
        seconds: wall-clock time.
    """

    texts: int = 0
    seconds: float = 0.0

    def __add__(self, other: EmbeddingCost) -> EmbeddingCost:
        """Return what both took together."""
        return EmbeddingCost(self.texts + other.texts, self.seconds + other.seconds)


@dataclass(frozen=True)
class EmbeddedTexts:
    """Texts as vectors.

    Attributes:
        vectors: ``(n_texts, dim)`` float32, one for each text in the order given.
        cost: what embedding took.
    """

    vectors: NDArray[np.float32]
    cost: EmbeddingCost


@dataclass(frozen=True)
class EmbeddedDataset:
    """A question set as vectors.

    Attributes:
        data: the vectors with their relevance.
        cost: what embedding took.
    """

    data: VectorDataset
    cost: EmbeddingCost


class Embedder:
    """One embedding model and one store: each text goes through the model once.

    The model is called through its public methods, in its own batch size, and each batch is
    stored as it arrives: a call that failed or was interrupted continues where it was. LlamaIndex
    has no batch call for queries. So before queries are embedded for the first time,
    :data:`~llama_index_adapters.vectors.fill.PROBE_TEXTS` of them are embedded in both roles: when
    the vectors are the same, queries go through the batch call and share the passages' vectors;
    otherwise they go one by one.

    Args:
        model: any LlamaIndex embedding model.
        store: an open store, which stays open, or the path of one, which is opened by each call;
            by default the one in the user's cache directory.
        show_progress: whether to show a progress bar while the model works.
        ask: how texts get through the model. The probes are asked for in this process.

    Raises:
        InvalidOptionError: for something that is no embedding model.
    """

    def __init__(
        self,
        model: BaseEmbedding | IdentifiedModel,
        store: EmbeddingStore | Path | str | None = None,
        *,
        show_progress: bool = True,
        ask: Ask = ask_here,
    ) -> None:
        self.model = model if isinstance(model, IdentifiedModel) else IdentifiedModel(model)
        self.store = store
        self.show_progress = show_progress
        self._ask = ask

    def texts(
        self, texts: Sequence[str], role: Role, *, ids: Sequence[str] | None = None
    ) -> EmbeddedTexts:
        """Return the vectors of texts, embedding only what is not stored.

        Args:
            texts: the texts; one that occurs several times is embedded once.
            role: ``"query"`` or ``"passage"``.
            ids: a name for each text, for the one that the model rejects.

        Raises:
            InvalidDatasetError: for something that is not text, is empty or cannot be encoded.
            InvalidOptionError: for another role.
            EmbeddingError: when the model fails or returns something that is not vectors.
                What it gave before is stored; the same call again continues.
        """
        with self._opened() as store:
            return self._texts(store, texts, role, ids)

    def dataset(self, dataset: Questions, *, similarity: Similarity = "cosine") -> EmbeddedDataset:
        """Return a question set as vectors, embedding only what is not stored.

        Args:
            dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``.
            similarity: how the vector store compares a query with a passage.

        Raises:
            InvalidDatasetError: when the parts of the dataset do not fit together.
            InvalidOptionError: for an unknown similarity.
            EmbeddingError: when the model fails; what it gave before is stored.
        """
        require_one_of(similarity, "similarity", SIMILARITIES)
        questions = as_dataset(dataset)
        with self._opened() as store:
            passages = self._mapping(store, questions.corpus, "passage")
            queries = self._mapping(store, questions.queries, "query")
        data = VectorDataset(
            queries.vectors,
            passages.vectors,
            relevance_of(questions),
            similarity=similarity,
            query_ids=tuple(questions.queries),
            passage_ids=tuple(questions.corpus),
        )
        return EmbeddedDataset(data, passages.cost + queries.cost)

    def fill(
        self, texts: Sequence[str], role: Role, *, ids: Sequence[str] | None = None
    ) -> EmbeddingCost:
        """Embed what is not stored and leave the vectors in the store.

        Arguments and errors are those of :meth:`texts`.
        """
        with self._opened() as store:
            return self._fill(store, texts, role, ids)

    @contextmanager
    def _opened(self) -> Iterator[EmbeddingStore]:
        if isinstance(self.store, EmbeddingStore):
            yield self.store
            return
        with EmbeddingStore(self.store) as opened:
            yield opened

    def _mapping(self, store: EmbeddingStore, texts: dict[str, str], role: Role) -> EmbeddedTexts:
        return self._texts(store, list(texts.values()), role, list(texts))

    def _texts(
        self, store: EmbeddingStore, texts: Sequence[str], role: Role, ids: Sequence[str] | None
    ) -> EmbeddedTexts:
        started = time.perf_counter()
        cost = self._fill(store, texts, role, ids)
        vectors, found = store.get(self.model.identity, role, texts)
        if not found.all():
            raise EmbeddingError(
                f"{np.count_nonzero(~found)} vectors disappeared from {store} while texts "
                "were embedded. Another program changes the file; name another one."
            )
        if (vectors == vectors[:1]).all() and (many := len(set(texts))) >= _MANY_TEXTS:
            logger.warning(
                "%s has the same vector for all %d %s texts, which differ: with it nothing can be "
                "found or learned. Look at the model and what it is given.",
                self.model.label,
                many,
                role,
            )
        return EmbeddedTexts(vectors, EmbeddingCost(cost.texts, time.perf_counter() - started))

    def _fill(
        self, store: EmbeddingStore, texts: Sequence[str], role: Role, ids: Sequence[str] | None
    ) -> EmbeddingCost:
        started = time.perf_counter()
        texts = checked_texts(texts)
        require_one_of(role, "role", ROLES)
        if self.model.former_identity is not None:
            store.adopt(self.model.identity, self.model.former_identity)
        filler = StoreFiller(self.model, store, self.show_progress, self._ask)
        try:
            asked = filler.fill(texts, role)
        except EmbeddingError as error:
            total = len(set(texts))
            stored = total - len(store.missing(self.model.identity, role, texts))
            which = ""
            if isinstance(error, RejectedTextError):
                row = texts.index(error.text)
                name = f"texts[{row}]" if ids is None else f"{role} {ids[row]!r}"
                which = f" The rejected text is {name}: shorten it or leave it out."
            raise EmbeddingError(
                f"{error}{which} {stored} of {total} {role} texts are stored in {store} and "
                "will not be embedded again; the same call continues with the rest."
            ) from error.__cause__  # None where it would show what the message leaves out
        return EmbeddingCost(asked, time.perf_counter() - started)


def checked_texts(texts: Sequence[str], name: str = "") -> list[str]:
    """Return a list of texts that a model can embed.

    Args:
        texts: what was given.
        name: what it was given as, for the message.

    Raises:
        InvalidDatasetError: for something that is not text, is empty or cannot be encoded.
    """
    of_name = f"{name}: " if name else ""
    if isinstance(texts, str):
        raise InvalidDatasetError(f"{of_name}texts is one str; expected a list of them.")
    checked = list(texts)
    wrong = [row for row, text in enumerate(checked) if not isinstance(text, str)]
    if wrong:
        raise InvalidDatasetError(
            f"{of_name}{len(wrong)} texts are not str, the first at {wrong[:5]} "
            f"({type(checked[wrong[0]]).__name__})."
        )
    empty = [row for row, text in enumerate(checked) if not text.strip()]
    if empty:
        raise InvalidDatasetError(
            f"{of_name}{len(empty)} texts are empty, the first at {empty[:5]}. Leave them out."
        )
    broken = [row for row, text in enumerate(checked) if not is_encodable(text)]
    if broken:
        raise InvalidDatasetError(
            f"{of_name}{len(broken)} texts hold half of a surrogate pair, which no model can "
            f"encode, the first at {broken[:5]}. Leave them out, or mend them."
        )
    return checked
