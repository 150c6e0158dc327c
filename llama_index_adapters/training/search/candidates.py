"""What a search may try: ways to make an adapter from a training set and a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from llama_index_adapters.adapters.families import Arrays, Form, forms
from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.new import new_adapter
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.closed_form import difference_whitening, regression, whitening
from llama_index_adapters.training.frames import Frame, linear
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search.remember import memory_of

# Powers of the inverse second moment of the passages, the weakest first; of passages and queries.
PASSAGE_POWERS = (0.125, 0.25, 0.375)
BOTH_POWERS = (0.25, 0.25)
# How strongly a regression is pulled toward the identity.
PULLS = (10.0, 3.0, 1.0, 0.1)
# The power of the inverse second moment of the differences between queries and their passages.
DIFFERENCE_POWER = 0.35


class Method(IntEnum):
    """How an adapter comes to be, the simplest first."""

    IDENTITY = 0
    WHITENING = 1
    REGRESSION = 2
    LINEAR = 3
    OTHER_FORM = 4
    MEMORY = 5


class Complexity(NamedTuple):
    """Says which of two candidates is the simpler one: the smaller, compared as a tuple.

    Attributes:
        method: how the adapter comes to be.
        strength: among candidates of one method, how far it may go from where it starts: by
            powers, by how weak a pull is, by how many numbers are trained.
    """

    method: Method
    strength: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A way to make an adapter.

    Attributes:
        name: what is tried, in words.
        complexity: of candidates that are about equal, the one where it is smallest is taken.
        build: makes the adapter from a training set, the corpus it will search and a seed.
        options: how it is trained; None when nothing is.
        way: how far to go from the start to the trained weights, 1 for all of the way.
    """

    name: str
    complexity: Complexity
    build: Callable[[VectorDataset, FloatArray, int], BaseAdapter]
    options: TrainingOptions | None = None
    way: float = 1.0

    def on_the_way(self, start: Arrays, trained: Arrays) -> Arrays:
        """Return the weights between start and trained ones, by name."""
        return {
            name: np.asarray((1 - self.way) * start[name] + self.way * trained[name], np.float32)
            for name in trained
        }


def untrained_linear(dim: int, passage_dim: int) -> Candidate:
    """Return a linear adapter into another space as it starts."""
    return Candidate(
        "linear",
        Complexity(Method.LINEAR),
        lambda data, corpus, seed: LinearAdapter(dim, passage_dim),
    )


def unchanged(frame: Frame, dim: int) -> Candidate:
    """Return the adapter that leaves queries as they are, or as a frame has them."""
    return Candidate(
        frame.name,
        Complexity(Method.IDENTITY, frame.rank),
        lambda data, corpus, seed: frame.adapter(dim),
    )


def whitenings(frame: Frame) -> list[Candidate]:
    """Return the whitenings of the passages alone, the weakest first."""
    return [_whitening(power, 0.0, lambda data: [], frame) for power in PASSAGE_POWERS]


def whitening_of_both(
    query_log: FloatArray | None, frame: Frame, *, target_is_other_corpus: bool
) -> Candidate | None:
    """Return whitening of passages and queries, None when too little is known of the queries.

    Training queries say little about queries to another corpus; a log of them does.

    Args:
        query_log: ``(n, query_dim)`` queries without labels.
        frame: how queries get into the space of the passages.
        target_is_other_corpus: whether another corpus will be searched than the training queries
            are about.
    """
    if frame.weight is not None or (query_log is None and target_is_other_corpus):
        return None

    def known_queries(data: VectorDataset) -> list[FloatArray]:
        training = [] if target_is_other_corpus else [data.queries]
        return training if query_log is None else [*training, query_log]

    return _whitening(*BOTH_POWERS, known_queries, frame)


def _whitening(
    passage_power: float,
    query_power: float,
    known_queries: Callable[[VectorDataset], Sequence[FloatArray]],
    frame: Frame,
) -> Candidate:
    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        weight = whitening(
            corpus,
            np.concatenate(known_queries(data)) if query_power else None,
            passage_power=passage_power,
            query_power=query_power,
            similarity=data.similarity,
        )
        return linear(frame.then(weight))

    name = f"whitening, passages {passage_power:g}"
    if query_power:
        name += f", queries {query_power:g}"
    if frame.rank:
        name += f", {frame.name}"
    return Candidate(name, Complexity(Method.WHITENING, passage_power + query_power), build)


def regressions(passage_power: float, frame: Frame) -> list[Candidate]:
    """Return regressions on the labels, each followed by one whitening of the passages.

    Queries of the passages' own model are whitened by their differences first; the strongest pull
    leaves that alone.
    """
    pulls: list[float | None] = [*PULLS]
    if frame.weight is None:
        pulls.insert(0, None)
    return [_regression(pull, passage_power, frame) for pull in pulls]


def _regression(pull: float | None, passage_power: float, frame: Frame) -> Candidate:
    """Return one of them; without a pull there is no regression."""

    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        weight = whitening(corpus, passage_power=passage_power, similarity=data.similarity)
        if pull is not None:
            weight = weight @ regression(data, pull=pull, around=frame.weight)
        if frame.weight is None:
            weight = weight @ difference_whitening(data, power=DIFFERENCE_POWER)
        return linear(weight)

    name = _whitening(passage_power, 0.0, lambda data: [], frame).name
    if frame.weight is None:
        name += f", differences {DIFFERENCE_POWER:g}"
    if pull is not None:
        name = f"regression, pull {pull:g}, {name}"
    return Candidate(name, Complexity(Method.REGRESSION, 1 / pull if pull else 0.0), build)


def linear_from(start: Candidate, options: TrainingOptions, dim: int) -> Candidate:
    """Return a linear adapter that is trained from a start."""

    def build(data: VectorDataset, corpus: FloatArray, seed: int) -> BaseAdapter:
        adapter = start.build(data, corpus, seed)
        # The identity has nothing to train; a linear adapter starts as it.
        return LinearAdapter(dim) if isinstance(adapter, IdentityAdapter) else adapter

    name = f"linear from {start.name}, rate {options.learning_rate:.0e}"
    if options.scale != TrainingOptions.scale:
        name += f", scale {options.scale:g}"
    return Candidate(name, Complexity(Method.LINEAR, 1.0), build, options)


def part_of_the_way(trained: Candidate, way: float) -> Candidate:
    """Return a linear adapter that goes back toward its start after training.

    The mean of the weights before and after training keeps more of what the start did right where
    training had nothing to say (Wortsman et al., arXiv:2109.01903).

    Args:
        trained: a linear adapter.
        way: the share of the trained weights, above 0 and below 1.
    """
    name = f"{trained.name}, {way:.0%} of the way"
    return replace(trained, name=name, complexity=Complexity(Method.LINEAR, way), way=way)


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
    parameters = new_adapter(form.name, dim, passage_dim).parameters()
    return Candidate(
        form.name if rank is None else f"{form.name}, rank {rank}",
        Complexity(Method.OTHER_FORM, sum(value.numel() for value in parameters)),
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
    return Candidate(f"memory, from {start.name}", Complexity(Method.MEMORY), build, options)
