"""The loss in blocks against the same loss written down plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from llama_index_adapters.retrieval.ranking import SIMILARITIES, top_k, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training import negatives
from llama_index_adapters.training.closed_form import mean_passages
from llama_index_adapters.training.negatives import log_sum_exp_but
from llama_index_adapters.training.objective import RetrievalObjective

CPU = torch.device("cpu")
SCALE = 20.0
N_QUERIES, N_PASSAGES, DIM = 7, 23, 5


def dataset(similarity="cosine", relevance=None, seed=0) -> VectorDataset:
    rng = np.random.default_rng(seed)
    return VectorDataset(
        rng.normal(size=(N_QUERIES, DIM)) * rng.uniform(0.5, 4, (N_QUERIES, 1)),
        rng.normal(size=(N_PASSAGES, DIM)) * rng.uniform(0.5, 4, (N_PASSAGES, 1)),
        Relevance.from_rows(relevance or [[row] for row in range(N_QUERIES)]),
        similarity=similarity,
    )


SEVERAL = [[0], [3, 1, 7], [2, 22], [5, 6, 8, 9, 10, 21], [11], [12, 0], [0]]


def of(data: VectorDataset, unit_input=True) -> RetrievalObjective:
    return RetrievalObjective(data, scale=SCALE, unit_input=unit_input, device=CPU)


def in_double(given: RetrievalObjective) -> RetrievalObjective:
    """Let the same code compute in float64, where agreement means the same formula."""
    given._lengths = given._lengths.double()
    for name in ("_passages", "_offset", "_barred"):
        tensor = getattr(given._negatives, name)
        setattr(given._negatives, name, None if tensor is None else tensor.double())
    return given


def plain_loss(data: VectorDataset, adapted: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """The definition: all scores at once, one query and one positive after the other."""
    passages = torch.from_numpy(data.passages).double()
    lengths = torch.from_numpy(np.linalg.norm(data.queries.astype("float64"), axis=1))
    typical = (passages**2).sum(1).mean().sqrt()
    typical_query = (lengths**2).mean().sqrt()
    per_query = []
    for position, row in enumerate(rows):
        direction = functional.normalize(adapted[position], dim=0)
        if data.similarity == "cosine":
            scores = functional.normalize(passages, dim=1) @ direction
        elif data.similarity == "dot_product":
            scores = passages @ direction / typical
        else:
            query = direction * lengths[row]
            distances = ((query - passages) ** 2).sum(1)
            # Half the squared distance but for the query's own length, which ranks nothing.
            scores = (lengths[row] ** 2 - distances) / 2 / (typical * typical_query)
        scores = SCALE * scores
        positives = data.relevance[row].tolist()
        negatives = [passage for passage in range(len(passages)) if passage not in positives]
        against = torch.logsumexp(scores[negatives], 0)
        per_pair = [torch.log1p(torch.exp(against - scores[passage])) for passage in positives]
        per_query.append(torch.stack(per_pair).mean())
    return torch.stack(per_query).mean()


def adapted_start(seed=1, n=N_QUERIES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, DIM, dtype=torch.float64, generator=generator, requires_grad=True)


def value_and_gradient(loss: torch.Tensor, adapted: torch.Tensor) -> tuple[float, np.ndarray]:
    (gradient,) = torch.autograd.grad(loss, adapted)
    return loss.item(), gradient.numpy()


# Every pair of two of the three once or more, not all triples.
@pytest.mark.parametrize(
    ("similarity", "relevance", "block"),
    [
        ("cosine", None, 1),
        ("cosine", SEVERAL, 4),
        ("dot_product", None, 4),
        ("dot_product", SEVERAL, 10 * N_PASSAGES),
        ("euclidean", None, 10 * N_PASSAGES),
        ("euclidean", SEVERAL, 1),
    ],
)
def test_equals_the_plain_loss(monkeypatch, similarity, relevance, block):
    rows = [2, 0, 5, 3, 1]
    monkeypatch.setattr(negatives, "_BLOCK_ELEMENTS", block * len(rows))
    data = dataset(similarity, relevance)
    adapted = adapted_start(n=len(rows))
    found = value_and_gradient(in_double(of(data)).loss(adapted, torch.tensor(rows)), adapted)
    expected = value_and_gradient(plain_loss(data, adapted, rows), adapted)
    # The typical lengths that scores are divided by are kept in float32.
    np.testing.assert_allclose(found[0], expected[0], rtol=3e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)
    assert np.abs(expected[1]).max() > 1e-3


def test_float32_is_near(subtests):
    for similarity in SIMILARITIES:
        with subtests.test(similarity=similarity):
            data = dataset(similarity, SEVERAL)
            adapted = adapted_start()
            single = adapted.detach().float().requires_grad_()
            rows = torch.arange(N_QUERIES)
            found = value_and_gradient(of(data).loss(single, rows), single)
            expected = value_and_gradient(plain_loss(data, adapted, rows.tolist()), adapted)
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("block", "with_offset"), [(1, True), (3, False), (3, True), (100, True)])
def test_gradcheck(monkeypatch, block, with_offset):
    monkeypatch.setattr(negatives, "_BLOCK_ELEMENTS", block * 3)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    passages = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    offset = torch.randn(6, dtype=torch.float64, generator=generator) if with_offset else None
    owner, positive = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 4, 5])

    def log_sum_exp(given: torch.Tensor) -> torch.Tensor:
        return log_sum_exp_but(given, passages, offset, owner, positive)

    assert torch.autograd.gradcheck(log_sum_exp, (queries,))


class TestPositives:
    def test_they_never_compete(self):
        """Two relevant passages lose what each would lose if the other were not there."""
        data = dataset(relevance=[[0, 1], *([[row] for row in range(2, N_QUERIES + 1)])])
        row, query = torch.tensor([0]), torch.from_numpy(data.queries[:1])
        rest = list(range(2, N_PASSAGES))
        alone = []
        for kept in (0, 1):
            relevance = Relevance.from_rows([[0]] * N_QUERIES)
            part = VectorDataset(data.queries, data.passages[[kept, *rest]], relevance)
            alone.append(float(of(part).loss(query, row)))
        assert abs(alone[0] - alone[1]) > 0.1
        assert float(of(data).loss(query, row)) == pytest.approx(sum(alone) / 2, rel=1e-6)

    def test_one_weighs_as_much_as_its_grade(self):
        """A passage of grade 3 is as if it were named three times."""
        data = dataset(relevance=SEVERAL)
        rows = torch.arange(N_QUERIES)
        adapted = torch.from_numpy(data.queries)
        grades = [[1 + 2 * (place == 0) for place in range(len(row))] for row in SEVERAL]
        graded, named = (
            VectorDataset(data.queries, data.passages, relevance)
            for relevance in (
                Relevance.from_rows(SEVERAL, grades),
                Relevance.from_rows([[row[0], row[0], *row] for row in SEVERAL]),
            )
        )
        loss = float(of(graded).loss(adapted, rows))
        assert loss == pytest.approx(float(of(named).loss(adapted, rows)), rel=1e-6)
        assert loss != pytest.approx(float(of(data).loss(adapted, rows)), rel=1e-4)
        np.testing.assert_allclose(mean_passages(graded), mean_passages(named), rtol=1e-6)

    def test_a_closer_one_lowers_the_loss(self):
        data = dataset(relevance=SEVERAL)
        adapted = torch.from_numpy(data.queries[[3]])
        rows, shown = torch.tensor([3]), of(data)
        before = float(shown.loss(adapted, rows))
        shown._negatives._passages[8] = torch.from_numpy(unit_rows(data.queries[[3]]))[0]
        assert float(shown.loss(adapted, rows)) < before

    def test_a_block_of_nothing_but_positives(self, monkeypatch):
        """Blocks of two: the first of query 0 and the last of query 1 hold no negative."""
        monkeypatch.setattr(negatives, "_BLOCK_ELEMENTS", 2 * N_QUERIES)
        last = N_PASSAGES - 1
        data = dataset(relevance=[[0, 1], [last], *([[4, 5]] * (N_QUERIES - 2))])
        adapted = adapted_start()
        rows = torch.arange(N_QUERIES)
        found = value_and_gradient(in_double(of(data)).loss(adapted, rows), adapted)
        expected = value_and_gradient(plain_loss(data, adapted, rows.tolist()), adapted)
        np.testing.assert_allclose(found[0], expected[0], rtol=3e-7)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("block", [1, 2, 100])
    def test_without_any_negative_there_is_nothing_to_learn(self, monkeypatch, block):
        monkeypatch.setattr(negatives, "_BLOCK_ELEMENTS", block * 2)
        data = VectorDataset(np.eye(2), np.eye(2), Relevance.from_rows([[0, 1], [0, 1]]))
        adapted = torch.eye(2, requires_grad=True)
        loss = of(data).loss(adapted, torch.tensor([0, 1]))
        assert value_and_gradient(loss, adapted)[0] == 0.0
        np.testing.assert_array_equal(
            value_and_gradient(of(data).loss(adapted, torch.tensor([0, 1])), adapted)[1],
            np.zeros((2, 2)),
        )

    def test_every_query_counts_the_same(self):
        data = dataset(relevance=SEVERAL)
        adapted = torch.from_numpy(data.queries)
        shown = of(data)
        together = shown.loss(adapted, torch.arange(N_QUERIES))
        alone = [shown.loss(adapted[[row]], torch.tensor([row])) for row in range(N_QUERIES)]
        assert float(together) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-6)


class TestScale:
    @pytest.mark.parametrize("similarity", ["dot_product", "euclidean"])
    def test_the_unit_of_the_vectors_does_not_matter(self, similarity):
        """One learning rate and one scale fit models that give vectors of any length."""
        data = dataset(similarity)
        larger = VectorDataset(
            100 * data.queries, 100 * data.passages, data.relevance, similarity=similarity
        )
        adapted = torch.from_numpy(data.queries)
        rows = torch.arange(N_QUERIES)
        losses = [float(of(given).loss(adapted, rows)) for given in (data, larger)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_it_learns_what_is_ranked(self, similarity):
        """The best passage by the loss's own scores is the best by exact ranking."""
        data = dataset(similarity)
        best = top_k(data.queries, data.passages, 1, similarity=similarity).passages
        other = (best + 1) % N_PASSAGES
        losses = [
            of(
                VectorDataset(
                    data.queries,
                    data.passages,
                    Relevance.from_rows(rows.tolist()),
                    similarity=similarity,
                )
            ).loss(torch.from_numpy(data.queries), torch.arange(N_QUERIES))
            for rows in (best, other)
        ]
        assert losses[0] < losses[1]

    def test_queries_come_in_unit_length_or_as_they_are(self):
        data = dataset()
        torch.testing.assert_close(
            torch.linalg.vector_norm(of(data).queries, dim=1), torch.ones(N_QUERIES)
        )
        np.testing.assert_array_equal(of(data, unit_input=False).queries.numpy(), data.queries)
        assert len(of(data)) == N_QUERIES

    def test_zero_vectors_are_no_trouble(self):
        data = dataset()
        vectors = data.queries.copy(), data.passages.copy()
        vectors[0][0], vectors[1][0] = 0, 0
        for similarity in SIMILARITIES:
            shown = of(VectorDataset(*vectors, data.relevance, similarity=similarity))
            adapted = shown.queries.clone().requires_grad_()
            loss, gradient = value_and_gradient(
                shown.loss(adapted, torch.arange(N_QUERIES)), adapted
            )
            assert np.isfinite(loss)
            assert np.isfinite(gradient).all()


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Writes down how many elements the largest result of any operation had."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_matrix_of_all_scores_exists(monkeypatch):
    """Forward and backward, with 64 queries and 3,000 passages."""
    rng = np.random.default_rng(0)
    n_queries, n_passages = 64, 3000
    data = VectorDataset(
        rng.normal(size=(n_queries, 4)),
        rng.normal(size=(n_passages, 4)),
        Relevance.from_rows([[row, row + 100] for row in range(n_queries)]),
    )
    shown = of(data)
    largest = {}
    for block in (n_passages, 100):
        monkeypatch.setattr(negatives, "_BLOCK_ELEMENTS", block * n_queries)
        adapted = shown.queries.clone().requires_grad_()
        with LargestTensor() as mode:
            shown.loss(adapted, torch.arange(n_queries)).backward()
        largest[block] = mode.elements
    assert largest[n_passages] == n_queries * n_passages
    assert largest[100] == n_queries * 100
