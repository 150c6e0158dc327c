"""What a finetune engine offers and what it gives: LlamaIndex's interface, and the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.retrieval.ranking import Similarity

if TYPE_CHECKING:
    from llama_index_adapters.training.result import EpochRecord, Trial


class BaseEmbeddingFinetuneEngine(ABC):
    """What every engine that finetunes an embedding model offers (LlamaIndex's interface)."""

    @abstractmethod
    def finetune(self) -> Any:
        """Finetune; afterwards :meth:`get_finetuned_model` returns the result."""

    @abstractmethod
    def get_finetuned_model(self, **model_kwargs: Any) -> BaseEmbedding:
        """Return the finetuned embedding model."""


@dataclass(frozen=True)
class FinetuneResult:
    """What finetuning gave.

    Attributes:
        adapter: the kind of the adapter, ``"identity"`` when training gained nothing.
        path: the directory it was written to.
        comparison: base and adapted on the validation queries. None when queries and passages
            have different dimensions, so that there is no base to compare with.
        adapted: validation metrics of the adapted queries, by name.
        history: one record per epoch of training; empty after a search.
        trials: what a search tried, and what the held-out queries said of it.
        target_corpus: whether the adapter was made for a corpus of its own.
        similarity: how vectors were compared in training and evaluation.
        seconds: wall-clock seconds of ``embed``, ``train`` and ``evaluate``.
        texts_embedded: how many texts the embedding model was asked for; the rest were stored.
    """

    adapter: str
    path: Path
    comparison: Comparison | None
    adapted: Mapping[str, float]
    history: tuple[EpochRecord, ...]
    trials: tuple[Trial, ...]
    target_corpus: bool
    similarity: Similarity
    seconds: Mapping[str, float]
    texts_embedded: int

    @property
    def base(self) -> Mapping[str, float] | None:
        """Validation metrics of the base model, by name."""
        return None if self.comparison is None else self.comparison.base

    def __str__(self) -> str:
        """Return the comparison as a table, with what was trained above it."""
        head = f"adapter: {self.adapter}, saved in {self.path}"
        return head if self.comparison is None else f"{head}\n{self.comparison}"
