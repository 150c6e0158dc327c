"""Every method that is compared, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import chroma, weightgain
from benchmarks.data import BenchmarkData
from benchmarks.environments import peer
from benchmarks.method import Learned, Method, Settings
from benchmarks.ours import finetuned, unchanged, without_another_corpus


def _chroma(loss: chroma.Loss) -> Callable[[BenchmarkData, Settings], Learned]:
    def learn(data: BenchmarkData, settings: Settings) -> Learned:
        layer, seconds = chroma.train(data.train, loss, seed=settings.seed)
        return Learned(chroma.adapted(layer, data.test.queries), data.test.passages, seconds)

    return learn


def _weightgain(data: BenchmarkData, settings: Settings) -> Learned:
    matrix, seconds = weightgain.train(data.train, data.val, seed=settings.seed)
    return Learned(data.test.queries @ matrix, data.test.passages @ matrix, seconds)


def _nothing_to_move(data: BenchmarkData) -> str | None:
    if not data.searches_training_passages:
        return "training asks about other passages than those that are searched"
    if data.val is None:
        return "it needs a validation set"
    return None


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("base", "all-MiniLM-L6-v2 as it is", "nothing", unchanged),
        Method(
            "auto",
            "this package, default options",
            "queries",
            finetuned("auto", know_target=True),
        ),
        Method(
            "auto-no-target",
            "the same, not knowing the passages searched",
            "queries",
            finetuned("auto"),
            why_not=without_another_corpus,
        ),
        Method("linear", 'this package, adapter="linear"', "queries", finetuned("linear")),
        Method(
            "llamaindex",
            "LlamaIndex's engine, options of its guide",
            "queries",
            peer("llamaindex", "llamaindex_engine.py"),
        ),
        Method("chroma-triplet", "Chroma's recipe, triplet loss", "queries", _chroma("triplet")),
        Method("chroma-pairwise", "Chroma's recipe, pairwise loss", "queries", _chroma("pairwise")),
        Method(
            "chroma-in-batch",
            "Chroma's recipe, triplets within the batch",
            "queries",
            _chroma("in-batch"),
        ),
        Method(
            "weightgain",
            "weightgain's training, reimplemented",
            "queries and document vectors",
            _weightgain,
        ),
        Method(
            "nudge-n",
            "NUDGE-N",
            "document vectors",
            peer("nudge", "nudge_engine.py", "nudge-n"),
            why_not=_nothing_to_move,
        ),
        Method(
            "nudge-m",
            "NUDGE-M",
            "document vectors",
            peer("nudge", "nudge_engine.py", "nudge-m"),
            why_not=_nothing_to_move,
        ),
        Method(
            "full-finetuning",
            "full fine-tuning, sentence-transformers",
            "the model",
            peer("sentence-transformers", "full_finetuning.py"),
            only_by_name=frozenset({"tldr"}),
        ),
    )
}
"""Every method by name."""
