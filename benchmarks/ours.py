"""This package's own methods, through the engine that the command line uses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import BenchmarkData
from benchmarks.method import Learned, Settings
from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine


def unchanged(data: BenchmarkData, settings: Settings) -> Learned:
    """Return the vectors as the base model gave them."""
    return Learned(data.test.queries, data.test.passages, 0.0)


def other_passages(data: BenchmarkData) -> list[str] | None:
    """Return the passages that will be searched, if training does not have them all.

    That is what ``llama-index-adapters finetune --test`` gives as the target corpus.
    """
    passages = list(data.texts.test.corpus.values())
    return passages if set(passages) - set(data.texts.train.corpus.values()) else None


def finetuned(
    adapter: str, *, know_target: bool = False
) -> Callable[[BenchmarkData, Settings], Learned]:
    """Return a method that finetunes an adapter with default options.

    Args:
        adapter: what to learn, as the engine names it.
        know_target: give the passages that will be searched, without questions or labels.
    """

    def learn(data: BenchmarkData, settings: Settings) -> Learned:
        with TemporaryDirectory() as directory:
            engine = EmbeddingAdapterFinetuneEngine(
                data.texts.train,
                data.embed_model,
                val_dataset=data.texts.val,
                model_output_path=Path(directory) / "adapter",
                adapter=adapter,
                target_corpus=other_passages(data) if know_target else None,
                seed=settings.seed,
                store=data.store,
                show_progress=sys.stderr.isatty(),
            )
            result = engine.finetune()
            queries = engine.get_finetuned_model().transform_queries(data.test.queries)
        chosen = [trial.name for trial in result.trials if trial.chosen]
        return Learned(
            queries,
            data.test.passages,
            result.seconds["train"],
            detail=f"chose {chosen[0]}" if chosen else f"kept {result.adapter}",
        )

    return learn


def without_another_corpus(data: BenchmarkData) -> str | None:
    """Say why knowing the target corpus changes nothing, when training has all of it."""
    if other_passages(data) is None:
        return "training has every passage that is searched: the same as auto"
    return None
