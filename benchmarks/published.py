"""Figures that others published, with where they stand.

None of them is of the vectors measured here, so they are put beside the table and not into it.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One published result: whose, on what, the figures before and after, and the source."""

    what: str
    on: str
    figures: str
    source: str


PUBLISHED: tuple[Published, ...] = (
    Published(
        "LlamaIndex's engine, linear, 4 epochs",
        "the questions of tenk, bge-small-en",
        "hit rate@5 0.787 → 0.797, MRR@5 0.643 → 0.649",
        "its guide, docs/examples/finetuning/embeddings/finetune_embedding_adapter.ipynb in "
        "run-llama/llama_index",
    ),
    Published(
        "full fine-tuning, sentence-transformers, 2 epochs",
        "the questions of tenk, bge-small-en",
        "hit rate@5 0.787 → 0.844 (the test questions were the ones it validated on)",
        "evaluate.ipynb and finetune.ipynb in run-llama/finetune-embedding",
    ),
    Published(
        "Chroma's recipe",
        "CQADupstack English, all-MiniLM-L6-v2",
        "nDCG up to 70% higher than the base model's, as its authors measure it",
        "https://research.trychroma.com/embedding-adapters",
    ),
    Published(
        "NUDGE-N",
        "NFCorpus, bge-small-en-v1.5",
        "nDCG@10 0.339 → 0.445",
        "README of szeighami/nudge; the paper is arXiv:2409.02343",
    ),
    Published(
        "weightgain",
        "none known",
        "its README promises a gain and gives no figure",
        "README of shobrook/weightgain",
    ),
)
