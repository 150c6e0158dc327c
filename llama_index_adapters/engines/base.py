"""What a finetune engine offers and what it gives: LlamaIndex's interface, and the result."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.adapters.families import kind_of
from llama_index_adapters.display.html import paragraphs
from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.retrieval.ranking import Similarity, mean_metrics

if TYPE_CHECKING:
    from llama_index_adapters.training.result import (
        BestTrial,
        EpochRecord,
        Outlook,
        TrainingResult,
        Trial,
    )


_WIDTH = 80  # of the text of a result, as of its table


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
    """What finetuning gave: what training gave, and what the engine made of it.

    Attributes:
        trained: the adapter with its history and trials, and the metrics of every validation query.
        path: the directory it was written to.
        comparison: base and adapted on the validation queries. None when queries and passages
            have different dimensions, so that there is no base to compare with.
        target_corpus: whether the adapter was made for a corpus of its own.
        similarity: how vectors were compared in training and evaluation.
        seconds: wall-clock seconds of ``embed``, ``train`` and ``evaluate``.
        texts_embedded: how many texts the embedding model was asked for; the rest were stored.
        over_truncated_pca: of a training with ``target_dim``, truncated PCA to as many dimensions
            (as ``base``) and the adapter on the validation queries; else None.
    """

    trained: TrainingResult = field(repr=False)
    path: Path
    comparison: Comparison | None
    target_corpus: bool
    similarity: Similarity
    seconds: Mapping[str, float]
    texts_embedded: int
    over_truncated_pca: Comparison | None = None

    @property
    def adapter(self) -> str:
        """The kind of the adapter, ``"identity"`` when training gained nothing."""
        return kind_of(type(self.trained.adapter))

    @property
    def adapted(self) -> Mapping[str, float]:
        """Validation metrics of the adapted queries, by name."""
        return mean_metrics(self.trained.adapted)

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """One record per epoch of training; empty after a search."""
        return self.trained.history

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What a search tried, and what the held-out queries said of it."""
        return self.trained.trials

    @property
    def base(self) -> Mapping[str, float] | None:
        """Validation metrics of the base model, by name."""
        return None if self.comparison is None else self.comparison.base

    @property
    def outlook(self) -> Outlook | None:
        """How much could be gained, as held-out questions say before training."""
        return self.trained.outlook

    @property
    def best_trial(self) -> BestTrial | None:
        """The best that was tried, kept or not, and how certain its gain is."""
        return self.trained.best

    @property
    def why(self) -> str:
        """How much could be gained, what the best trial gained, and what was missing; for people.

        Empty when queries and passages have different dimensions, so that there is no base.
        """
        said = (self.outlook, self.trained.kinds, self.best_trial, self.trained.reduced)
        return "\n".join(str(part) for part in said if part is not None)

    def __str__(self) -> str:
        """Return the comparison as a table, with what was trained above it and why below."""
        head = f"adapter: {self.adapter}, saved in {self.path}"
        if self.comparison is None:
            return head
        lines = "\n".join(textwrap.fill(line, _WIDTH) for line in self.why.splitlines())
        return f"{head}\n{self.comparison}\n\n{lines}"

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        head = paragraphs(f"adapter: {self.adapter}, saved in {self.path}")
        table = "" if self.comparison is None else self.comparison.html()
        return head + table + paragraphs(self.why)
