"""The search: what it may choose, when it must hold still, and that it repeats itself."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.memory import MemoryAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.retrieval.ranking import top_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training import mining
from llama_index_adapters.training.closed_form import (
    SHRINKAGE,
    difference_whitening,
    inverse_power,
    whitening,
)
from llama_index_adapters.training.frames import Frame
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search import plan
from llama_index_adapters.training.search.candidates import (
    Candidate,
    Complexity,
    Method,
    linear_from,
    memory,
    regressions,
    small_families,
    unchanged,
    untrained_linear,
    whitening_of_both,
    whitenings,
)
from llama_index_adapters.training.search.criterion import Criterion
from llama_index_adapters.training.search.judging import (
    JudgedCandidate,
    best_of,
    simplest_of_the_best,
)
from llama_index_adapters.training.search.remember import memory_of
from llama_index_adapters.training.search.stages import search_adapter
from llama_index_adapters.training.validation import judge

DIM = 16
OPTIONS = TrainingOptions(batch_size=32, epochs=5)
# Where it only matters what is tried, or from what.
ONE_EPOCH = TrainingOptions(batch_size=32, epochs=1)


def questions(
    n_queries: int = 200,
    n_passages: int = 200,
    *,
    seed: int = 0,
    noise: float = 0.5,
    common: float = 0.0,
    passage_dim: int = DIM,
) -> VectorDataset:
    """Passages, and queries that are noisy rotations of the passage they ask about."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(99).normal(size=(passage_dim, DIM)))[0]
    passages = rng.normal(size=(n_passages, passage_dim))
    relevant = np.arange(n_queries) % n_passages
    mixed = 0.3 * passages[relevant][:, :DIM] + passages[relevant] @ turn[:, :DIM]
    queries = mixed + noise * rng.normal(size=(n_queries, DIM))
    shared = np.ones(passage_dim) * common
    return VectorDataset(
        queries, passages + shared, Relevance.from_rows([[int(row)] for row in relevant])
    )


def unrelated(seed: int, n_queries: int = 120, n_passages: int = 40) -> VectorDataset:
    """Relevance drawn at random: nothing that could be learned carries over."""
    rng = np.random.default_rng(seed)
    return VectorDataset(
        rng.normal(size=(n_queries, DIM)),
        rng.normal(size=(n_passages, DIM)),
        Relevance.from_rows(rng.integers(0, n_passages, (n_queries, 1)).tolist()),
    )


def served(adapter, data):
    return judge(adapt(transform_of(adapter), data.queries), data)["ndcg@10"].mean()


class TestChoice:
    def test_what_can_be_learned_is_learned(self):
        train, fresh = questions(), questions(seed=5)
        before = judge(fresh.queries, fresh)["ndcg@10"].mean()
        found = search_adapter(train, None, OPTIONS)
        chosen = [trial for trial in found.trials if trial.chosen]
        assert len(chosen) == 1
        assert chosen[0].gain_low > 0
        assert served(found.adapter, fresh) > before + 0.2

    def test_the_report_is_of_queries_the_model_had_not_seen(self):
        train = questions(noise=2.0)
        found = search_adapter(train, None, OPTIONS)
        assert len(found.adapted["ndcg@10"]) == len(found.base["ndcg@10"]) == len(train.queries)
        chosen = next(trial for trial in found.trials if trial.chosen)
        assert found.adapted["ndcg@10"].mean() == pytest.approx(chosen.ndcg)
        # On what it was trained on it is better than that.
        assert served(found.adapter, train) > chosen.ndcg + 0.02

    @pytest.mark.parametrize(
        "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))]
    )
    def test_random_relevance_gives_the_identity(self, seed):
        found = search_adapter(unrelated(seed), None, OPTIONS)
        assert isinstance(found.adapter, IdentityAdapter)
        assert max(trial.epoch or 0 for trial in found.trials) > 0  # others were trained

    @pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
    def test_ten_lucky_validation_queries_move_nothing(self, seed):
        train, few = unrelated(seed), unrelated(seed + 50, n_queries=10)
        assert isinstance(search_adapter(train, few, OPTIONS).adapter, IdentityAdapter)

    def test_a_large_validation_set_judges_alone(self):
        train, validation = questions(), questions(300, 300, seed=3)
        found = search_adapter(train, validation, OPTIONS)
        np.testing.assert_array_equal(
            found.base["ndcg@10"], judge(validation.queries, validation)["ndcg@10"]
        )

    def test_the_simplest_of_equals(self):
        """The base is right everywhere: nothing is better, so nothing is taken."""
        passages = np.random.default_rng(0).normal(size=(80, DIM))
        data = VectorDataset(passages, passages, Relevance.from_rows([[row] for row in range(80)]))
        found = search_adapter(data, None, OPTIONS)
        assert [trial.name for trial in found.trials if trial.chosen] == ["identity"]

    def test_one_query_cannot_be_judged(self):
        with pytest.raises(InvalidVectorsError, match=r"1 query cannot be split by"):
            search_adapter(questions(1, 5), None, OPTIONS)

    def test_into_another_dimension(self):
        train = questions(passage_dim=24)
        found = search_adapter(train, None, dataclasses.replace(OPTIONS, epochs=12))
        assert found.base is None
        assert isinstance(found.adapter, LinearAdapter)
        assert all(trial.gain is None for trial in found.trials)
        assert served(found.adapter, questions(passage_dim=24, seed=5)) > 0.5

    def test_same_seed_same_bytes(self):
        train = questions(noise=2.0)
        found = [
            search_adapter(train, None, dataclasses.replace(ONE_EPOCH, seed=seed))
            for seed in (1, 1, 2)
        ]
        assert found[0].trials == found[1].trials != found[2].trials
        weights = [one.adapter.arrays()["linear.weight"].tobytes() for one in found[:2]]
        assert weights[0] == weights[1]


class TestPlan:
    def test_trials_come_in_this_order(self):
        """Their names stand in saved configs."""
        found = search_adapter(questions(80, 20), None, ONE_EPOCH)
        tried = [trial.name for trial in found.trials]
        whitening = "whitening, passages "
        assert tried[:5] == [
            "identity",
            *(f"{whitening}{power}" for power in ("0.125", "0.25", "0.375", "0.25, queries 0.25")),
        ]
        assert re.fullmatch(r"whitening, passages 0\.\d+, differences 0\.35", tried[5])
        assert tried[6:10] == [
            f"regression, pull {pull}, {tried[5]}" for pull in ("10", "3", "1", "0.1")
        ]
        *linear, low_rank, two_layer, most, half, remembered = tried[10:]
        assert all(re.match(r"linear from .*, rate \de-0\d(, scale \d+)?$", n) for n in linear)
        assert [name.endswith("rate 3e-04") for name in linear[:2]] == [True, False]
        assert (low_rank, two_layer) == (f"low-rank, rank {DIM}", "two-layer")
        assert (most, half) == (
            f"{most.split(', 75%')[0]}, 75% of the way",
            f"{most.split(', 75%')[0]}, 50% of the way",
        )
        assert most.split(", 75%")[0] in linear
        assert remembered.startswith("memory, from ")

    def test_of_about_equals_the_simplest_is_taken_whatever_the_order(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(3, 100))
        noise -= noise.mean(axis=1, keepdims=True)  # their means differ by what is said below
        complexity = (
            Complexity(Method.MEMORY),
            Complexity(Method.WHITENING, 0.25),
            Complexity(Method.IDENTITY),
        )
        means = (0.501, 0.5, 0.2)
        judged = [
            JudgedCandidate(
                Candidate(str(each), each, lambda *_: LinearAdapter(DIM)),
                None,
                {"ndcg@10": mean + 0.1 * values},
                Criterion(np.ones(100, bool), 0.0),
            )
            for each, mean, values in zip(complexity, means, noise, strict=True)
        ]
        for order in itertools.permutations(judged):
            assert best_of(order) is judged[0]
            assert simplest_of_the_best(order) is judged[1]

    def test_complexity_orders_what_is_tried(self):
        """By method, then by how far it goes from where it starts."""
        frame = Frame("identity", None)
        both = whitening_of_both(None, frame, target_is_other_corpus=False)
        closed = [unchanged(frame, DIM), *whitenings(frame), both, *regressions(0.125, frame)]
        trained = [
            linear_from(closed[0], OPTIONS, DIM),
            *small_families(OPTIONS, DIM, DIM),
            memory(closed[0], OPTIONS),
        ]
        complexities = [candidate.complexity for candidate in (*closed, *trained)]
        assert complexities == sorted(set(complexities))
        assert untrained_linear(DIM, 24).complexity < trained[0].complexity

    def test_the_corpus_is_looked_through_for_nan_once(self, monkeypatch):
        """When the dataset is made; neither folds nor rankings look again."""
        scans = []
        isfinite = np.isfinite

        def counted(values, *args, **kwargs):
            if getattr(values, "shape", ()) == (150, DIM):
                scans.append(values)
            return isfinite(values, *args, **kwargs)

        monkeypatch.setattr(np, "isfinite", counted)
        found = search_adapter(questions(100, 150), None, ONE_EPOCH)
        assert len(found.base["ndcg@10"]) == 100  # four folds judged
        assert len(scans) == 1


class TestTargetCorpus:
    def test_its_vectors_shape_the_adapter(self):
        train, other = questions(noise=1.0), questions(seed=8, common=1.0)
        here = search_adapter(train, None, ONE_EPOCH)
        there = search_adapter(train, None, ONE_EPOCH, target_corpus=other.passages)
        assert here.adapter.arrays().keys() == there.adapter.arrays().keys()
        assert not np.allclose(*(one.adapter.arrays()["linear.weight"] for one in (here, there)))

    def test_nothing_is_remembered_for_another_corpus(self):
        train, other = questions(80, 20), questions(seed=8)
        found = search_adapter(train, None, ONE_EPOCH, target_corpus=other.passages)
        tried = [trial.name for trial in found.trials]
        assert len(tried) > 8
        assert not any("memory" in name or "queries" in name for name in tried)


class TestQueryLog:
    def test_it_says_how_queries_are_spread(self):
        train, log = questions(noise=1.0), questions(900, seed=9, common=1.0).queries
        judged = []
        for query_log in (None, log):
            found = search_adapter(train, None, ONE_EPOCH, query_log=query_log)
            by_name = {trial.name: trial.ndcg for trial in found.trials}
            judged.append(by_name["whitening, passages 0.25, queries 0.25"])
        assert judged[0] != judged[1]

    def test_for_another_corpus_only_the_log_counts(self):
        train, other = questions(noise=1.0), questions(seed=8)
        found = search_adapter(
            train, None, ONE_EPOCH, target_corpus=other.passages, query_log=other.queries
        )
        assert any("queries 0.25" in trial.name for trial in found.trials)

    def test_vectors_of_another_model(self):
        with pytest.raises(InvalidVectorsError, match=r"query_log has vectors of 5 dimensions"):
            search_adapter(questions(), None, OPTIONS, query_log=np.ones((3, 5), np.float32))


class TestHardCases:
    """What real question sets look like; each must train, and be no worse on fresh queries."""

    @staticmethod
    def no_worse(train: VectorDataset, fresh: VectorDataset, by: float = 0.0) -> None:
        adapter = search_adapter(train, None, OPTIONS).adapter
        base = float(judge(fresh.queries, fresh)["ndcg@10"].mean())
        assert served(adapter, fresh) >= base + by

    def test_several_relevant_passages(self):
        train, fresh = questions(), questions(seed=5)
        several = [
            dataclasses.replace(
                data, relevance=Relevance.from_rows([[r, (r + 1) % 200, 7] for r in range(200)])
            )
            for data in (train, fresh)
        ]
        self.no_worse(*several)

    @pytest.mark.slow
    def test_near_duplicate_passages(self):
        rng = np.random.default_rng(1)

        def doubled(data: VectorDataset) -> VectorDataset:
            copies = data.passages + 1e-4 * rng.normal(size=data.passages.shape)
            return dataclasses.replace(
                data, passages=np.concatenate([data.passages, copies]), passage_ids=()
            )

        self.no_worse(doubled(questions()), doubled(questions(seed=5)), by=0.1)

    @pytest.mark.slow
    def test_one_passage_asked_about_by_most_queries(self):
        def crowded(data: VectorDataset) -> VectorDataset:
            rows = [0 if row % 4 else row for row in range(200)]
            turned = questions(200, 1, seed=row_seed(data)).queries
            queries = np.where(np.array(rows)[:, None] == 0, turned, data.queries)
            return dataclasses.replace(
                data, queries=queries, relevance=Relevance.from_rows([[row] for row in rows])
            )

        def row_seed(data: VectorDataset) -> int:
            return 0 if data is train else 5

        train = questions()
        self.no_worse(crowded(train), crowded(questions(seed=5)))

    def test_passages_never_asked_about(self):
        self.no_worse(questions(100, 400), questions(100, 400, seed=5), by=0.1)

    @pytest.mark.parametrize(
        "similarity", ["euclidean", pytest.param("dot_product", marks=pytest.mark.slow)]
    )
    def test_vectors_of_any_length(self, similarity):
        def stretched(data: VectorDataset) -> VectorDataset:
            lengths = np.random.default_rng(2).uniform(0.5, 3.0, size=(len(data.passages), 1))
            return dataclasses.replace(
                data, passages=data.passages * lengths, similarity=similarity
            )

        self.no_worse(stretched(questions()), stretched(questions(seed=5)))

    def test_thirty_queries(self):
        self.no_worse(questions(30, 50), questions(30, 50, seed=5))


class TestWhitening:
    def test_the_definition(self):
        data = questions(common=0.7)
        passages = data.passages / np.linalg.norm(data.passages, axis=1, keepdims=True)
        moment = passages.T.astype(np.float64) @ passages / len(passages)
        shrunk = (1 - SHRINKAGE) * moment + SHRINKAGE * np.trace(moment) / DIM * np.eye(DIM)
        # The square of C^-1/4 is the inverse of the square root.
        root = inverse_power(passages, 0.25)
        np.testing.assert_allclose(
            root @ root @ root @ root @ shrunk * DIM / np.trace(moment), np.eye(DIM), atol=1e-5
        )
        weight = whitening(data.passages, passage_power=0.25)
        np.testing.assert_allclose(weight, root / np.mean(np.diag(root)), rtol=1e-4, atol=1e-6)
        assert np.mean(np.diag(weight)) == pytest.approx(1.0, abs=1e-5)

    def test_full_power_makes_queries_white(self):
        data = questions(2000)
        scale = np.linspace(1, 3, DIM).astype(np.float32)
        white = data.queries * scale @ inverse_power(data.queries * scale, 0.5).T
        moment = white.T @ white / len(white)
        spread = np.linalg.eigvalsh(moment / np.trace(moment) * DIM)
        assert spread.max() / spread.min() < 1.6
        before = np.linalg.eigvalsh((data.queries * scale).T @ (data.queries * scale))
        assert before.max() / before.min() > 4


class TestDifferences:
    def test_what_wording_adds_counts_less_for_passages_nobody_asked_about(self):
        rng = np.random.default_rng(0)
        wording = rng.normal(size=(3, DIM))

        def asked(n_queries):
            passages = rng.normal(size=(n_queries, DIM))
            queries = passages + rng.normal(size=(n_queries, 3)) @ wording
            rows = np.arange(n_queries)[:, None].tolist()
            return VectorDataset(queries, passages, Relevance.from_rows(rows))

        weight = difference_whitening(asked(150), power=0.35)
        assert np.mean(np.diag(weight)) == pytest.approx(1.0, abs=1e-5)
        others = asked(150)
        before = judge(others.queries, others)["ndcg@10"].mean()
        after = judge(others.queries @ weight.T, others)["ndcg@10"].mean()
        assert after > before + 0.2

    def test_few_queries_hardly_say_which_directions_differ(self):
        data = questions(200)
        few = difference_whitening(data.select_queries(np.arange(2)), power=0.35)
        many = difference_whitening(data, power=0.35)
        assert np.linalg.cond(few) < np.linalg.cond(many)


class TestMemory:
    def test_it_brings_a_query_to_what_its_like_was_about(self):
        """Relevance that no linear map knows: only remembering helps."""
        rng = np.random.default_rng(0)
        topics, passages = rng.normal(size=(60, DIM)), rng.normal(size=(60, DIM))
        topic = np.arange(240) % 60
        queries = topics[topic] + 0.1 * rng.normal(size=(240, DIM))
        data = VectorDataset(queries, passages, Relevance.from_rows(topic[:, None].tolist()))
        # Who expects questions about other passages does not get one that loses on them.
        assert not isinstance(search_adapter(data, None, OPTIONS).adapter, MemoryAdapter)
        options = dataclasses.replace(OPTIONS, unseen_share=0.0)
        found = search_adapter(data, None, options)
        assert isinstance(found.adapter, MemoryAdapter)
        fresh = data.queries + 0.05
        assert judge(adapt(transform_of(found.adapter), fresh), data)["ndcg@10"].mean() > 0.8
        assert judge(fresh, data)["ndcg@10"].mean() < 0.4

    def test_in_training_a_query_does_not_find_itself(self):
        data = questions(60, 60)
        memory = memory_of(data, np.eye(DIM, dtype=np.float32))
        queries, rows = torch.from_numpy(data.queries), torch.arange(60)
        with torch.no_grad():
            seen = memory._recalled(memory._scores(queries))
            unseen = memory._recalled(memory._scores_without_self(queries, rows))
        passages = data.passages / np.linalg.norm(data.passages, axis=1, keepdims=True)
        own = [(found.numpy() * passages).sum(axis=1).mean() for found in (seen, unseen)]
        assert own[0] > 0.8 > 0.5 > own[1]

    def test_merged_entries_leave_a_query_out_of_their_mean(self):
        data = questions(40, 1)
        merged = memory_of(data, np.eye(DIM, dtype=np.float32), most_entries=1)
        rows = torch.arange(40)
        queries = torch.from_numpy(data.queries)
        with torch.no_grad():
            scores = merged._scores_without_self(queries, rows)
        units = data.queries / np.linalg.norm(data.queries, axis=1, keepdims=True)
        key_map = merged.arrays()["key_map.weight"]
        for row in (0, 17):
            rest = key_map @ np.delete(units, row, axis=0).mean(axis=0)
            query = key_map @ units[row]
            cosine = rest @ query / np.linalg.norm(rest) / np.linalg.norm(query)
            assert float(scores[row, 0]) == pytest.approx(20 * cosine, rel=1e-4)

    def test_the_number_of_entries_is_bounded_and_every_topic_is_kept(self):
        data = questions(300, 20)
        merged = memory_of(data, np.eye(DIM, dtype=np.float32), most_entries=50)
        assert 20 <= merged.entries <= 50
        values = merged.arrays()["values"]
        assert len(np.unique(values.round(5), axis=0)) == 20

    def test_it_trains(self):
        data = questions(300, 20, noise=1.0)
        memory = memory_of(data, np.eye(DIM, dtype=np.float32), most_entries=50)
        start = {name: array.copy() for name, array in memory.arrays().items()}
        train_adapter(memory, data, None, dataclasses.replace(OPTIONS, epochs=2))
        changed = {name for name, array in memory.arrays().items() if (array != start[name]).any()}
        assert changed == {"linear.weight", "key_map.weight", "log_strength", "log_sharpness"}


class TestALargeCorpus:
    """A corpus that is sampled; the limits are made small enough to be passed."""

    @pytest.fixture(autouse=True)
    def limits(self, monkeypatch):
        monkeypatch.setattr("llama_index_adapters.training.options.WHOLE_CORPUS_UP_TO", 100)
        monkeypatch.setattr("llama_index_adapters.training.options.DRAWN_NEGATIVES", 32)

    def test_it_is_mined_once_a_fold_and_once_for_the_result(self):
        asked = []

        def search(queries, k):
            asked.append(len(queries))
            return top_k(queries, data.passages, k).passages

        data = questions(noise=0.2)
        asking = dataclasses.replace(data, search=search)
        found = search_adapter(asking, None, ONE_EPOCH)
        trained = [trial for trial in found.trials if trial.name.startswith("linear from")]
        assert len(trained) > 3
        # Linear, low-rank and two-layer start from different adapters, so four folds mine thrice.
        assert len(asked) <= 3 * 4 + 3
        assert not isinstance(found.adapter, IdentityAdapter)
        same = search_adapter(data, None, ONE_EPOCH)
        assert adapter_bytes(same.adapter) == adapter_bytes(found.adapter)

    def test_mining_stops_where_ranking_everything_costs_too_much(self, monkeypatch):
        calls = []
        exact_search = mining.exact_search

        def counted(data):
            search = exact_search(data)
            return lambda queries, k: calls.append(k) or search(queries, k)

        monkeypatch.setattr(mining, "exact_search", counted)
        search_adapter(questions(), None, ONE_EPOCH)
        assert calls
        calls.clear()
        monkeypatch.setattr(plan, "_MOST_MINING", 0)
        found = search_adapter(questions(), None, ONE_EPOCH)
        assert not calls
        assert len(found.trials) > 8


def adapter_bytes(adapter) -> list[bytes]:
    return [array.tobytes() for array in adapter.arrays().values()]
