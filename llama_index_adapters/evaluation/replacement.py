"""Two saved adapters on the same questions: is the new one worth switching to?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llama_index_adapters.adapters.disk.asked_section import read_asked_section
from llama_index_adapters.checks import require_seed, require_whole
from llama_index_adapters.display.html import paragraphs
from llama_index_adapters.errors import ModelMismatchError
from llama_index_adapters.evaluation.asked import embedded_for, passages_for, seen_by
from llama_index_adapters.evaluation.comparison import Comparison, compare_queries
from llama_index_adapters.evaluation.evaluate import require_adapted
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.store import EmbeddingStore

LABELS = ("in use", "candidate")


@dataclass(frozen=True)
class Replacement:
    """What a candidate would change for the adapter in use.

    Attributes:
        comparison: the adapter in use (as ``base``) and the candidate (as ``adapted``).
        texts_embedded: how many texts the base model was asked for; the rest were stored.
        seconds: wall-clock seconds of ``embed`` and ``evaluate``.
    """

    comparison: Comparison
    texts_embedded: int
    seconds: Mapping[str, float]

    @property
    def switch(self) -> bool:
        """Whether the whole interval of the candidate's gain in nDCG lies above zero."""
        return self.comparison.gains[self.comparison.metric].low > 0

    @property
    def advice(self) -> str:
        """One sentence: switch or keep, and why."""
        gain = self.comparison.gains[self.comparison.metric]
        interval = (
            f"{self.comparison.confidence * 100:g}% interval {gain.low:+.4f} to {gain.high:+.4f}"
        )
        if self.switch:
            return f"Switch to the candidate: it gains {gain.mean:+.4f} nDCG ({interval})."
        if gain.high < 0:
            return f"Keep the adapter in use: the candidate is worse ({interval})."
        return f"Keep the adapter in use: the difference is not certain ({interval})."

    def __str__(self) -> str:
        """Return the comparison as a table, and the advice below it."""
        return f"{self.comparison.text(*LABELS)}\n\n{self.advice}"

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        return self.comparison.html(*LABELS) + paragraphs(self.advice)


def compare_adapters(
    in_use: AdapterEmbeddingModel,
    candidate: AdapterEmbeddingModel,
    dataset: Questions | VectorDataset,
    *,
    store: EmbeddingStore | Path | str | None = None,
    similarity: Similarity = "cosine",
    k: int = 10,
    seed: int = 0,
    merge_copies: bool = False,
    show_progress: bool = True,
) -> Replacement:
    """Compare two adapters of one index on the same questions and the same vectors.

    They may ask different models for queries, such as the index's own alone and with another, and
    have different dimensions, each with its own index.

    Take questions that neither has been trained on, as people ask them now. A passage counts as
    seen when the training of either asked about it.

    Args:
        in_use: the adapted model that serves today.
        candidate: the one that may replace it.
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors.
        store: an open store of vectors, or the path of one; by default the one in the user's
            cache directory.
        similarity: how your vector store compares vectors; vectors say it themselves.
        k: how many passages of each ranking to look at: as many as your retriever returns.
        seed: the same seed gives the same intervals.
        merge_copies: take passages of the same text under different ids as one, as
            :func:`llama_index_adapters.evaluate` does.
        show_progress: show a progress bar while the model works.

    Raises:
        InvalidOptionError: for a model without an adapter, or a value that cannot be used.
        ModelMismatchError: when the two have different base models.
        InvalidDatasetError: when the parts of the dataset do not fit together.
        EmbeddingError: when the base model fails; what it gave before is stored.

    Example:
        >>> in_use, candidate = (AdapterEmbeddingModel(base, path) for path in ("may", "june"))
        >>> compare_adapters(in_use, candidate, questions).switch
    """
    require_whole(k, "k")
    require_seed(seed)
    for name, model in (("in_use", in_use), ("candidate", candidate)):
        require_adapted(model, name)
    base, other = in_use.query_models.base, candidate.query_models.base
    if base is not None and other is not None and base.identity != other.identity:
        raise ModelMismatchError(
            f"The adapter in use serves {base.label} and the candidate {other.label}, or with "
            "other settings. Give both the same base model."
        )
    embed = partial(embedded_for, similarity=similarity, show_progress=show_progress)
    embedded = embed(candidate, dataset, store)
    cost, asked = embedded.cost, embedded.data
    if not _same_models(in_use, candidate):
        of_in_use = embed(in_use, dataset, store)
        cost, asked = cost + of_in_use.cost, of_in_use.data
    started = time.perf_counter()
    known = [read_asked_section(model.metadata.sections) for model in (in_use, candidate)]
    comparison = compare_queries(
        embedded.data,
        candidate.transform_queries(embedded.data.queries),
        base_queries=in_use.transform_queries(asked.queries),
        k=k,
        base_passages=passages_for(in_use, embedded.data),
        adapted_passages=passages_for(candidate, embedded.data),
        seed=seed,
        merge_copies=merge_copies,
        seen=seen_by(known, embedded.data, dataset),
    )
    seconds = {"embed": cost.seconds, "evaluate": time.perf_counter() - started}
    return Replacement(comparison, cost.texts, seconds)


def _same_models(one: AdapterEmbeddingModel, other: AdapterEmbeddingModel) -> bool:
    first, second = (
        [model.identity for model in each.query_models.models] for each in (one, other)
    )
    return first == second
