"""A sample that stands for the whole corpus, and what is never a negative."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.retrieval.ranking import SIMILARITIES, top_k, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.mining import mine
from llama_index_adapters.training.objective import RetrievalObjective
from llama_index_adapters.training.options import (
    DRAWN_NEGATIVES,
    WHOLE_CORPUS_UP_TO,
    TrainingOptions,
)
from llama_index_adapters.training.validation import judge

CPU = torch.device("cpu")
NONE = np.zeros(0, np.int64)
N_QUERIES, N_PASSAGES, DIM = 6, 40, 5
ROWS = torch.arange(N_QUERIES)
RELEVANCE = [[0], [3, 1], [2, 22], [5], [11], [12, 0]]


def dataset(similarity="cosine") -> VectorDataset:
    rng = np.random.default_rng(0)
    return VectorDataset(
        rng.normal(size=(N_QUERIES, DIM)) * rng.uniform(0.5, 4, (N_QUERIES, 1)),
        rng.normal(size=(N_PASSAGES, DIM)) * rng.uniform(0.5, 4, (N_PASSAGES, 1)),
        Relevance.from_rows(RELEVANCE),
        similarity=similarity,
    )


def objective(data: VectorDataset, **options: object) -> RetrievalObjective:
    return RetrievalObjective(data, scale=4.0, unit_input=True, device=CPU, **options)


def sums(data: VectorDataset, queries: torch.Tensor, **options: object) -> torch.Tensor:
    """The summed exponentials of the negatives' scores, ``(n_queries,)``."""
    given = objective(data, **options)
    owner, positive, _ = given._answers.of_batch(ROWS)
    return given._negatives.logsumexp(queries, ROWS, owner, positive).exp()


@pytest.mark.parametrize(
    ("similarity", "mined"), [("cosine", 0), ("cosine", 3), ("dot_product", 3), ("euclidean", 0)]
)
def test_the_mean_of_many_samples_is_the_whole_corpus(similarity, mined):
    data, queries = dataset(similarity), torch.from_numpy(unit_rows(dataset().queries))
    unseen = np.array([7, 8, 30])
    near = mine(queries.numpy(), data, mined, unseen) if mined else None
    exact = sums(data, queries, unseen=unseen)
    drawn = torch.stack(
        [
            sums(data, queries, unseen=unseen, negatives=9, mined=near, seed=seed)
            for seed in range(1000)
        ]
    )
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    assert (drawn.std(dim=0) > 0).all()
    assert ((drawn.mean(dim=0) - exact).abs() < 4 * error + 0.01 * exact).all()


def test_mined_passages_make_the_estimate_better():
    data, queries = dataset(), 8 * torch.from_numpy(unit_rows(dataset().queries))
    near = mine(queries.numpy(), data, 6, NONE)
    exact = sums(data, queries).log()

    def error(mined):
        drawn = [sums(data, queries, negatives=8, mined=mined, seed=seed) for seed in range(50)]
        return float((torch.stack(drawn).log() - exact).abs().mean())

    assert error(near) < error(None) / 3


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_passages_but_one_and_mined_ones_count_exactly(similarity):
    """When every passage is drawn or mined there is nothing left to estimate."""
    data, queries = dataset(similarity), torch.from_numpy(unit_rows(dataset().queries))
    near = mine(queries.numpy(), data, 5, NONE)
    given = objective(data, negatives=N_PASSAGES - 1, mined=near)
    sampled = given._negatives
    sampled._count = N_PASSAGES
    owner, positive, _ = given._answers.of_batch(ROWS)
    found = sampled.logsumexp(queries, ROWS, owner, positive)
    torch.testing.assert_close(found.exp(), sums(data, queries))


def test_the_gradient_of_a_sample_is_that_of_its_value():
    data = dataset()
    near = mine(unit_rows(data.queries), data, 3, NONE)

    def loss(adapted):
        return objective(data, negatives=9, mined=near, seed=3).loss(adapted, ROWS)

    adapted = torch.randn(N_QUERIES, DIM, generator=torch.Generator().manual_seed(0))
    adapted.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(adapted), adapted)
    step = 1e-2
    for row, column in product(range(2), range(DIM)):
        moved = torch.zeros_like(adapted)
        moved[row, column] = step
        with torch.no_grad():
            slope = (loss(adapted + moved) - loss(adapted - moved)) / (2 * step)
        assert float(gradient[row, column]) == pytest.approx(float(slope), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("negatives", [None, 20])
def test_unseen_passages_change_nothing(negatives):
    """Held-out passages can be anything: the loss is that of a corpus without them."""
    data, rows = dataset(), np.array([7, 8, 30])
    other = data.passages.copy()
    other[rows] = unit_rows(data.queries)[:3]  # as near as can be
    changed = VectorDataset(data.queries, other, data.relevance)
    queries = torch.from_numpy(data.queries)
    losses = [
        float(objective(given, unseen=rows, negatives=negatives, seed=5).loss(queries, ROWS))
        for given in (data, changed)
    ]
    assert losses[0] == losses[1]
    assert float(objective(changed, negatives=negatives, seed=5).loss(queries, ROWS)) > losses[0]


class TestMining:
    def test_the_nearest_that_are_not_relevant(self):
        data, unseen = dataset(), np.array([4, 9])
        found = mine(data.queries, data, 5, unseen)
        ranked = top_k(data.queries, data.passages, N_PASSAGES).passages
        for query, rows in enumerate(found):
            barred = {*RELEVANCE[query], *unseen}
            assert rows.tolist() == [row for row in ranked[query] if row not in barred][:5]

    def test_a_corpus_with_fewer(self):
        data = dataset()
        small = VectorDataset(
            data.queries[:2], data.passages[:3], Relevance.from_rows([[0], [1, 2]])
        )
        found = mine(small.queries, small, 5, NONE)
        assert [sorted(rows[rows >= 0].tolist()) for rows in found] == [[1, 2], [0]]

    def test_the_vector_store_is_asked_once_for_all(self):
        data, asked = dataset(), []

        def search(queries, k):
            asked.append((len(queries), k))
            rows = np.tile(np.arange(k), (len(queries), 1))
            rows[:, -1] = -1  # the store had no more
            return rows

        found = mine(
            data.queries,
            VectorDataset(data.queries, data.passages, data.relevance, search=search),
            3,
            NONE,
        )
        assert asked == [(N_QUERIES, 6)]
        assert found[0].tolist() == [1, 2, 3]  # 0 is relevant to it
        assert found[1].tolist() == [0, 2, 4]  # 1 and 3 are


def rotated(n=400) -> VectorDataset:
    """Queries that one rotation turns into their passages."""
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(n, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    return VectorDataset(passages @ turn, passages, Relevance.from_rows([[i] for i in range(n)]))


@pytest.mark.parametrize(
    "options",
    [{"negatives": 32}, {"negatives": 32, "mined": 4}, {"precision": "bfloat16"}],
    ids=str,
)
def test_what_is_learned_is_as_good_as_from_the_whole_corpus(options):
    data = rotated()
    base = judge(data.queries, data)["ndcg@10"].mean()
    reached = {}
    for name, changes in {"whole": {"negatives": "all"}, "sampled": options}.items():
        training = TrainingOptions(epochs=40, batch_size=32, learning_rate=2e-2)
        run = train_adapter(LinearAdapter(8), data, data, training.updated(changes))
        reached[name] = run.history[run.best_epoch].validation
    assert base < 0.2
    assert reached["whole"] > 0.9
    assert reached["sampled"] > reached["whole"] - 0.03


def test_the_same_seed_gives_the_same_bytes():
    weights = []
    for seed in (1, 1, 2):
        options = TrainingOptions(epochs=2, negatives=16, mined=2, seed=seed)
        adapter = LinearAdapter(8)
        train_adapter(adapter, rotated(), None, options)
        weights.append(adapter.arrays()["linear.weight"].tobytes())
    assert weights[0] == weights[1] != weights[2]


def test_large_corpora_are_sampled_and_small_ones_are_not():
    options = TrainingOptions()
    assert options.negatives_of(WHOLE_CORPUS_UP_TO) is None
    assert options.negatives_of(WHOLE_CORPUS_UP_TO + 1) == DRAWN_NEGATIVES
    assert options.updated({"negatives": "all"}).negatives_of(10**9) is None
    assert options.updated({"negatives": 7}).negatives_of(10) == 7
