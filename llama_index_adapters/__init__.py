"""Finetune a query-side adapter for any embedding model and use it in LlamaIndex retrievers.

Names are imported on first use, so that ``import llama_index_adapters`` and serving an
adapted query import no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llama_index_adapters.version import __version__ as __version__

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter
    from llama_index_adapters.adapters.learned.linear import LinearAdapter, LinearLayer
    from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
    from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
    from llama_index_adapters.engines.base import BaseEmbeddingFinetuneEngine, FinetuneResult
    from llama_index_adapters.engines.unlabelled import finetune_without_labels
    from llama_index_adapters.errors import (
        AdaptersError,
        EmbeddingError,
        GenerationError,
        InvalidAdapterError,
        InvalidDatasetError,
        InvalidFileError,
        InvalidOptionError,
        InvalidVectorsError,
        MissingExtraError,
        MissingFileError,
        ModelMismatchError,
        NotTrainedError,
        TrainingError,
        UnknownOptionError,
        UnsupportedStoreError,
        UnwritableFileError,
    )
    from llama_index_adapters.evaluation.comparison import Comparison
    from llama_index_adapters.evaluation.evaluate import evaluate
    from llama_index_adapters.evaluation.replacement import compare_adapters
    from llama_index_adapters.index.pages import Page, Reading
    from llama_index_adapters.index.read import read_index
    from llama_index_adapters.index.registry import register_reader
    from llama_index_adapters.index.rewrite import rewrite_index
    from llama_index_adapters.questions.combine import merge_datasets, sample_queries
    from llama_index_adapters.questions.generation.generate import (
        agenerate_qa_embedding_pairs,
        generate_qa_embedding_pairs,
    )
    from llama_index_adapters.questions.logs import read_feedback, read_grades, read_queries
    from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
    from llama_index_adapters.questions.split import split_by_passage, split_by_query
    from llama_index_adapters.questions.trec import (
        read_beir,
        read_qrels,
        write_beir,
        write_qrels,
    )
    from llama_index_adapters.retrieval.relevance import Relevance
    from llama_index_adapters.retrieval.vector_dataset import VectorDataset
    from llama_index_adapters.serving.model import (
        AdapterEmbeddingModel,
        LinearAdapterEmbeddingModel,
    )
    from llama_index_adapters.training.options import TrainingOptions
    from llama_index_adapters.vectors.local import local_embedding


_HOMES = {
    "AdapterEmbeddingModel": "serving.model",
    "AdaptersError": "errors",
    "BaseAdapter": "adapters.learned.base",
    "BaseEmbeddingFinetuneEngine": "engines.base",
    "Comparison": "evaluation.comparison",
    "EmbeddingAdapterFinetuneEngine": "engines.adapter",
    "EmbeddingError": "errors",
    "EmbeddingQAFinetuneDataset": "questions.question_set",
    "FinetuneResult": "engines.base",
    "GenerationError": "errors",
    "InvalidAdapterError": "errors",
    "InvalidDatasetError": "errors",
    "InvalidFileError": "errors",
    "InvalidOptionError": "errors",
    "InvalidVectorsError": "errors",
    "LinearAdapter": "adapters.learned.linear",
    "LinearAdapterEmbeddingModel": "serving.model",
    "LinearLayer": "adapters.learned.linear",
    "MissingExtraError": "errors",
    "MissingFileError": "errors",
    "ModelMismatchError": "errors",
    "NotTrainedError": "errors",
    "Page": "index.pages",
    "Reading": "index.pages",
    "Relevance": "retrieval.relevance",
    "TrainingError": "errors",
    "TrainingOptions": "training.options",
    "TwoLayerAdapter": "adapters.learned.two_layer",
    "TwoLayerNN": "adapters.learned.two_layer",
    "UnknownOptionError": "errors",
    "UnsupportedStoreError": "errors",
    "UnwritableFileError": "errors",
    "VectorDataset": "retrieval.vector_dataset",
    "agenerate_qa_embedding_pairs": "questions.generation.generate",
    "compare_adapters": "evaluation.replacement",
    "evaluate": "evaluation.evaluate",
    "finetune_without_labels": "engines.unlabelled",
    "generate_qa_embedding_pairs": "questions.generation.generate",
    "local_embedding": "vectors.local",
    "merge_datasets": "questions.combine",
    "read_beir": "questions.trec",
    "read_feedback": "questions.logs",
    "read_grades": "questions.logs",
    "read_index": "index.read",
    "read_qrels": "questions.trec",
    "read_queries": "questions.logs",
    "register_reader": "index.registry",
    "rewrite_index": "index.rewrite",
    "sample_queries": "questions.combine",
    "split_by_passage": "questions.split",
    "split_by_query": "questions.split",
    "write_beir": "questions.trec",
    "write_qrels": "questions.trec",
}

__all__ = [
    "AdapterEmbeddingModel",
    "AdaptersError",
    "BaseAdapter",
    "BaseEmbeddingFinetuneEngine",
    "Comparison",
    "EmbeddingAdapterFinetuneEngine",
    "EmbeddingError",
    "EmbeddingQAFinetuneDataset",
    "FinetuneResult",
    "GenerationError",
    "InvalidAdapterError",
    "InvalidDatasetError",
    "InvalidFileError",
    "InvalidOptionError",
    "InvalidVectorsError",
    "LinearAdapter",
    "LinearAdapterEmbeddingModel",
    "LinearLayer",
    "MissingExtraError",
    "MissingFileError",
    "ModelMismatchError",
    "NotTrainedError",
    "Page",
    "Reading",
    "Relevance",
    "TrainingError",
    "TrainingOptions",
    "TwoLayerAdapter",
    "TwoLayerNN",
    "UnknownOptionError",
    "UnsupportedStoreError",
    "UnwritableFileError",
    "VectorDataset",
    "agenerate_qa_embedding_pairs",
    "compare_adapters",
    "evaluate",
    "finetune_without_labels",
    "generate_qa_embedding_pairs",
    "local_embedding",
    "merge_datasets",
    "read_beir",
    "read_feedback",
    "read_grades",
    "read_index",
    "read_qrels",
    "read_queries",
    "register_reader",
    "rewrite_index",
    "sample_queries",
    "split_by_passage",
    "split_by_query",
    "write_beir",
    "write_qrels",
]


if not TYPE_CHECKING:  # type checkers would take every name for one that is there

    def __getattr__(name: str) -> Any:
        """Import a public name from the module it lives in (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
