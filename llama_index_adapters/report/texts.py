"""What stands for a question or a passage in a report: its text, or its id."""

from __future__ import annotations

from dataclasses import dataclass

from llama_index_adapters.display.html import cut
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

_QUESTION_LENGTH = 300
_PASSAGE_LENGTH = 420


@dataclass(frozen=True)
class Texts:
    """Texts and ids of questions and passages, by row.

    Attributes:
        data: the rows, with their ids.
        dataset: the texts by id; None where only ids are shown.
        wanted: whether texts were asked for.
    """

    data: VectorDataset
    dataset: EmbeddingQAFinetuneDataset | None
    wanted: bool

    @classmethod
    def of(
        cls,
        given: EmbeddingQAFinetuneDataset | VectorDataset,
        data: VectorDataset,
        *,
        wanted: bool,
    ) -> Texts:
        """Return the texts of a question set, or none for vectors or when they are not wanted."""
        has_texts = wanted and not isinstance(given, VectorDataset)
        return cls(data, given if has_texts else None, wanted)  # type: ignore[arg-type]

    @property
    def shown(self) -> bool:
        """Whether there are texts."""
        return self.dataset is not None

    def question(self, row: int) -> str:
        """Return what stands for a question."""
        name = self.data.query_ids[row]
        return name if self.dataset is None else cut(self.dataset.queries[name], _QUESTION_LENGTH)

    def passage(self, row: int, length: int = _PASSAGE_LENGTH) -> str:
        """Return what stands for a passage."""
        name = self.data.passage_ids[row]
        return name if self.dataset is None else cut(self.dataset.corpus[name], length)
