"""What is known about an adapter beside what it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index_adapters.adapters.disk.config import QueryModel, ResultLength
from llama_index_adapters.adapters.families import Arrays

WITHOUT_LABELS = "without_labels"
"""The section with the map that stands for the base where the index's model is not asked."""


@dataclass(frozen=True)
class Section:
    """Something more about an adapter that changes no vector.

    Attributes:
        content: what JSON can hold.
        arrays: what is too large for it, by name.
    """

    content: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterMetadata:
    """What is known about an adapter beside its weights; every part may be missing.

    Attributes:
        query_models: the models that it takes the query vectors of. How a vector is normalised
            is what the adapter says, and of a single model so is the dimension.
        query_dim: dimension of the query vectors; a built-in adapter knows it.
        passage_dim: dimension of the passage vectors; likewise.
        training: the options it was trained with, as JSON can hold them.
        data: what it was trained on: ``fingerprint``, the counts ``queries``, ``passages`` and,
            among these, ``copies`` of others. Never texts.
        metrics: measured figures by system (``base``, ``adapted``), then by metric.
        sections: more, by name; see ``docs/format.md``.
        result_length: ``"base"`` for results as long as the base model's vector of the same query,
            or the length that every result has.
    """

    query_models: Sequence[QueryModel] = (QueryModel(),)
    query_dim: int | None = None
    passage_dim: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    result_length: ResultLength = "base"

    @property
    def base_model(self) -> str | None:
        """Name of the model that embedded the passages, when it is asked for queries too."""
        return next((model.name for model in self.query_models if model.role == "base"), None)

    @property
    def base_model_identity(self) -> str | None:
        """Hash of that model's settings."""
        return next((model.identity for model in self.query_models if model.role == "base"), None)
