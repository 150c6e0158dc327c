"""The benchmark of speed and size: its machinery, on sizes that say nothing about speed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.environments import PeerError
from benchmarks.speed import (
    beyond_memory,
    busy,
    concurrency,
    exact_search,
    finetuning,
    growth,
    requests,
    served_process,
    serving,
    training_step,
)
from benchmarks.speed.__main__ import app, run
from benchmarks.speed.figures import Curve, Figure, Goal, Measured, Results
from benchmarks.speed.measurement import Measurement, Settings
from benchmarks.speed.measurements import MEASUREMENTS
from benchmarks.speed.models import HashingEmbedding, counted
from benchmarks.speed.plots import draw
from benchmarks.speed.process import ROOT, Ran, in_process
from benchmarks.speed.report import MISSED, markdown, row, shown, terminal_table
from benchmarks.speed.synthetic import write_topics, write_unit_vectors
from benchmarks.speed.timing import Sample, side_by_side
from llama_index_adapters import AdapterEmbeddingModel, LinearAdapter
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.errors import InvalidFileError
from llama_index_adapters.training import threads
from tests.fakes import synonym_questions

PAGE = ROOT / "docs" / "performance.md"


@pytest.fixture
def settings(tmp_path):
    questions = tmp_path / "questions.json"
    synonym_questions().save_json(str(questions))
    return Settings(
        environments=tmp_path / "environments",
        folder=tmp_path,
        questions=questions,
        questions_name="synonyms",
        model="hashing",
        short=True,
    )


def ran(value, peak=2**20, seconds=1.0):
    return Ran(value, peak, seconds)


def verdicts(figures):
    return [figure.verdict for figure in figures]


class TestGoals:
    def test_are_compared_the_right_way_round(self):
        for kind, value, verdict in (
            ("at least", 1.9, "missed"),
            ("at least", 2.0, "met"),
            ("at most", 2.0, "met"),
            ("at most", 2.1, "missed"),
            ("at most", float("nan"), "missed"),
        ):
            assert Figure("a", value, "x", goal=Goal(kind, 2)).verdict == verdict, (kind, value)

    def test_none_gives_no_verdict(self):
        assert Figure("a", 1.0, "x").verdict == ""


class TestTiming:
    def test_works_take_turns_and_every_second_turn_is_reversed(self):
        order = []
        works = {name: (lambda name=name: order.append(name)) for name in "abc"}
        samples = side_by_side(works, repetitions=2, rounds=2, calls=2)
        # Each turn has one call before the clock is read.
        assert "".join(order) == "aaabbbccccccbbbaaa" * 1 + "aaabbbccccccbbbaaa"
        assert [len(samples[name].values) for name in "abc"] == [2, 2, 2]

    def test_a_sample_is_compared_repetition_by_repetition(self):
        slow, fast = Sample([2.0, 8.0, 30.0]), Sample([1.0, 2.0, 10.0])
        assert slow.over(fast).values == [2, 4, 3]
        assert slow.minus(fast).values == [1, 6, 20]
        assert (slow.median, slow.low, slow.high) == (8, 2, 30)
        assert (Sample([1.0]).low, Sample([1.0]).high) == (None, None)


class TestProcess:
    def test_gives_what_was_returned_and_the_most_memory_that_was_held(self):
        small, large = (
            in_process("tests.measured:hold", n_bytes=n_bytes) for n_bytes in (1, 2**28)
        )
        assert (small.value, large.value) == (1, 2**28)
        assert 2**27 < large.peak_bytes - small.peak_bytes < 2**29
        assert small.seconds > 0

    def test_says_why_it_failed(self):
        with pytest.raises(PeerError, match=r"measured:fail ended .* said last: KeyError: 'why'"):
            in_process("tests.measured:fail")

    def test_kernels_are_the_processor_s_own(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
        assert in_process("tests.measured:environment", name="OPENBLAS_CORETYPE").value is None
        ran = in_process("tests.measured:environment", name="OMP_NUM_THREADS", threads=3)
        assert ran.value == "3"

    def test_what_is_served_is_measured_without_imports_of_the_benchmark(self):
        code = (
            "import sys, benchmarks.speed.served; print('llama_index_adapters' in sys.modules, "
            "'rich' in sys.modules, 'torch' in sys.modules)"
        )
        assert in_process("tests.measured:output_of", code=code).value == "False False False"


class TestFinetuning:
    def run(self, *seconds):
        return {"seconds": seconds, "texts": 20, "parts": {"embed": 0.4, "train": 0.1}}

    def test_a_share_is_scaled_by_calls_and_ratios_say_how_much_faster_we_are(self):
        cold, warm, memory = finetuning.figures(
            cold=[ran(self.run(4.0), 3 * 2**20)],
            warm=[ran(self.run(0.5, 1.5, 1.0))],
            theirs=[ran({"seconds": 2.0, "calls": 21}, 2**20)],
            n_queries=10,
            name="a set",
        )
        # 4 epochs of 10 queries and their passages and one call for the dimension: 81 calls.
        assert cold.value == pytest.approx(2 * 81 / 21 / 4)
        assert warm.value == pytest.approx(2 * 81 / 21 / 1)
        assert memory.value == 3
        assert verdicts([cold, warm, memory]) == ["missed", "missed", ""]
        assert "81 calls, scaled from 21 calls" in cold.detail
        assert "embed 0.40 s, train 0.10 s" in cold.detail

    def test_goals_are_met_by_a_faster_engine(self):
        cold, warm, _ = finetuning.figures(
            cold=[ran(self.run(1.0))],
            warm=[ran(self.run(0.1))],
            theirs=[ran({"seconds": 21.0, "calls": 81})],
            n_queries=10,
            name="a set",
        )
        assert verdicts([cold, warm]) == ["met", "met"]

    def test_ours_embeds_once_and_is_timed_for_each_run(self, settings):
        first = finetuning.ours(
            questions=str(settings.questions),
            model="hashing",
            store=str(settings.folder / "store.sqlite3"),
            output=str(settings.folder / "adapter"),
            runs=2,
        )
        assert len(first["seconds"]) == 2
        assert set(first["parts"]) == {"embed", "train", "evaluate"}
        questions = synonym_questions()
        texts = {*questions.queries.values(), *questions.corpus.values()}
        assert len(texts) <= first["texts"] <= len(texts) + 6  # and those of the probe
        assert (settings.folder / "adapter" / "config.json").is_file()

    def test_calls_are_counted_by_kind(self):
        model, calls = counted(HashingEmbedding(model_name="a"))
        model.get_query_embedding("q")
        model.get_text_embedding("a")
        model.get_text_embedding_batch(["a", "b"])
        assert calls == {"_get_query_embedding": 1, "_get_text_embedding": 3}


class TestRequests:
    def test_figures(self):
        engine, index, theirs = requests.figures((2, 500), (0.1, 9.0), (4, 4, 300), "a set")
        assert (engine.value, index.value, theirs.value) == (250, 1, 75)
        assert verdicts([engine, index, theirs]) == ["met", "met", ""]
        engine, index, _ = requests.figures((3, 500), (0.1, 9.0), (4, 5, 300), "a set")
        assert verdicts([engine, index]) == ["missed", "missed"]


class TestServing:
    DIMS = serving.DIMS

    def samples(self, adapted, low_rank, memory):
        def works(added, plain):
            seconds = {"base": 50e-6, "plain": 50e-6 + plain, "adapted": 50e-6 + added}
            rest = {"plain alone": plain, "lists": 6e-6, "watched": 2 * added}
            rest["transform"] = added / 2
            return {name: Sample([value] * 3) for name, value in {**seconds, **rest}.items()}

        ours = {
            f"{kind} {dim}": works(adapted, 20e-6)
            for dim in self.DIMS
            for kind in ("linear", "closed form")
        }
        ours[f"low-rank {self.DIMS[1]}"] = works(low_rank, 20e-6)
        return {**ours, "memory": works(memory, 20e-6)}

    def test_what_is_added_is_compared_with_plain_numpy(self):
        theirs = {
            dim: {"base": Sample([50e-6] * 3), "adapted": Sample([170e-6] * 3)} for dim in self.DIMS
        }
        good = serving.figures(self.samples(30e-6, 7e-6, 0.5e-3), theirs)
        assert [figure.value for figure in good[:4]] == pytest.approx([1.5] * 4)
        assert [figure.value for figure in good[4:6]] == pytest.approx([4, 4])
        assert good[6].value == pytest.approx(0.5)
        assert [figure.value for figure in good[7:]] == pytest.approx([30 / 7] * 2)
        assert verdicts(good[6:]) == ["met"] * 3
        bad = serving.figures(self.samples(40e-6, 11e-6, 2e-3), theirs)
        assert verdicts(bad) == ["missed"] * 4 + [""] * 2 + ["missed"] * 3

    def test_a_query_is_timed_in_a_process_without_torch(self, tmp_path):
        save_adapter(tmp_path / "adapter", LinearAdapter(8))
        taken = in_process(
            "benchmarks.speed.serving:query_seconds",
            path=str(tmp_path / "adapter"),
            dim=8,
            repetitions=2,
            rounds=1,
            calls=1,
        ).value
        assert {len(values) for values in taken.values()} == {2}
        alone = {"plain alone", "lists", "transform"}
        assert {"base", "plain", "adapted", "watched", *alone} == set(taken)


class TestServedProcess:
    def test_loads_no_torch_and_says_what_it_holds(self, tmp_path):
        save_adapter(tmp_path / "adapter", LinearAdapter(8))
        one = in_process("benchmarks.speed.served:serve_one", path=str(tmp_path / "adapter"), dim=8)
        assert one.value["torch"] == 0
        assert 2**24 < one.value["resident"] <= one.peak_bytes
        assert 0 < one.value["import"] < one.seconds

    def test_ratios_say_how_much_lighter_we_are(self):
        def one(torch, resident):
            return {"torch": torch, "import": 0.5, "resident": resident, "first query": 0.1}

        torch, start, _, resident = served_process.figures(
            [ran(one(0, 2**20), seconds=1)], [ran(one(9, 3 * 2**20), seconds=4)]
        )
        assert (torch.value, start.value, resident.value) == (0, 4, 3)
        assert torch.verdict == "met"
        assert served_process.figures([ran(one(1, 1))], [ran(one(9, 1))])[0].verdict == "missed"


class TestConcurrency:
    def test_a_blocked_loop_is_seen(self, tmp_path, monkeypatch):
        save_adapter(tmp_path / "adapter", LinearAdapter(concurrency.DIM))
        asked = {"clients": 3, "queries_each": 2, "latency": [0.0, 0.01], "repetitions": 1}
        path = str(tmp_path / "adapter")
        free = concurrency.ask(path=path, **asked)
        assert set(free) == {"spread", "burst"}

        def blocking(self, vector):
            import time

            time.sleep(0.2)
            return vector

        monkeypatch.setattr(AdapterEmbeddingModel, "_adapted", blocking)
        blocked = concurrency.ask(path=path, **asked)
        assert blocked["spread"][0]["stall"] > 0.15

    def test_the_stall_is_compared_with_asyncio_s_own_bound(self):
        def one(stall):
            runs = [{"stall": stall, "rate": 1.0}, {"stall": 0.0, "rate": 1.0}] * 2
            return {way: [*runs, runs[0]] for way in ("spread", "burst")}

        figures = concurrency.figures(
            {"base": one(0.01), "linear": one(0.02), "memory": one(0.3)}, 3
        )
        assert verdicts(figures) == ["met", "missed"]


class TestTrainingStep:
    def test_is_compared_with_the_fastest_bare_products(self):
        taken = {"step": [2.0], "bare": {"8": [1.5], "16": [1.0]}, "threads": 1}
        (figure,) = training_step.figures(taken, 16)
        assert figure.value == 50
        assert figure.verdict == "missed"
        (figure,) = training_step.figures({**taken, "step": [1.25]}, 16)
        assert (figure.value, figure.verdict) == (80, "met")

    def test_runs(self):
        taken = training_step.step_seconds(passages=5_000, repetitions=2)
        assert set(taken["bare"]) == {"4096"}
        assert len(taken["step"]) == 2


class TestBusy:
    def test_the_time_beside_other_work_is_compared_round_by_round(self):
        (figure,) = busy.figures([10.0, 20.0, 10.0], [20.0, 50.0, 29.0], 2, "a set")
        assert (figure.value, figure.low, figure.high) == (2.5, 2, 2.9)
        assert figure.verdict == "met"
        assert "10.0 s alone and 29.0 s beside 2" in figure.detail
        assert verdicts(busy.figures([1.0], [3.1], 2, "a set")) == ["missed"]

    def test_runs_and_leaves_no_process(self, settings, monkeypatch):
        began = []
        popen = busy.subprocess.Popen

        def noted(*args, **kwargs):
            began.append(popen(*args, **kwargs))
            return began[-1]

        monkeypatch.setattr(busy.subprocess, "Popen", noted)
        monkeypatch.setattr(threads, "usable_processors", lambda: 1)
        monkeypatch.setattr(busy, "in_process", lambda *_, **__: ran(float(len(began) + 1)))
        (figure,) = busy.measure(settings).figures
        assert figure.value == 2
        assert [process.poll() for process in began] == [-9]

    def test_seconds_are_those_of_training(self, settings):
        options = {
            "store": str(settings.folder / "s.sqlite3"),
            "output": str(settings.folder / "a"),
        }
        seconds = busy.training_seconds(
            questions=str(settings.questions), model="hashing", **options
        )
        assert seconds > 0


def test_both_rankings_find_the_same():
    taken = exact_search.ranking_seconds(passages=500, queries=8, repetitions=1)
    assert taken["same"] == 1
    (figure,) = exact_search.figures({**taken, "ours": [3.0], "faiss": [2.0]}, 500, 8)
    assert figure.value == 1.5


class TestSynthetic:
    def test_the_same_seed_gives_the_same_unit_vectors(self, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            write_unit_vectors(tmp_path / f"{name}.npy", 70_000, 4, seed=seed)
        a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a[:100], a[65_536:65_636])

    def test_there_is_something_to_learn(self, tmp_path):
        write_topics(tmp_path, passages=600, queries=900, dim=16, topics=20, noise=0.7)
        trained = beyond_memory.train(folder=str(tmp_path), options={"epochs": 20})
        assert trained["ndcg@10"]["adapted"] > trained["ndcg@10"]["base"] + 0.02
        assert beyond_memory.figures(ran(trained, 4 * 2**30), 600, 900)[0].verdict == "met"
        assert beyond_memory.figures(ran(trained, 5 * 2**30), 600, 900)[0].verdict == "missed"


class TestGrowth:
    @pytest.mark.parametrize("task", growth.TASKS)
    def test_every_task_runs(self, task, tmp_path):
        write_unit_vectors(tmp_path / "vectors.npy", 60, growth.DIM)
        seconds = getattr(growth, f"{task}_seconds")(
            vectors=str(tmp_path / "vectors.npy"), folder=str(tmp_path)
        )
        assert seconds > 0

    def test_the_two_largest_sizes_are_compared(self):
        sizes = (10, 100, 1000)
        taken = {task: [ran(1.0), ran(2.0), ran(16.0)] for task in growth.TASKS}
        assert {figure.value for figure in growth.figures(taken, sizes)} == {8}
        for curve in growth.curves(taken, sizes):
            assert curve.passages == sizes
            assert curve.seconds == [1, 2, 16]


@pytest.fixture
def results(tmp_path):
    made = Results.open(tmp_path / "page.json")
    figures = [
        Figure("fast enough", 25.0, "x", 20.0, 30.0, Goal("at least", 20), "of what it is made"),
        Figure("too slow", 1234.5, "ms", goal=Goal("at most", 1)),
        Figure("nothing promised", 0.0123, "GiB"),
    ]
    made.add("ranking", Measured(figures, about={"processor": "a"}))
    curve = Curve("rank", (1_000, 10_000), (0.1, 1.0), (2**20, 2**21))
    made.add("growth", Measured([Figure("b", 1.0, "x")], [curve], {"processor": "a"}))
    return made


class TestReport:
    def test_the_file_gives_back_what_was_added(self, results):
        assert Results.open(results.path).measured.keys() == results.measured.keys()
        again = Results.open(results.path).measured["ranking"]
        assert again.figures == results.measured["ranking"].figures
        curve = Results.open(results.path).measured["growth"].curves[0]
        assert list(curve.bytes) == [2**20, 2**21]

    def test_another_file_is_refused(self, tmp_path):
        (tmp_path / "page.json").write_text('{"cells": []}')
        with pytest.raises(InvalidFileError, match="does not hold results of this benchmark"):
            Results.open(tmp_path / "page.json")

    def test_the_table_says_what_is_met_and_what_is_missed(self, results):
        console = Console(record=True, width=120)
        console.print(terminal_table(results))
        lines = console.export_text().splitlines()
        (met,) = (line for line in lines if "fast enough" in line)
        (missed,) = (line for line in lines if "too slow" in line)
        assert met.split()[-1] == "met"
        assert missed.split()[-1] == "missed"
        assert "at least 20 x" in met

    def test_the_page_has_goals_details_curves_and_the_machine(self, results):
        missed = "### Exact ranking\n\nToo slow because.\n\n### How cost grows\n\nNot missed.\n"
        page = markdown(results, {"a.svg": "a picture"}, missed)
        assert "| fast enough | 25 x | 20 to 30 | at least 20 x | met |" in page
        assert "| too slow | 1,234 ms |  | at most 1 ms | missed |" in page
        assert "| nothing promised | 0.0123 GiB |  |  |  |" in page
        assert "- fast enough: of what it is made" in page
        assert "Exact ranking beside FAISS's flat index" in page
        assert "| 10,000 | 1 | 2 MiB |" in page
        assert "![a picture](a.svg)" in page
        assert "missed\n\n### Exact ranking\n\nToo slow because.\n\n## Measured" in page
        assert page.count("processor: a") == 1

    def test_two_machines_are_both_named(self, results):
        other = replace(results.measured["ranking"], about={"processor": "b"})
        results.add("ranking", other)
        page = markdown(results, {}, "")
        assert "Exact ranking:\n\n- processor: b" in page
        assert "How cost grows:\n\n- processor: a" in page

    def test_numbers(self):
        numbers = (0, 4, 1.5049, 12345.6, 0.00123)
        assert [shown(number) for number in numbers] == ["0", "4", "1.5", "12,346", "0.00123"]

    def test_the_same_curves_give_the_same_pictures(self, results, tmp_path):
        curves = results.measured["growth"].curves
        for folder in ("a", "b"):
            assert set(draw(curves, tmp_path / folder)) == {
                "performance-time.svg",
                "performance-memory.svg",
            }
        for name in ("performance-time.svg", "performance-memory.svg"):
            first, second = ((tmp_path / folder / name).read_text() for folder in "ab")
            assert first == second
            assert "rank" in first


class TestRun:
    def test_a_measurement_that_fails_is_named_and_the_rest_runs_on(
        self, settings, tmp_path, monkeypatch
    ):
        def fails(settings):
            raise PeerError("pip said no")

        def works(settings):
            return Measured([Figure("a", 1.0, "x")])

        monkeypatch.setitem(MEASUREMENTS, "serving", Measurement("serving", "A", fails))
        monkeypatch.setitem(MEASUREMENTS, "ranking", Measurement("ranking", "B", works))
        results = Results.open(tmp_path / "page.json")
        assert run(["serving", "ranking"], results, settings) == ["serving: pip said no"]
        kept = json.loads((tmp_path / "page.json").read_text())["measured"]
        assert set(kept) == {"ranking"}
        assert "numpy" in kept["ranking"]["about"]

    @pytest.mark.slow
    def test_measurements_asked_for_are_taken_and_the_others_kept(self, tmp_path):
        page = tmp_path / "page.md"
        for name in ("training", "ranking"):
            done = CliRunner().invoke(app, ["--short", "--only", name, "--output", str(page)])
            assert done.exit_code == 0, done.output
        assert "the set documentation is finetuned on" in done.output
        text = page.read_text()
        assert "## A training step" in text
        assert "## Exact ranking" in text

    def test_an_unknown_name_is_refused_with_the_closest(self):
        done = CliRunner().invoke(app, ["--only", "serving,rankin"])
        assert done.exit_code == 2
        assert "Did you mean 'ranking'?" in done.output

    def test_help_names_every_measurement(self):
        done = CliRunner().invoke(app, ["--help"])
        assert all(name in done.output for name in MEASUREMENTS)


class TestPage:
    """What the repository shows is what was measured."""

    def test_is_made_from_the_figures_beside_it(self):
        results = Results.open(PAGE.with_suffix(".json"))
        assert results.measured
        pictures = {
            "performance-time.svg": "Seconds by passages",
            "performance-memory.svg": "Peak memory of the process in GiB by passages",
        }
        assert PAGE.read_text() == markdown(results, pictures, MISSED.read_text())
        assert all((PAGE.parent / name).is_file() for name in pictures)

    def test_every_measurement_with_a_missed_goal_is_explained(self):
        explained = MISSED.read_text()
        for name, measured in Results.open(PAGE.with_suffix(".json")).measured.items():
            for figure in measured.figures:
                if row(figure).verdict == "missed":
                    assert f"### {MEASUREMENTS[name].title}" in explained, figure.what
