"""The whole job on text that every machine has: its own documentation.

Questions and passages come from :mod:`llama_index_adapters.demo.documentation`. They are
split by passage, so that no question of one part asks about a passage of another. Training
sees the passages of its own part only. Validation and test rank *all* passages, as an index
does: that is harder than ranking a fifth of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle, TextNode

from llama_index_adapters.adapters.families import DEFAULT_ADAPTER, AdapterName
from llama_index_adapters.demo.documentation import documentation_dataset
from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
from llama_index_adapters.engines.base import FinetuneResult
from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.evaluation.evaluate import Evaluation, evaluate
from llama_index_adapters.evaluation.result_file import result_record, write_result
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.questions.split import split_by_passage
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.vectors.embed import EmbeddedDataset, Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel

DEFAULT_PAIRS = 3000
FRACTIONS = (0.6, 0.2, 0.2)
RETRIEVED = 10

Parts = Mapping[str, EmbeddingQAFinetuneDataset]


@dataclass(frozen=True)
class Search:
    """One question asked twice through one index.

    Attributes:
        chosen_as: why this question was chosen.
        question: its text.
        wanted: the id of the passage that answers it.
        base: ids of the best passages for the base model, best first.
        adapted: the same for the adapted model.
    """

    chosen_as: str
    question: str
    wanted: str
    base: tuple[str, ...]
    adapted: tuple[str, ...]

    def rank(self, ranked: tuple[str, ...]) -> int | None:
        """Return the place of the wanted passage, from 1 on; None when it was not found."""
        return ranked.index(self.wanted) + 1 if self.wanted in ranked else None


@dataclass(frozen=True)
class DemoResult:
    """What the demo gave.

    Attributes:
        finetuned: what the engine returned; its figures are of the validation questions.
        evaluation: base and adapted on the test questions.
        searches: three test questions through a ``VectorStoreIndex``.
        record: what was written to ``result.json``.
    """

    finetuned: FinetuneResult
    evaluation: Evaluation
    searches: tuple[Search, ...]
    record: Mapping[str, Any]


def run_demo(
    output: Path,
    embed_model: BaseEmbedding,
    *,
    n_pairs: int = DEFAULT_PAIRS,
    seed: int = 0,
    store: Path | None = None,
    adapter: AdapterName = DEFAULT_ADAPTER,
    show_progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Finetune an adapter on the documentation of this machine and measure it.

    Writes ``data/train.json``, ``data/val.json``, ``data/test.json``, ``adapter/`` and
    ``result.json`` below ``output``.

    Args:
        output: the directory to write to.
        embed_model: the base model.
        n_pairs: how many questions, in all.
        seed: which questions, how they are split, and the order of training.
        store: path of the store of vectors; the user's cache directory when left out.
        adapter: what to learn, as the engine names it.
        show_progress: show progress bars.
        report: called with a line for people before every step.

    Raises:
        AdaptersError: when a step fails, as it says.
    """
    whole, parts = _questions(output, n_pairs, seed, show_progress, report)
    model = IdentifiedModel(embed_model)
    report(f"Embedding what is not stored yet, with {model.label}")
    embedded = Embedder(model, store, show_progress=show_progress).dataset(whole)

    report("Training")
    engine = EmbeddingAdapterFinetuneEngine(
        parts["train"],
        embed_model,
        val_dataset=parts["val"],
        model_output_path=output / "adapter",
        adapter=adapter,
        # Only a search uses what will be searched.
        target_corpus=list(whole.corpus.values()) if adapter == DEFAULT_ADAPTER else None,
        seed=seed,
        store=store,
        show_progress=show_progress,
    )
    finetuned = engine.finetune()

    report("Testing")
    adapted_model = engine.get_finetuned_model()
    evaluation = evaluate(
        adapted_model, parts["test"], store=store, seed=seed, show_progress=show_progress
    )
    index = index_of(whole, embedded.data, embed_model)
    searches = tuple(
        _search(index, embed_model, adapted_model, parts["test"], query_id, chosen_as)
        for chosen_as, query_id in telling_questions(evaluation.comparison, parts["test"])
    )
    record = _record(embedded, finetuned, evaluation, model.label)
    write_result(output / "result.json", record)
    return DemoResult(finetuned, evaluation, searches, record)


def _questions(
    output: Path, n_pairs: int, seed: int, show_progress: bool, report: Callable[[str], None]
) -> tuple[EmbeddingQAFinetuneDataset, Parts]:
    """Collect the questions, write their parts below ``output`` and return them."""
    report("Collecting questions from the documentation of Python, numpy and torch")
    whole = documentation_dataset(n_pairs=n_pairs, seed=seed, show_progress=show_progress)
    parts = split_parts(whole, seed=seed)
    for name, part in parts.items():
        part.save_json(output / "data" / f"{name}.json")
    sizes = {name: len(part.queries) for name, part in parts.items()}
    report(
        f"{len(whole.queries):,} questions: {sizes['train']:,} to train on, {sizes['val']:,} to "
        f"validate with, {sizes['test']:,} to test with. No question of one part asks about a "
        f"passage of another. Validation and test rank all {len(whole.corpus):,} passages; "
        f"training answers with its own {len(parts['train'].corpus):,} only, and knows of the "
        "others no more than their vectors."
    )
    return whole, parts


def _record(
    embedded: EmbeddedDataset, finetuned: FinetuneResult, evaluation: Evaluation, embed_model: str
) -> dict[str, Any]:
    """Return the figures of the test questions, and what all steps took together."""
    stages = (embedded.cost.seconds, finetuned.seconds["embed"], evaluation.seconds["embed"])
    return result_record(
        evaluation.comparison,
        measured_on="test",
        adapter=finetuned.adapter,
        path=finetuned.path,
        embed_model=embed_model,
        seconds={
            "embed": sum(stages),
            "train": finetuned.seconds["train"],
            "evaluate": finetuned.seconds["evaluate"] + evaluation.seconds["evaluate"],
        },
        texts_embedded=(embedded.cost.texts + finetuned.texts_embedded + evaluation.texts_embedded),
    )


def split_parts(whole: EmbeddingQAFinetuneDataset, *, seed: int) -> Parts:
    """Split by passage into ``train``, ``val`` and ``test``; the latter two rank everything.

    Raises:
        InvalidDatasetError: when there are too few questions.
    """
    train, val, test = split_by_passage(whole, FRACTIONS, seed=seed)
    return {
        "train": train,
        "val": val.model_copy(update={"corpus": whole.corpus}),
        "test": test.model_copy(update={"corpus": whole.corpus}),
    }


def index_of(
    dataset: EmbeddingQAFinetuneDataset, vectors: VectorDataset, embed_model: BaseEmbedding
) -> VectorStoreIndex:
    """Return an index of a corpus whose vectors are there already; it embeds nothing."""
    nodes = [
        TextNode(id_=passage_id, text=dataset.corpus[passage_id], embedding=vector.tolist())
        for passage_id, vector in zip(vectors.passage_ids, vectors.passages, strict=True)
    ]
    return VectorStoreIndex(nodes, embed_model=embed_model)


def telling_questions(
    comparison: Comparison, dataset: EmbeddingQAFinetuneDataset
) -> list[tuple[str, str]]:
    """Choose questions that show what an adapter does, a loss among them where there is one.

    Returns:
        ``(why, query id)`` of the largest gain in nDCG@10, of the middle one of all changes, and
        of the largest loss; fewer when fewer changed.
    """
    n = len(dataset.queries)
    rows = [*comparison.best(n), *comparison.worst(n)[::-1]]  # from the largest gain down
    chosen: dict[int, str] = {}
    if comparison.wins:
        chosen[int(rows[0])] = "the largest gain"
    if rows:
        chosen.setdefault(int(rows[len(rows) // 2]), "the middle of all changes")
    if comparison.losses:
        chosen.setdefault(int(rows[-1]), "the largest loss")
    query_ids = list(dataset.queries)
    return [(why, query_ids[row]) for row, why in chosen.items()]


def _search(
    index: VectorStoreIndex,
    base_model: BaseEmbedding,
    adapted_model: BaseEmbedding,
    dataset: EmbeddingQAFinetuneDataset,
    query_id: str,
    chosen_as: str,
) -> Search:
    question = dataset.queries[query_id]

    def retrieved(embed_model: BaseEmbedding) -> tuple[str, ...]:
        retriever = index.as_retriever(similarity_top_k=RETRIEVED, embed_model=embed_model)
        # A bundle of its own: a retriever leaves its vector in the one it is given.
        return tuple(hit.node.node_id for hit in retriever.retrieve(QueryBundle(question)))

    return Search(
        chosen_as=chosen_as,
        question=question,
        wanted=dataset.relevant_docs[query_id][0],
        base=retrieved(base_model),
        adapted=retrieved(adapted_model),
    )
