"""Write a report: what an adapter changed, in one file that opens anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llama_index_adapters.checks import as_path, require_seed
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.evaluation.evaluate import require_adapted
from llama_index_adapters.files.atomic import require_writable_file, write_text
from llama_index_adapters.questions.question_set import Questions, as_dataset
from llama_index_adapters.report.content import content_of, gain_sentence
from llama_index_adapters.report.measure import measure
from llama_index_adapters.report.page import MAX_BYTES, rendered
from llama_index_adapters.report.texts import Texts
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.store import EmbeddingStore

_MOST_CHANGED = (
    150  # questions with their texts, of those that got better and of those that got worse
)


class Finetuned(Protocol):
    """What a report takes of training: a :class:`llama_index_adapters.FinetuneResult` has it."""

    @property
    def history(self) -> Sequence[Any]:
        """One record for each epoch, with ``epoch`` and ``validation``."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall-clock seconds by stage."""

    @property
    def texts_embedded(self) -> int:
        """How many texts the embedding model was asked for."""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: the file.
        sentence: the gain with its interval, in words.
        comparisons: base and adapted at 10, by the name of the adapter.
        texts_embedded: how many texts the base model was asked for.
    """

    path: Path
    sentence: str
    comparisons: Mapping[str, Comparison]
    texts_embedded: int

    def __str__(self) -> str:
        """Return the sentence and where the rest stands."""
        return f"{self.sentence}\n{self.path}"


def write_report(
    path: Path | str,
    embed_model: AdapterEmbeddingModel | Mapping[str, AdapterEmbeddingModel],
    dataset: Questions | VectorDataset,
    *,
    finetuned: Finetuned | None = None,
    texts: bool = True,
    store: EmbeddingStore | Path | str | None = None,
    similarity: Similarity = "cosine",
    seed: int = 0,
    show_progress: bool = True,
) -> Report:
    """Write one HTML file, of at most 3 MB, that shows what an adapter changed.

    It opens without a network, holds the texts of the questions that changed most with the
    passages that were found, and nothing in a text is taken for markup. The same seed gives the
    same bytes, unless ``finetuned`` brings seconds.

    Args:
        path: the file to write; one that is there is replaced.
        embed_model: the adapted model; or several by name, side by side. Questions, map and
            passages are then shown for the first of them.
        dataset: anything with ``queries``, ``corpus`` and ``relevant_docs``, or vectors, of which
            ids are shown.
        finetuned: what ``finetune()`` returned for the (first) adapter: adds the learning curve
            and what training cost.
        texts: show texts; False shows ids.
        store: an open store of vectors, or the path of one; by default the one in the user's
            cache directory.
        similarity: how your vector store compares vectors.
        seed: the same seed gives the same intervals.
        show_progress: show a progress bar while the model works.

    Raises:
        InvalidOptionError: for a model without an adapter, or a value that cannot be used.
        InvalidDatasetError: when the parts of the dataset do not fit together.
        EmbeddingError: when the base model fails; what it gave before is stored.
        ModelMismatchError: when vectors have another dimension than the adapter takes.
        UnwritableFileError: when the file cannot be written.

    Example:
        >>> write_report("report.html", AdapterEmbeddingModel(base_model, "adapter"), test)
    """
    target = as_path(path, "path")
    require_seed(seed)
    models = _named(embed_model)
    require_writable_file(target)
    given = dataset if isinstance(dataset, VectorDataset) else as_dataset(dataset)
    measured = {
        name: measure(
            model,
            given,
            store=store,
            similarity=similarity,
            seed=seed,
            show_progress=show_progress,
        )
        for name, model in models.items()
    }
    shown = Texts.of(given, next(iter(measured.values())).data, wanted=texts)
    count = _MOST_CHANGED
    while True:
        page = rendered(content_of(models, measured, shown, count, finetuned))
        if len(page.encode()) <= MAX_BYTES or not count:
            break
        count //= 2
    write_text(target, page)
    return Report(
        target,
        gain_sentence(next(iter(measured.values())).comparison),
        {name: part.comparison for name, part in measured.items()},
        sum(part.texts_embedded for part in measured.values()),
    )


def _named(
    given: AdapterEmbeddingModel | Mapping[str, AdapterEmbeddingModel],
) -> dict[str, AdapterEmbeddingModel]:
    if not isinstance(given, Mapping):
        require_adapted(given, "embed_model")
        return {Path(given.adapter_path).name or "adapter": given}
    if not given:
        raise InvalidOptionError("embed_model is empty; give at least one adapted model.")
    for name, model in given.items():
        require_adapted(model, f"embed_model[{name!r}]")
    return {str(name): model for name, model in given.items()}
