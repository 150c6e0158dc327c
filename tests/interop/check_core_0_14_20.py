"""Feed what LlamaIndex's own question generator returns to this package.

``llama_index.core.evaluation`` has that generator up to core 0.14.20, so this is a plain script
for an environment of that version and this package. It exits non-zero when anything differs.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.evaluation import (
    EmbeddingQAFinetuneDataset as TheirDataset,
)
from llama_index.core.evaluation import (
    generate_qa_embedding_pairs as their_generate,
)
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.schema import TextNode

from llama_index_adapters import EmbeddingQAFinetuneDataset, generate_qa_embedding_pairs
from llama_index_adapters.questions.question_set import as_dataset

SUBJECTS = [f"{color} {thing}" for color in ("red", "green", "blue") for thing in "abcdefgh"]


class ScriptedLLM(CustomLLM):
    """Asks two questions about the last line of the passage it is shown."""

    calls: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="scripted")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.calls += 1
        subject = next(name for name in SUBJECTS if f"passage on {name}" in prompt)
        return CompletionResponse(text=f"1. What is {subject}?\n2. Who made {subject}?")

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        raise AssertionError("nothing streams here")


class LetterEmbedding(BaseEmbedding):
    """Counts letters: enough for similar texts to have similar vectors."""

    model_name: str = "letters"
    _texts: list[str] = PrivateAttr(default_factory=list)

    def _vector(self, text: str) -> list[float]:
        self._texts.append(text)
        return [1.0 + text.count(letter) for letter in "abcdefghlnru"]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


def nodes() -> list[TextNode]:
    return [TextNode(id_=f"n-{name}", text=f"A passage on {name}.") for name in SUBJECTS]


def check_dataset(theirs: TheirDataset, directory: Path) -> None:
    """The object, and the files both write, mean the same to both."""
    ours = as_dataset(theirs)
    assert type(theirs).__module__.startswith("llama_index.core"), type(theirs)
    assert (ours.queries, ours.corpus) == (theirs.queries, theirs.corpus)
    assert (ours.relevant_docs, ours.mode) == (theirs.relevant_docs, theirs.mode)
    assert len(ours.queries) == 2 * len(SUBJECTS)

    theirs.save_json(str(directory / "theirs.json"))
    ours.save_json(directory / "ours.json")
    assert (directory / "theirs.json").read_bytes() == (directory / "ours.json").read_bytes()
    assert EmbeddingQAFinetuneDataset.from_json(directory / "theirs.json") == ours
    assert TheirDataset.from_json(str(directory / "ours.json")) == theirs


def check_generation_goes_on(directory: Path) -> None:
    """Our generator continues a file of theirs without asking again."""
    llm = ScriptedLLM()
    path = directory / "theirs.json"
    dataset = generate_qa_embedding_pairs(nodes(), llm, output_path=path, verbose=False)
    assert llm.calls == 0, llm.calls
    assert dataset.queries == TheirDataset.from_json(str(path)).queries


def check_finetuning(theirs: TheirDataset, directory: Path) -> None:
    """The engine takes their object as it is, and gives a model that embeds queries."""
    from llama_index_adapters import EmbeddingAdapterFinetuneEngine

    base = LetterEmbedding()
    engine = EmbeddingAdapterFinetuneEngine(
        theirs,
        base,
        model_output_path=str(directory / "adapter"),
        store=directory / "embeddings.sqlite3",
        epochs=2,
        show_progress=False,
    )
    engine.finetune()
    adapted = engine.get_finetuned_model()
    vector = adapted.get_query_embedding("What is red a?")
    assert len(vector) == len(base.get_query_embedding("What is red a?"))
    assert adapted.get_text_embedding("A text.") == base.get_text_embedding("A text.")


def main() -> None:
    """Run every check."""
    assert version("llama-index-core") == "0.14.20", version("llama-index-core")
    theirs = their_generate(nodes(), ScriptedLLM())
    with tempfile.TemporaryDirectory() as name:
        check_dataset(theirs, Path(name))
        check_generation_goes_on(Path(name))
        check_finetuning(theirs, Path(name))
    print("OK: what llama-index-core 0.14.20 generates trains here as it is.")


if __name__ == "__main__":
    main()
