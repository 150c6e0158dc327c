"""What users write, as a type checker sees it; it is never run.

``make typecheck`` checks it. A line that ends in ``type: ignore`` is
wrong on purpose: mypy reports an ignore that nothing needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from typing_extensions import assert_type

import llama_index_adapters
from llama_index_adapters import (
    AdapterEmbeddingModel,
    AdaptersError,
    Comparison,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    FinetuneResult,
    InvalidOptionError,
    Relevance,
    TrainingOptions,
    TwoLayerAdapter,
    VectorDataset,
    compare_adapters,
    evaluate,
    finetune_without_labels,
    generate_qa_embedding_pairs,
    merge_datasets,
    read_index,
    sample_queries,
    split_by_passage,
)


class LlamaIndexDataset(BaseModel):
    """The fields of the dataset in llama-index-finetuning."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, list[str]]
    mode: str = "text"


class OwnQuestions:
    """A question set that knows nothing of this package."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, set[str]]


def every_kind_of_question_set(
    checked: EmbeddingQAFinetuneDataset,
    theirs: LlamaIndexDataset,
    own: OwnQuestions,
    mapping: dict[str, dict[str, str]],
    vectors: VectorDataset,
    model: BaseEmbedding,
) -> None:
    EmbeddingAdapterFinetuneEngine(checked, model, val_dataset=theirs)
    EmbeddingAdapterFinetuneEngine(own, model, val_dataset=mapping)
    EmbeddingAdapterFinetuneEngine(vectors, None)
    EmbeddingAdapterFinetuneEngine("train.json", model)  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine(["a question"], model)  # type: ignore[arg-type]
    assert_type(merge_datasets(checked, theirs, own, mapping), EmbeddingQAFinetuneDataset)
    assert_type(merge_datasets(vectors, vectors), VectorDataset)
    merge_datasets(checked, vectors)  # type: ignore[call-overload]
    assert_type(split_by_passage(theirs), tuple[EmbeddingQAFinetuneDataset, ...])
    assert_type(split_by_passage(vectors), tuple[VectorDataset, ...])
    assert_type(sample_queries(vectors, 3), VectorDataset)


def every_way_to_give_options(data: OwnQuestions, model: BaseEmbedding) -> FinetuneResult | None:
    options = TrainingOptions(learning_rate=1e-4, patience=3, precision="bfloat16")
    TrainingOptions(precision="float16")  # type: ignore[arg-type]
    TrainingOptions(40)  # type: ignore[call-arg]
    engine = EmbeddingAdapterFinetuneEngine(
        data, model, 64, 10, adapter="low-rank", rank=8, similarity="dot_product", options=options
    )
    EmbeddingAdapterFinetuneEngine(data, model, adapter="linaer")  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine(data, model, similarity="l2")  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine(data, model, options={"epochs": 3})  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine.from_model_path(data, model, "adapter", options=options)
    try:
        result = engine.finetune()
    except InvalidOptionError as error:
        raise AdaptersError from error
    assert_type(result, FinetuneResult)
    assert_type(result.comparison, Comparison | None)
    return result


def an_adapter_of_ones_own_shape(data: VectorDataset) -> None:
    adapter = TwoLayerAdapter(384, activation="tanh")
    TwoLayerAdapter(384, activation="softmax")  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine(data, None, adapter_model=adapter)
    EmbeddingAdapterFinetuneEngine(data, None, adapter_model=384)  # type: ignore[arg-type]


def measuring(base: BaseEmbedding, questions: OwnQuestions) -> float:
    in_use, candidate = (AdapterEmbeddingModel(base, Path(name)) for name in ("may", "june"))
    if compare_adapters(in_use, candidate, questions).switch:
        in_use = candidate
    evaluate(in_use, [questions])  # type: ignore[arg-type]
    comparison = evaluate(in_use, questions, similarity="euclidean").comparison
    return comparison.gains[comparison.metric].mean


def without_texts(index: VectorStoreIndex, model: BaseEmbedding) -> None:
    corpus = read_index(index)
    read_index(SimpleVectorStore(), model)
    read_index("index", model)  # type: ignore[arg-type]
    data = corpus.dataset({"why?": ["node"]}, unknown_nodes="drop")
    corpus.dataset("clicks.csv", unknown_nodes="keep")  # type: ignore[arg-type]
    EmbeddingAdapterFinetuneEngine(data, model)
    rows = np.eye(3, dtype=np.float32)
    VectorDataset(rows, rows, Relevance.from_rows([[0], [1], [2]]), similarity="cosine")
    assert_type(finetune_without_labels(["a", "b"], model), AdapterEmbeddingModel)


def generating(nodes: list[BaseNode], llm: LLM) -> EmbeddingQAFinetuneDataset:
    generate_qa_embedding_pairs(nodes, llm, None, on_failure="stop")  # type: ignore[arg-type]
    return generate_qa_embedding_pairs(nodes, llm, "Ask about {context_str}", 3)


def a_name_that_is_not_there() -> None:
    llama_index_adapters.Adaptor()  # type: ignore[attr-defined]
