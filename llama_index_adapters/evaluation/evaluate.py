"""A saved adapter against its base model, on questions with known answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llama_index_adapters.adapters.disk.asked_section import read_asked_section
from llama_index_adapters.checks import require_seed, require_whole
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.evaluation.asked import base_of, embedded_for, passages_for, seen_by
from llama_index_adapters.evaluation.comparison import Comparison, compare_queries
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.store import EmbeddingStore


@dataclass(frozen=True)
class Evaluation:
    """What evaluating gave.

    Attributes:
        comparison: base and adapted on the same questions and the same vectors.
        texts_embedded: how many texts the base model was asked for; the rest were stored.
        seconds: wall-clock seconds of ``embed`` and ``evaluate``.
    """

    comparison: Comparison
    texts_embedded: int
    seconds: Mapping[str, float]

    def __str__(self) -> str:
        """Return the comparison as a table."""
        return str(self.comparison)

    def _repr_html_(self) -> str:
        """Return the comparison as a table for a notebook."""
        return self.comparison.html()


def evaluate(
    embed_model: AdapterEmbeddingModel,
    dataset: Questions | VectorDataset,
    *,
    store: EmbeddingStore | Path | str | None = None,
    similarity: Similarity = "cosine",
    k: int = 10,
    seed: int = 0,
    merge_copies: bool = False,
    show_progress: bool = True,
) -> Evaluation:
    """Compare an adapted embedding model with its base model on a question set.

    Each text is embedded once: passages by the base model, queries by each of the models that
    embed queries; the adapted queries are made of those same vectors. Where the base model is not
    asked, the base is the map without labels that training started from. An adapter with fewer
    dimensions maps the passages too, and is compared with the base model at all of its dimensions.
    The question set is taken as it is: a question that occurs twice counts twice.

    Args:
        embed_model: the adapted model.
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors as
            ``IndexCorpus.dataset(labels, ...)`` gives them. Every question ranks the whole corpus.
        store: an open store of vectors, or the path of one; by default the one in the user's
            cache directory.
        similarity: how your vector store compares vectors; vectors say it themselves.
        k: how many passages of each ranking to look at: as many as your retriever returns.
        seed: the same seed gives the same intervals.
        merge_copies: take passages of the same text under different ids as one, which is relevant
            when one of them is. By default each is ranked by itself, as trec_eval does. How many
            copies there are, and what they cost, is in ``comparison.copies`` either way.
        show_progress: show a progress bar while the model works.

    Returns:
        The metrics at ``k`` of base and adapted, with the gain's interval; and both for the
        questions about passages that training asked about and for the others, unless the adapter
        does not say which those are.

    Raises:
        InvalidOptionError: for a model without an adapter, or a value that cannot be used.
        InvalidDatasetError: when the parts of the dataset do not fit together.
        EmbeddingError: when the base model fails; what it gave before is stored.
        ModelMismatchError: when its vectors have another dimension than the adapter takes.

    Example:
        >>> embed_model = AdapterEmbeddingModel(OpenAIEmbedding(), "adapter")
        >>> print(evaluate(embed_model, test))
    """
    require_whole(k, "k")
    require_seed(seed)
    require_adapted(embed_model, "embed_model")
    embedded = embedded_for(
        embed_model, dataset, store, similarity=similarity, show_progress=show_progress
    )
    started = time.perf_counter()
    base, base_is = base_of(embed_model, embedded.data)
    comparison = compare_queries(
        embedded.data,
        embed_model.transform_queries(embedded.data.queries),
        base_queries=base,
        k=k,
        adapted_passages=passages_for(embed_model, embedded.data),
        seed=seed,
        merge_copies=merge_copies,
        seen=seen_by([read_asked_section(embed_model.metadata.sections)], embedded.data, dataset),
    )
    comparison = replace(comparison, base_is=base_is)
    seconds = {"embed": embedded.cost.seconds, "evaluate": time.perf_counter() - started}
    return Evaluation(comparison, embedded.cost.texts, seconds)


def require_adapted(embed_model: object, name: str) -> None:
    """Refuse what is no adapted model.

    Raises:
        InvalidOptionError: saying what it is, with the name of the argument.
    """
    if not isinstance(embed_model, AdapterEmbeddingModel):
        raise InvalidOptionError(
            f"{name} is a {type(embed_model).__name__}, which has no adapter. Give what "
            "engine.get_finetuned_model() returns, or AdapterEmbeddingModel(base_model, path)."
        )
