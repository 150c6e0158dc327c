"""What a search may try: ways to make an adapter from a training set and a corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.adapters.families import Form, forms
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.new import new_adapter
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.closed_form import regression, whitening
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search.remember import memory_of

# Powers of the inverse second moment of the passages, mildest first; of passages and queries.
PASSAGE_POWERS = (0.125, 0.25, 0.375)
BOTH_POWERS = (0.25, 0.25)
# How strongly a regression is pulled toward the identity.
PULLS = (10.0, 3.0, 1.0, 0.1)


@dataclass(frozen=True)
class Candidate:
    """A way to make an adapter.

    Attributes:
        name: what is tried, in words.
        build: makes the adapter from a training set, the corpus it will search and a seed.
        options: how it is trained; None when nothing is.
    """

    name: str
    build: Callable[[VectorDataset, FloatArray, int], BaseAdapter]
    options: TrainingOptions | None = None


def unlabelled(
    dim: int, passage_dim: int, elsewhere: bool, query_log: FloatArray | None
) -> list[Candidate]:
    """Return the candidates that need no labels, the simplest first."""
    if dim != passage_dim:
        return [Candidate("linear", lambda data, corpus, seed: LinearAdapter(dim, passage_dim))]
    return [
        Candidate("identity", lambda data, corpus, seed: IdentityAdapter(dim)),
        *whitenings(),
        # Training queries say little of how queries about another corpus are spread; a log does.
        *(
            [_whitening(*BOTH_POWERS, alike=not elsewhere, query_log=query_log)]
            if query_log is not None or not elsewhere
            else []
        ),
    ]


def whitenings() -> list[Candidate]:
    """Return the whitenings of the passages alone, the mildest first."""
    return [_whitening(power) for power in PASSAGE_POWERS]


def regressions(spread: Candidate) -> list[Candidate]:
    """Return regressions on the labels, each followed by one whitening of the passages."""
    return [_regression(pull, spread) for pull in PULLS]


def _whitening(
    passage_power: float,
    query_power: float = 0.0,
    *,
    alike: bool = True,
    query_log: FloatArray | None = None,
) -> Candidate:
    """Return whitening; ``alike`` says whether training queries are spread as later ones."""

    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        known = ([data.queries] if alike else []) + ([] if query_log is None else [query_log])
        weight = whitening(
            corpus,
            np.concatenate(known) if query_power else None,
            passage_power=passage_power,
            query_power=query_power,
            similarity=data.similarity,
        )
        return _linear(weight)

    name = f"whitening, passages {passage_power:g}"
    return Candidate(name + (f", queries {query_power:g}" if query_power else ""), build)


def _regression(pull: float, spread: Candidate) -> Candidate:
    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        weight = spread.build(data, corpus, seed).arrays()["linear.weight"]
        return _linear(weight @ regression(data, pull=pull))

    return Candidate(f"regression, pull {pull:g}, {spread.name}", build)


def _linear(weight: NDArray[np.float32]) -> LinearAdapter:
    adapter = LinearAdapter(weight.shape[1], weight.shape[0])
    adapter.load_arrays({"linear.weight": weight})
    return adapter


def linear_from(start: Candidate, options: TrainingOptions, dim: int) -> Candidate:
    """Return a linear adapter that is trained from a start."""

    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        adapter = start.build(data, corpus, seed)
        # The identity has nothing to train; a linear adapter starts as it.
        return LinearAdapter(dim) if isinstance(adapter, IdentityAdapter) else adapter

    name = f"linear from {start.name}, rate {options.learning_rate:.0e}"
    if options.scale != TrainingOptions.scale:
        name += f", scale {options.scale:g}"
    return Candidate(name, build, options)


def small_families(options: TrainingOptions, dim: int, passage_dim: int) -> list[Candidate]:
    """Return the families that seldom win, for sets on which a trial costs little."""
    options = replace(options, learning_rate=1e-3)
    return [
        _untrained(form, options, dim, passage_dim)
        for _, form in forms().values()
        if form.searched_on_small_sets and (form.rank is None or dim == passage_dim)
    ]


def _untrained(form: Form, options: TrainingOptions, dim: int, passage_dim: int) -> Candidate:
    rank = form.rank_for(dim)
    return Candidate(
        form.name if rank is None else f"{form.name}, rank {rank}",
        lambda data, corpus, seed: new_adapter(form.name, dim, passage_dim, seed=seed),
        options,
    )


def memory(start: Candidate, options: TrainingOptions) -> Candidate:
    """Return a memory of the training queries beside a linear map."""

    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        first = start.build(data, corpus, seed)
        weight = np.eye(data.passages.shape[1], data.queries.shape[1], dtype=np.float32)
        if isinstance(first, LinearAdapter):
            weight = first.arrays()["linear.weight"]
        return memory_of(data, weight, seed=seed)

    epochs = min(4, options.epochs)
    options = replace(options, learning_rate=1e-3, epochs=epochs, patience=epochs)
    return Candidate(f"memory, from {start.name}", build, options)
