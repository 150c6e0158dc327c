"""The training loop: what is learned, what is kept, what is refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError, TrainingError
from llama_index_adapters.retrieval.ranking import SIMILARITIES, metrics_at_k, top_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training import validation as judging
from llama_index_adapters.training.device import torch_device
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.validation import adapted_queries
from tests.vector_sets import DIM, perfect, rotated, weights

QUICK = TrainingOptions(epochs=3, batch_size=32, learning_rate=1e-2)


@pytest.fixture(scope="module")
def train():
    return rotated()


@pytest.fixture(scope="module")
def validation():
    return rotated(60, seed=1)


def watched(after_step) -> TrainingSession:
    """Call something with the number of every step."""
    return TrainingSession(after_step=lambda adapter, step: after_step(step))


def ndcg(queries, data: VectorDataset) -> float:
    ranking = top_k(queries, data.passages, 10, similarity=data.similarity)
    return float(metrics_at_k(ranking, data.relevance, 10)["ndcg@10"].mean())


def base(data: VectorDataset) -> float:
    return ndcg(data.queries, data)


def adapted(adapter: torch.nn.Module, data: VectorDataset) -> float:
    return ndcg(adapted_queries(adapter, data.queries), data)


class TestLearning:
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_it_undoes_a_rotation(self, similarity):
        train, held_out = rotated(similarity=similarity), rotated(60, seed=2)
        held_out = dataclasses.replace(held_out, similarity=similarity)
        adapter = LinearAdapter(DIM)
        assert base(held_out) < 0.2
        assert adapted(adapter, held_out) < 0.2
        options = TrainingOptions(epochs=60, batch_size=32, learning_rate=2e-2)
        run = train_adapter(adapter, train, None, options)
        assert adapted(adapter, held_out) > 0.95
        assert run.history[-1].loss < run.history[1].loss / 2

    @pytest.mark.parametrize("changes", [{}, {"negatives": 16}, {"negatives": 16, "mined": 4}])
    def test_a_copy_of_a_relevant_passage_is_never_a_negative(self, changes):
        """Against its own copy a relevant passage can never win: the loss stays above log 2."""
        once = perfect()
        copied = np.concatenate([once.passages, once.passages])
        for relevant in (0, len(once.passages)):
            rows = [[row + relevant] for row in range(len(once.queries))]
            data = VectorDataset(once.queries, copied, Relevance.from_rows(rows))
            options = dataclasses.replace(QUICK, epochs=1).updated(changes)
            assert train_adapter(LinearAdapter(DIM), data, None, options).history[-1].loss < 0.1

    @pytest.mark.parametrize("passage_dim", [12, 24])
    def test_into_another_dimension(self, passage_dim):
        train = rotated(passage_dim=passage_dim)
        held_out = rotated(60, passage_dim=passage_dim, seed=2)
        adapter = LinearAdapter(DIM, passage_dim, bias=True)
        before = adapted(adapter, held_out)
        assert before < 0.2
        options = TrainingOptions(epochs=60, batch_size=32, learning_rate=2e-2)
        train_adapter(adapter, train, held_out, options)
        assert adapted(adapter, held_out) > 0.8

    @pytest.mark.parametrize(
        "adapter",
        [LinearAdapter(DIM, rank=4), TwoLayerAdapter(DIM), TwoLayerNN(DIM, 8, DIM, False, "tanh")],
        ids=["low-rank", "two-layer", "two-layer-nn"],
    )
    def test_every_family_learns(self, adapter, train, validation):
        start = weights(adapter)
        run = train_adapter(adapter, train, validation, QUICK)
        assert weights(adapter) != start
        assert run.history[-1].loss < run.history[1].loss
        assert adapted(adapter, validation) == run.history[run.best_epoch].validation

    def test_all_positives_are_learned(self):
        """A query's second passage is the mirror image of the first: both are found."""
        one = rotated(40)
        both = VectorDataset(
            one.queries,
            np.concatenate([one.passages, one.passages[:, ::-1]]),
            Relevance.from_rows([[row, row + 40] for row in range(40)]),
        )
        adapter = LinearAdapter(DIM)
        assert adapted(adapter, both) < 0.2
        train_adapter(adapter, both, None, dataclasses.replace(QUICK, epochs=60))
        assert adapted(adapter, both) > 0.8


class Recording(BaseAdapter):
    """A user's own adapter that sees its input."""

    def __init__(self, dim: int, p: float = 0.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(dim))
        self.dropout = torch.nn.Dropout(p)
        self.modes: list[bool] = []
        self.lengths: list[torch.Tensor] = []

    def forward(self, embed):
        self.modes.append(self.training)
        self.lengths.append(embed.detach().norm(dim=-1))
        return self.dropout(embed * self.scale)

    def get_config_dict(self):
        return {"dim": len(self.scale), "p": self.dropout.p}


class TestSeed:
    def run(self, data, seed, validation=None, adapter=None):
        adapter = adapter or LinearAdapter(DIM)
        options = dataclasses.replace(QUICK, seed=seed)
        return weights(adapter), train_adapter(adapter, data, validation, options), weights(adapter)

    def test_the_same_seed_gives_the_same_bytes(self, train, validation):
        torch.manual_seed(1)
        start, run, result = self.run(train, 3, validation)
        torch.manual_seed(2)
        again = self.run(train, 3, validation)
        assert result != start
        assert (run.history, result) == (again[1].history, again[2])

    def test_another_seed_gives_others(self, train):
        first, second = self.run(train, 3), self.run(train, 4)
        assert first[0] == second[0]
        assert first[2] != second[2]

    def test_a_dropout_follows_the_seed(self, train):
        results = []
        for other in (1, 2):
            torch.manual_seed(other)
            results.append(self.run(train, 3, adapter=Recording(DIM, 0.5))[2])
        assert results[0] == results[1]
        assert self.run(train, 4, adapter=Recording(DIM, 0.5))[2] != results[0]

    def test_the_global_generators_are_left_alone(self, train, validation):
        adapter = LinearAdapter(DIM)
        before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
        self.run(train, 3, validation, adapter)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002


def contrary(train: VectorDataset) -> VectorDataset:
    """Validation that is perfect at the start and worse after every step of training."""
    return VectorDataset(
        train.queries,
        train.queries,
        Relevance.from_rows([[row] for row in range(len(train.queries))]),
    )


class TestEarlyStopping:
    def test_the_best_epoch_is_kept(self, train):
        adapter = LinearAdapter(DIM)
        start = weights(adapter)
        snapshots = {}
        options = dataclasses.replace(QUICK, epochs=30, patience=4, learning_rate=0.3)
        steps = 4  # 120 queries in batches of 32
        run = train_adapter(
            adapter,
            train,
            contrary(train),
            options,
            session=watched(lambda step: snapshots.update({step / steps: weights(adapter)})),
        )
        assert run.best_epoch == 0
        assert len(run.history) == 1 + 4
        assert run.steps == 4 * steps
        assert weights(adapter) == start
        assert snapshots[4.0] != start
        assert run.history[0].validation == 1.0
        assert run.history[4].validation < 1.0
        np.testing.assert_array_equal(run.per_query, np.ones(len(train.queries)))

    def test_a_best_epoch_in_the_middle(self, train, monkeypatch):
        """Validation says 1, 2, 5, 4, 5, 3: the first 5 wins, and an equal is no gain."""
        said = iter([0.1, 0.2, 0.5, 0.4, 0.5, 0.3, 0.9])
        monkeypatch.setattr(judging, "metrics_at_k", lambda *_: {"ndcg@10": np.full(3, next(said))})
        adapter, snapshots = LinearAdapter(DIM), {}
        run = train_adapter(
            adapter,
            train,
            train,
            dataclasses.replace(QUICK, epochs=30, patience=3),
            session=watched(lambda step: snapshots.update({step / 4: weights(adapter)})),
        )
        assert (run.best_epoch, len(run.history)) == (2, 6)
        assert weights(adapter) == snapshots[2.0]
        np.testing.assert_array_equal(run.per_query, np.full(3, 0.5))

    def test_without_validation_the_last_weights_stay(self, train):
        adapter, snapshots = LinearAdapter(DIM), []
        run = train_adapter(
            adapter,
            train,
            None,
            dataclasses.replace(QUICK, epochs=9, patience=1),
            session=watched(lambda step: snapshots.append(weights(adapter))),
        )
        assert (run.best_epoch, len(run.history), run.per_query) == (9, 10, None)
        assert weights(adapter) == snapshots[-1] != snapshots[-2]
        assert all(record.validation is None for record in run.history)

    def test_buffers_are_kept_with_the_weights(self, train):
        class WithBuffer(Recording):
            def __init__(self) -> None:
                super().__init__(DIM)
                self.register_buffer("passes", torch.zeros(1))

            def forward(self, embed):
                if self.training:
                    self.passes += 1
                return super().forward(embed)

        adapter = WithBuffer()
        options = dataclasses.replace(QUICK, patience=2)
        run = train_adapter(adapter, train, contrary(train), options)
        assert (run.best_epoch, run.steps, float(adapter.passes)) == (0, 8, 0.0)


class TestHistory:
    def test_one_record_an_epoch(self, train, validation):
        run = train_adapter(LinearAdapter(DIM), train, validation, QUICK)
        assert [record.epoch for record in run.history] == [0, 1, 2, 3]
        assert run.history[0].loss is None
        assert run.history[0].validation == pytest.approx(base(validation), abs=1e-9)
        losses = [record.loss for record in run.history[1:]]
        assert losses == sorted(losses, reverse=True)
        assert all(0 < record.validation < 1 for record in run.history)

    def test_the_loss_is_the_mean_over_queries(self, train):
        """With a learning rate of next to nothing it is the loss of the start, whole and uneven
        batches alike."""
        losses = [
            train_adapter(
                LinearAdapter(DIM),
                train,
                None,
                TrainingOptions(epochs=1, batch_size=size, learning_rate=1e-30),
            )
            .history[1]
            .loss
            for size in (120, 50, 1)
        ]
        np.testing.assert_allclose(losses, losses[0], rtol=1e-5)

    def test_steps(self, train):
        def steps(**changes):
            seen = []
            options = dataclasses.replace(QUICK, **changes)
            session = watched(seen.append)
            run = train_adapter(LinearAdapter(DIM), train, None, options, session=session)
            assert seen == list(range(1, run.steps + 1))
            return run.steps

        assert steps() == 3 * 4
        assert steps(batch_size=120) == steps(batch_size=1000) == 3
        assert steps(steps_per_epoch=2) == 3 * 2
        assert steps(steps_per_epoch=100) == 3 * 4

    def test_any_number_of_steps_and_any_warm_up(self, subtests):
        data = rotated(8)
        for epochs, warmup in product((1, 2, 4, 9, 10), (0, 0.1, 0.5, 0.99)):
            with subtests.test(epochs=epochs, warmup=warmup):
                adapter = LinearAdapter(DIM)
                options = TrainingOptions(epochs=epochs, warmup=warmup, learning_rate=1e-2)
                run = train_adapter(adapter, data, None, options)
                assert run.steps == epochs
                assert weights(adapter) != weights(LinearAdapter(DIM))

    def test_the_learning_rate_rises_and_falls(self, train):
        """Plain SGD with gradients cut to one length steps as far as the learning rate says."""
        adapter, at = LinearAdapter(DIM), []
        options = TrainingOptions(
            epochs=10,
            batch_size=60,
            learning_rate=1e-3,
            weight_decay=0.0,
            warmup=0.3,
            max_grad_norm=1e-3,
            optimizer_class=torch.optim.SGD,
        )
        at.append(adapter.arrays()["linear.weight"])
        train_adapter(
            adapter,
            train,
            None,
            options,
            session=watched(lambda step: at.append(adapter.arrays()["linear.weight"])),
        )
        lengths = np.array([np.linalg.norm((new - old).astype(float)) for old, new in pairwise(at)])
        peak = int(lengths.argmax())
        assert 5 <= peak <= 7  # of 20 steps, 0.3 are the rise
        assert lengths[peak] == pytest.approx(1e-6, rel=0.1)
        assert lengths[0] < 0.3 * lengths[peak]
        assert lengths[-1] < 0.1 * lengths[peak]


class TestWeightDecay:
    def test_it_pulls_to_the_start_and_not_to_zero(self, train):
        """Strong decay keeps a start that is far from zero and far from the identity."""
        start = LinearAdapter(DIM, bias=True)
        torch.nn.init.normal_(start.linear.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.constant_(start.linear.bias, 0.5)
        moved = {}
        for decay in (0.0, 0.9):
            adapter = LinearAdapter(DIM, bias=True)
            adapter.load_state_dict(start.state_dict())
            options = dataclasses.replace(QUICK, epochs=10, weight_decay=decay)
            train_adapter(adapter, train, None, options)
            moved[decay] = sum(
                float((new - old).detach().norm())
                for new, old in zip(adapter.parameters(), start.parameters(), strict=True)
            )
        assert moved[0.9] < 0.2 * moved[0.0]
        assert 0 < moved[0.9] < 0.1 * float(start.linear.weight.detach().norm())

    def test_it_moves_nothing_by_itself(self, train):
        adapter = LinearAdapter(DIM, bias=True)
        torch.nn.init.normal_(adapter.linear.weight, generator=torch.Generator().manual_seed(0))
        start = adapter.linear.weight.detach().clone()
        options = dataclasses.replace(QUICK, learning_rate=1e-30, weight_decay=0.5)
        train_adapter(adapter, train, None, options)
        torch.testing.assert_close(adapter.linear.weight.detach(), start, rtol=1e-6, atol=0)

    def test_the_optimizer_adds_none_toward_zero(self, train):
        """What gets no gradient keeps its value, though AdamW decays weights by default."""

        class Unused(Recording):
            def __init__(self) -> None:
                super().__init__(DIM)
                self.unused = torch.nn.Parameter(torch.full((3,), 5.0))

            def forward(self, embed):
                return super().forward(embed) + 0 * self.unused.sum()

        adapter = Unused()
        train_adapter(adapter, train, None, QUICK)
        assert adapter.unused.tolist() == [5.0] * 3


class TestAdapters:
    def test_queries_have_unit_length_unless_the_adapter_says_otherwise(self, train, validation):
        lengths = np.linalg.norm(validation.queries, axis=1)
        for unit_input in (True, False):
            adapter = Recording(DIM)
            adapter.unit_input = unit_input
            train_adapter(adapter, train, validation, QUICK)
            judged = adapter.lengths[-1].numpy()
            trained = torch.cat(
                [
                    seen
                    for seen, training in zip(adapter.lengths, adapter.modes, strict=True)
                    if training
                ]
            )
            assert len(trained) == 3 * len(train.queries)
            if unit_input:
                np.testing.assert_allclose(judged, 1, rtol=1e-5)
                np.testing.assert_allclose(trained, 1, rtol=1e-5)
            else:
                np.testing.assert_allclose(judged, lengths, rtol=1e-5)
                assert trained.std() > 0.1

    def test_a_bias_is_learned_for_vectors_as_they_come(self, train, validation):
        results = []
        for unit_input in (True, False):
            adapter = LinearAdapter(DIM, bias=True)
            adapter.unit_input = unit_input
            run = train_adapter(adapter, train, validation, dataclasses.replace(QUICK, epochs=20))
            assert run.history[run.best_epoch].validation == adapted(adapter, validation)
            results.append(weights(adapter))
        assert results[0] != results[1]

    def test_it_trains_in_training_mode_and_ends_in_evaluation_mode(self, train, validation):
        adapter = Recording(DIM, 0.5).eval()
        train_adapter(adapter, train, validation, dataclasses.replace(QUICK, epochs=1))
        # The first vector asks for the shape, then 4 steps between two validations.
        assert adapter.modes == [False, False, True, True, True, True, False]
        assert not adapter.training

    def test_frozen_parameters_stay(self, train):
        adapter = LinearAdapter(DIM, bias=True)
        adapter.linear.weight.requires_grad_(False)
        train_adapter(adapter, train, None, QUICK)
        np.testing.assert_array_equal(adapter.linear.weight.detach(), np.eye(DIM))
        assert adapter.linear.bias.abs().max() > 0

    def test_nothing_to_train(self, train):
        with pytest.raises(
            InvalidAdapterError, match=r"IdentityAdapter has no parameters to train"
        ):
            train_adapter(IdentityAdapter(DIM), train, None, QUICK)

    def test_queries_of_another_dimension(self, train):
        with pytest.raises(
            InvalidAdapterError, match=r"LinearAdapter failed on vectors of shape \(1, 16\)"
        ):
            train_adapter(LinearAdapter(DIM + 1), train, None, QUICK)

    def test_passages_of_another_dimension(self, train):
        message = r"LinearAdapter turned vectors of shape \(1, 16\) into \(1, 9\); .*\(1, 16\)"
        with pytest.raises(InvalidAdapterError, match=message):
            train_adapter(LinearAdapter(DIM, 9), train, None, QUICK)


class TestOptimizer:
    def test_any_of_torchs(self, train, subtests):
        for name in ("SGD", "Adam", "Rprop", "Adafactor", "RAdam"):
            with subtests.test(name=name):
                adapter = LinearAdapter(DIM)
                options = dataclasses.replace(QUICK, optimizer_class=getattr(torch.optim, name))
                run = train_adapter(adapter, train, None, options)
                assert run.history[-1].loss < run.history[1].loss

    def test_its_arguments_reach_it(self, train):
        results = set()
        for parameters in ({}, {"betas": (0.5, 0.9)}, {"weight_decay": 5.0}):
            adapter = LinearAdapter(DIM)
            options = dataclasses.replace(QUICK, optimizer_params=parameters)
            train_adapter(adapter, train, None, options)
            results.add(weights(adapter))
        assert len(results) == 3

    @pytest.mark.parametrize("parameters", [{"momentun": 0.9}, {"momentum": -1}])
    def test_arguments_it_does_not_take(self, train, parameters):
        options = TrainingOptions(optimizer_class=torch.optim.SGD, optimizer_params=parameters)
        message = r"SGD cannot be built from optimizer_params \{'momentu"
        with pytest.raises(InvalidOptionError, match=message):
            train_adapter(LinearAdapter(DIM), train, None, options)


class TestTrouble:
    def test_a_wrong_device(self, train):
        for name in ("qpu", "cuda:99", "", "cpu:x"):
            message = rf"device is '{name}', which torch cannot use here \(.+\)\. Leave it out"
            with pytest.raises(InvalidOptionError, match=message):
                train_adapter(LinearAdapter(DIM), train, None, TrainingOptions(device=name))

    def test_a_right_device(self):
        assert torch_device("cpu") == torch.device("cpu")
        assert torch_device(None).type in ("cpu", "cuda", "mps")

    def test_a_loss_that_is_no_number(self, train, validation):
        class Broken(Recording):
            def forward(self, embed):
                result = super().forward(embed)
                return result * torch.nan if self.training else result

        message = r"The loss became nan in epoch 1\. Lower learning_rate \(now 0\.01\)\."
        for judge in (None, validation):
            with pytest.raises(TrainingError, match=message):
                train_adapter(Broken(DIM), train, judge, QUICK)

    def test_weights_that_overflow_in_the_last_step(self, train, validation):
        """The loss was computed before the step, and is still a number."""
        message = r"weights became infinite or not a number in epoch 1\. Lower learning_rate"
        options = TrainingOptions(
            epochs=1,
            batch_size=len(train.queries),
            learning_rate=1e38,
            scale=1e4,
            max_grad_norm=1e9,
            optimizer_class=torch.optim.SGD,
        )
        for judge in (None, validation):
            with pytest.raises(TrainingError, match=message):
                train_adapter(LinearAdapter(DIM), train, judge, options)

    def test_the_progress_bar_can_be_switched_off(self, train, capsys):
        train_adapter(LinearAdapter(DIM), train, None, QUICK)
        assert capsys.readouterr() == ("", "")
        session = TrainingSession(show_progress=True)
        train_adapter(LinearAdapter(DIM), train, None, QUICK, session=session)
        shown = capsys.readouterr()
        assert "3/3" in shown.err
        assert "loss=" in shown.err
        assert shown.out == ""


def test_adapted_queries_are_what_serving_gives(train):
    """They keep the length of the query, and the adapter keeps its mode."""
    adapter = LinearAdapter(DIM, bias=True).train()
    torch.nn.init.normal_(adapter.linear.weight, generator=torch.Generator().manual_seed(0))
    mapped = adapted_queries(adapter, train.queries)
    lengths = np.linalg.norm(train.queries, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1, keepdims=True), lengths, rtol=1e-5)
    expected = train.queries / lengths @ adapter.arrays()["linear.weight"].T
    expected *= lengths / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mapped, expected, rtol=1e-3, atol=1e-5)
    assert adapter.training
