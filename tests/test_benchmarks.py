"""The benchmark: one matrix, the same vectors and metrics for every method."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import chroma, environments, matrix, negatives, weightgain
from benchmarks.__main__ import app
from benchmarks.cells import Cell, Results, judged, measure
from benchmarks.data import QuestionSets, embedded, load_texts
from benchmarks.method import Learned, Method, Settings
from benchmarks.methods import METHODS
from benchmarks.table import duration, markdown, rows
from llama_index_adapters.errors import InvalidFileError, MissingFileError
from llama_index_adapters.evaluation.comparison import compare_queries
from llama_index_adapters.questions.split import split_by_passage, split_by_query
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from tests.fakes import WordsEmbedding, synonym_questions


@pytest.fixture
def settings(tmp_path):
    return Settings(seed=0, environments=tmp_path / "environments")


@pytest.fixture
def data(tmp_path):
    """Questions about known passages, with a validation set."""
    texts = QuestionSets(*split_by_query(synonym_questions(), (0.6, 0.2, 0.2)))
    return embedded("tldr", texts, WordsEmbedding(), tmp_path / "store.sqlite3")


@pytest.fixture
def elsewhere(tmp_path):
    """Questions about passages that training does not have, and no validation set."""
    train, test = split_by_passage(synonym_questions(), (0.7, 0.3))
    texts = QuestionSets(train, None, test)
    return embedded("tenk", texts, WordsEmbedding(), tmp_path / "store.sqlite3")


def rotated(n, dim=16, passages=60):
    """Queries are their passages turned by a fixed rotation, with noise: a map can be learned."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    corpus = unit_rows(rng.standard_normal((passages, dim)))
    answers = rng.integers(0, passages, n)
    noise = 0.1 * rng.standard_normal((n, dim))
    return VectorDataset(
        unit_rows(corpus[answers] @ rotation + noise),
        corpus,
        Relevance.from_rows(answers[:, None]),
    )


def half(data):
    rows_ = np.arange(len(data.queries))
    return data.select_queries(rows_[::2]), data.select_queries(rows_[1::2])


class TestChroma:
    @pytest.mark.parametrize("loss", ["triplet", "pairwise", "in-batch"])
    def test_learns_a_rotation(self, loss, monkeypatch):
        monkeypatch.setattr(chroma, "LEARNING_RATE", 0.02)
        train, test = half(rotated(n=600))
        layer, seconds = chroma.train(train, loss, seed=0)
        comparison = compare_queries(test, chroma.adapted(layer, test.queries))
        assert comparison.gains["ndcg@10"].low > 0.3
        assert seconds > 0

    def test_the_seed_decides(self):
        train, _ = half(rotated(n=100))
        weights = [
            chroma.train(train, "triplet", seed=seed)[0].weight.detach().numpy().tobytes()
            for seed in (0, 0, 1)
        ]
        assert weights[0] == weights[1] != weights[2]

    def test_a_relevant_passage_is_no_negative(self):
        relevance = Relevance.from_rows([[0, 1, 2], [3]])
        triplets = chroma._examples(relevance, 4, "triplet", np.random.default_rng(0))
        assert {tuple(row) for row in triplets[:, [0, 2]].tolist()} == {
            *((0, 3), (1, 0), (1, 1), (1, 2))
        }

    def test_the_same_passage_twice_in_a_batch_is_no_negative(self):
        train, _ = half(rotated(n=100, passages=1))
        layer, _ = chroma.train(train, "in-batch", seed=0)
        start = np.abs(layer.weight.detach().numpy()).max()
        assert start <= 16**-0.5  # nothing to learn from: only the decay has touched it


class TestWeightgain:
    def test_learns_which_directions_matter(self):
        # Half of the dimensions are noise that a query does not share with its passage.
        rng = np.random.default_rng(0)
        shared = rng.standard_normal((300, 8))
        queries, passages = (
            np.concatenate([shared, 2 * rng.standard_normal((300, 8))], axis=1) for _ in range(2)
        )
        relevance = Relevance.from_rows(np.arange(300)[:, None])
        whole = VectorDataset(unit_rows(queries), unit_rows(passages), relevance)
        train, test = half(whole)
        matrix_, _ = weightgain.train(train, None, seed=0)
        assert matrix_.shape == (16, 16)
        comparison = compare_queries(
            VectorDataset(test.queries, test.passages @ matrix_, test.relevance),
            test.queries @ matrix_,
            base_queries=test.queries @ np.eye(16, dtype=np.float32),
        )
        base = compare_queries(test, test.queries).base["ndcg@10"]
        assert comparison.adapted["ndcg@10"] > base + 0.1

    def test_accuracy_is_that_of_the_best_threshold(self):
        import torch

        left = torch.tensor([[1.0, 0.0]] * 4)
        right = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.5], [0.0, 1.0]])
        label = torch.tensor([1.0, 1.0, -1.0, -1.0])
        # By cosine: pair, random, pair, random. Any threshold puts one on the wrong side.
        assert weightgain._accuracy((left, right, label), torch.eye(2)) == 0.75


class TestMeasuring:
    def test_unchanged_vectors_gain_nothing(self, data, settings):
        cell = measure(data, METHODS["base"], settings)
        base = compare_queries(data.test, data.test.queries).base
        assert cell.metrics == base
        assert cell.gain == {"mean": 0, "low": 0, "high": 0}

    def test_moved_passages_are_what_is_ranked(self, data):
        answers = [rows_[0] for rows_ in data.test.relevance]
        passages = np.zeros_like(data.test.passages)
        passages[answers] = data.test.queries  # longer ones win by the inner product alone
        passages[answers[0]] *= 100
        cosine, inner = (
            judged(data, METHODS["nudge-m"], Learned(data.test.queries, passages, 1.0, kind), 0)
            for kind in ("cosine", "dot_product")
        )
        assert cosine.metrics["ndcg@10"] == 1
        assert inner.metrics["ndcg@10"] < 1

    def test_ours_learns_and_says_what_it_kept(self, data, settings):
        cell = measure(data, METHODS["linear"], settings)
        assert cell.gain["low"] > 0
        assert cell.detail == "kept linear"
        assert cell.seconds > 0

    def test_a_method_that_needs_the_training_passages(self, elsewhere, settings):
        cell = measure(elsewhere, METHODS["nudge-n"], settings)
        assert cell.metrics is None
        assert "other passages than those that are searched" in cell.detail

    def test_knowing_a_corpus_that_training_has_changes_nothing(self, data, elsewhere):
        assert "the same as auto" in METHODS["auto-no-target"].why_not(data)
        assert METHODS["auto-no-target"].why_not(elsewhere) is None


class TestPeers:
    def test_a_peer_gets_everything_and_is_read(self, data, settings, monkeypatch):
        def stand_in(command):
            folder = command[-1]
            task = json.loads((folder / "task.json").read_text())
            vectors = np.load(folder / "vectors.npz")
            assert task["variant"] == "nudge-n"
            assert task["val"]["relevant_docs"] == data.texts.val.relevant_docs
            assert (vectors["train_queries"] == data.train.queries).all()
            np.savez(folder / "learned.npz", passages=2 * vectors["test_passages"])
            (folder / "learned.json").write_text('{"seconds": 3.5, "detail": "0.1.2"}')

        monkeypatch.setattr(environments, "ready", lambda name, folder: "python")
        monkeypatch.setattr(environments, "_run", stand_in)
        learned = METHODS["nudge-n"].learn(data, settings)
        assert (learned.passages == 2 * data.test.passages).all()
        assert (learned.queries == data.test.queries).all()
        assert (learned.seconds, learned.detail) == (3.5, "0.1.2")

    def test_an_environment_is_made_once(self, tmp_path, monkeypatch):
        commands = []

        def note(command):
            commands.append(list(map(str, command)))
            if "venv" in commands[-1]:
                command[-1].mkdir(parents=True)

        monkeypatch.setattr(environments, "_run", note)
        pythons = {environments.ready("llamaindex", tmp_path) for _ in range(2)}
        assert pythons == {tmp_path / "llamaindex" / "bin" / "python"}
        assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
        assert {"mistralai<2", "llama-index-finetuning==0.4.2"} < set(commands[1])
        assert any(word.startswith("torch==") for word in commands[1])

    def test_a_peer_that_fails_says_why(self, tmp_path):
        import sys

        with pytest.raises(environments.PeerError, match="said last: ValueError: too few pairs"):
            environments._run([sys.executable, "-c", "raise ValueError('too few pairs')"])


class TestMatrix:
    @pytest.fixture
    def learned(self, monkeypatch, data):
        """Replace sets and methods; what was learned is written down."""
        learned = []

        def method(name, only_by_name=frozenset()):
            def learn(data, settings):
                learned.append(name)
                if name == "auto":
                    raise environments.PeerError("it broke")
                return Learned(data.test.queries, data.test.passages, 1.0)

            return Method(name, name, "queries", learn, only_by_name=only_by_name)

        monkeypatch.setattr(
            matrix,
            "METHODS",
            {
                "base": method("base"),
                "auto": method("auto"),
                "linear": method("linear", frozenset({"tldr"})),
            },
        )
        monkeypatch.setattr(matrix, "load_texts", lambda name, folder, seed: data.texts)
        return learned

    def run(self, results, settings, tmp_path, methods, **options):
        lines = []
        failures = matrix.run(
            ["tldr"],
            methods,
            results,
            settings,
            WordsEmbedding,
            folder=tmp_path,
            store=tmp_path / "store.sqlite3",
            report=lines.append,
            **options,
        )
        return failures, lines

    def test_what_was_measured_is_not_measured_again(self, learned, settings, tmp_path):
        path = tmp_path / "results.json"
        self.run(Results.open(path), settings, tmp_path, ["base"])
        _, lines = self.run(Results.open(path), settings, tmp_path, ["base"])
        assert learned == ["base"]
        assert lines == ["tldr: nothing to measure, everything asked for is there"]
        self.run(Results.open(path), settings, tmp_path, ["base"], again=True)
        self.run(Results.open(path), Settings(1, tmp_path), tmp_path, ["base"])
        assert learned == ["base"] * 3
        assert Results.open(path).cells["tldr", "base"].seed == 1

    def test_a_failure_is_told_and_the_rest_runs_on(self, learned, settings, tmp_path):
        results = Results.open(tmp_path / "results.json")
        failures, lines = self.run(results, settings, tmp_path, ["auto", "base"])
        assert failures == ["tldr, auto: it broke"]
        assert failures[0] in lines
        assert list(results.cells) == [("tldr", "base")]

    def test_what_takes_hours_has_to_be_named(self, learned, settings, tmp_path):
        results = Results.open(tmp_path / "results.json")
        self.run(results, settings, tmp_path, ["linear"])
        assert learned == []
        self.run(results, settings, tmp_path, ["linear"], by_name=True)
        assert learned == ["linear"]


class TestResults:
    def test_two_runs_keep_each_others_cells(self, tmp_path):
        one, other = (Results.open(tmp_path / "results.json") for _ in range(2))
        one.add(Cell("tenk", "base", 0))
        other.add(Cell("tenk", "auto", 0))
        assert set(Results.open(tmp_path / "results.json").cells) == {
            ("tenk", "base"),
            ("tenk", "auto"),
        }

    @pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 9}', '{"cells": []}'])
    def test_another_file_is_refused(self, tmp_path, content):
        path = tmp_path / "results.json"
        path.write_text(content)
        with pytest.raises(InvalidFileError, match="does not hold results of this benchmark"):
            Results.open(path)
        assert path.read_text() == content


class TestTable:
    @pytest.fixture
    def results(self, tmp_path):
        def cell(method, mean, seconds, detail=""):
            metrics = {"ndcg@10": 0.5 + mean, "hit_rate@10": 0.75, "mrr@10": 0.25}
            gain = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
            return Cell("tenk", method, 0, metrics, gain, 3, 1, seconds, detail)

        results = Results.open(tmp_path / "results.json")
        for one in (
            cell("full-finetuning", 0.0375, 870),
            cell("base", 0, 0),
            cell("auto", 0.0125, 33.4, "chose whitening"),
            Cell("tenk", "nudge-n", 0, detail="training asks elsewhere"),
        ):
            results.add(one)
        return results

    def test_rows_are_in_the_order_of_methods(self, results):
        assert [row.method for row in rows(results)] == [
            METHODS[name].title for name in ("base", "auto", "nudge-n", "full-finetuning")
        ]
        auto = rows(results)[1]
        assert (auto.ndcg, auto.seconds) == ("0.5125", "33 s")
        assert auto.gain == "+0.0125 (+0.0025 to +0.0225)"
        assert rows(results)[2].ndcg == "n/a"

    def test_markdown_puts_time_and_gain_side_by_side(self, results):
        text = markdown(results)
        assert (
            "- tenk: this package +0.0125 nDCG@10 in 33 s; full fine-tuning +0.0375 in 14.5 min"
            in text
        )
        assert "- tenk, this package, default options: chose whitening." in text
        assert "- tenk, NUDGE-N: training asks elsewhere." in text
        lines = text.splitlines()
        (start,) = (row for row, line in enumerate(lines) if line.startswith("| set | method"))
        assert {line.count("|") for line in lines[start : start + 6]} == {9}

    def test_durations(self):
        assert [duration(seconds) for seconds in (1.24, 90, 870)] == ["1.2 s", "90 s", "14.5 min"]


class TestAbsentData:
    @pytest.mark.parametrize(
        ("name", "where"),
        [("tenk", "run-llama/finetune-embedding"), ("tldr", "python -m benchmarks.tldr_pages")],
    )
    def test_one_sentence_says_where_to_get_it(self, name, where, tmp_path):
        with pytest.raises(MissingFileError, match=f"{name}.train.json does not exist") as absent:
            load_texts(name, tmp_path)
        assert where in str(absent.value)
        with pytest.raises(MissingFileError, match="no folder with") as unnamed:
            load_texts(name, None)
        assert "--data FOLDER" in str(unnamed.value)

    def test_the_run_goes_on(self, tmp_path):
        done = CliRunner().invoke(
            app,
            [
                *("--sets", "tenk,tldr", "--data", str(tmp_path)),
                *("--output", str(tmp_path / "results.json")),
            ],
        )
        assert done.exit_code == 0
        assert "tenk is left out" in done.output
        assert "tldr is left out" in done.output


def test_an_unknown_name_is_refused_with_the_closest():
    done = CliRunner().invoke(app, ["--methods", "base,nugde-n"])
    assert done.exit_code == 2
    assert "Did you mean 'nudge-n'?" in done.output


def test_negatives_are_compared_with_the_whole_corpus(data, monkeypatch):
    variants = ({"negatives": "all"}, {"negatives": 4}, {"negatives": 4, "mined": 2})
    monkeypatch.setattr(negatives, "VARIANTS", variants)
    measured = [negatives.measure(data.train, data.val, changes) for changes in variants]
    lines = negatives.table(data.train, data.val, measured).splitlines()[-3:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:2] for row in cells] == [["all", "0"], ["4", "0"], ["4", "2"]]
    for row, one in zip(cells, measured, strict=True):
        assert row[3] == f"{one['per_query'].mean():.4f}"
    apart = (measured[2]["per_query"] - measured[0]["per_query"]).mean()
    assert cells[2][4].startswith(f"{apart:+.4f} ±")
    assert cells[0][4] == ""
