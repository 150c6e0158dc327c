"""How many threads a training takes, and that it leaves everybody's settings as they were."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training import threads
from llama_index_adapters.training.fit import fit
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import TrainingResult
from llama_index_adapters.training.search import judging, plan
from llama_index_adapters.training.search.stages import search_adapter
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.threads import training_threads, usable_processors
from tests.vector_sets import rotated, weights

OPTIONS = TrainingOptions(epochs=1, batch_size=16)


def questions(n_passages: int = 40, dim: int = 8) -> VectorDataset:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n_passages, dim))
    return VectorDataset(
        vectors + 0.5 * rng.normal(size=vectors.shape),
        vectors,
        Relevance.from_rows([[row] for row in range(n_passages)]),
    )


def chosen_by(result: TrainingResult) -> tuple[str, float, bytes]:
    (trial,) = (trial for trial in result.trials if trial.chosen)
    return trial.name, trial.ndcg, weights(result.adapter)


def blas_threads() -> set[int]:
    return {library.num_threads for library in threads.libraries()}


def set_blas_threads(number: int) -> None:
    """Set the number in a thread that ends, as it is when nobody holds threadpoolctl's limits."""
    thread = threading.Thread(
        target=lambda: [library.set_num_threads(number) for library in threads.libraries()]
    )
    thread.start()
    thread.join()


@pytest.fixture
def eight(monkeypatch):
    """A process that may use 8 processors and was told to use as many."""
    monkeypatch.setattr(threads, "usable_processors", lambda: 8)
    before, blas_before = torch.get_num_threads(), max(blas_threads())
    torch.set_num_threads(8)
    set_blas_threads(8)
    yield
    torch.set_num_threads(before)
    set_blas_threads(blas_before)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# What a container says of itself, and how many processors that leaves of sixteen.
QUOTAS = (
    ({}, 16),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    # Less than two processors, and less than one: a thread is the least there can be.
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    # Any group on the way may set a bound, not the process's own alone.
    (
        {
            "proc/self/cgroup": "0::/user.slice/work.service\n",
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/user.slice/work.service/cpu.max": "900000 100000\n",
        },
        3,
    ),
    # Version 1; the path on the host is not visible in the container.
    (
        {
            "proc/self/cgroup": "5:memory:/docker/1f\n4:cpuacct,cpu:/docker/1f\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    (
        {
            "proc/self/cgroup": "4:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
)


class TestUsableProcessors:
    @pytest.fixture(autouse=True)
    def sixteen(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def test_a_quota_bounds_them(self, tmp_path, subtests):
        for number, (files, expected) in enumerate(QUOTAS):
            with subtests.test(files=files):
                root = write(tmp_path / str(number), files)
                assert usable_processors(root) == expected

    def test_so_does_the_affinity(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
        assert usable_processors(tmp_path) == 2
        quota = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000\n"}
        assert usable_processors(write(tmp_path, quota)) == 2

    def test_a_container_of_two_trains_with_no_more(self, tmp_path, monkeypatch):
        quota = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}
        root = write(tmp_path, quota)
        monkeypatch.setattr(threads, "usable_processors", lambda: usable_processors(root))
        assert threads.threads_for(1e12) == 2


class TestNumber:
    @pytest.mark.usefixtures("eight")
    @pytest.mark.parametrize(("pays", "expected"), [(5, 5), (0.9, 1), (100, 8)])
    def test_follows_the_size_of_the_products(self, monkeypatch, pays, expected):
        """16 queries against 40 passages of 8 dimensions pay for so many threads."""
        monkeypatch.setattr(threads, "MULTIPLY_ADDS_A_THREAD", 16 * 40 * 8 / pays)
        with training_threads(questions(), n_judged=16, options=OPTIONS):
            assert torch.get_num_threads() == expected
            assert blas_threads() == {expected}

    @pytest.mark.usefixtures("eight")
    def test_a_search_and_a_training_use_it_and_leave_the_caller_s(self, monkeypatch):
        seen = []
        session = TrainingSession(after_step=lambda *_: seen.append(torch.get_num_threads()))
        fit(LinearAdapter(8), questions(), None, OPTIONS, session)
        monkeypatch.setattr(plan, "FEW_TRIALS_ABOVE", 0)
        search_adapter(rotated(60), None, OPTIONS, session=session)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 8
        assert blas_threads() == {8}

    def test_any_number_of_threads_chooses_the_same(self, eight, monkeypatch):
        """Sums are rounded in another order, which no choice may hang on."""
        monkeypatch.setattr(plan, "FEW_TRIALS_ABOVE", 0)
        monkeypatch.setattr(threads, "MULTIPLY_ADDS_A_THREAD", 1)
        # Large enough for torch to share the elements of a step out.
        data, options, seen = rotated(1000), TrainingOptions(epochs=1, batch_size=64), []

        def noted(*args, **kwargs):
            seen.append(torch.get_num_threads())
            return train_adapter(*args, **kwargs)

        monkeypatch.setattr(judging, "train_adapter", noted)
        results = []
        for number in (1, 8, 8):
            torch.set_num_threads(number)
            set_blas_threads(number)
            results.append(search_adapter(data, None, options))
            assert seen[-1] == number
        names, ndcgs, adapters = zip(*map(chosen_by, results), strict=True)
        assert len(set(names)) == 1
        assert max(ndcgs) - min(ndcgs) < 0.0005
        assert adapters[1] == adapters[2]

    def test_a_lower_number_of_the_caller_is_kept(self, eight, monkeypatch):
        monkeypatch.setattr(threads, "MULTIPLY_ADDS_A_THREAD", 1)
        torch.set_num_threads(3)
        set_blas_threads(2)
        with training_threads(questions(), n_judged=8, options=OPTIONS):
            assert torch.get_num_threads() == 3
            assert blas_threads() == {2}
        assert torch.get_num_threads() == 3
        assert blas_threads() == {2}


@pytest.mark.usefixtures("eight")
class TestRestored:
    def test_after_an_error(self):
        def stop(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(LinearAdapter(8), questions(), None, OPTIONS, TrainingSession(after_step=stop))
        assert torch.get_num_threads() == 8
        assert blas_threads() == {8}

    def test_other_threads_of_the_process_never_notice_in_torch(self):
        """Neither one that has used torch already nor one that begins meanwhile."""
        asked, answers = threading.Event(), []

        def earlier():
            torch.get_num_threads()
            asked.wait()
            answers.append(torch.get_num_threads())

        def later():
            answers.append(torch.get_num_threads())

        first = threading.Thread(target=earlier)
        first.start()
        with training_threads(questions(), n_judged=8, options=OPTIONS):
            assert torch.get_num_threads() == 1
            asked.set()
            second = threading.Thread(target=later)
            second.start()
            first.join()
            second.join()
        third = threading.Thread(target=later)
        third.start()
        third.join()
        assert answers == [8, 8, 8]

    def test_two_engines_in_two_threads(self, monkeypatch):
        """Each trains with torch's number as if it were alone; numpy's is the smaller of both."""
        inside, leave = threading.Barrier(3, timeout=60), [threading.Event() for _ in range(2)]
        seen: list[dict[str, object]] = [{}, {}]

        def train(number: int, multiply_adds: float) -> None:
            options = dataclasses.replace(OPTIONS, batch_size=int(multiply_adds))
            with training_threads(questions(), n_judged=int(multiply_adds), options=options):
                seen[number]["torch"] = torch.get_num_threads()
                inside.wait()
                leave[number].wait()
            seen[number]["afterwards"] = torch.get_num_threads()

        # A thread for every query of a batch of these questions.
        monkeypatch.setattr(threads, "MULTIPLY_ADDS_A_THREAD", 40 * 8)
        both = [
            threading.Thread(target=train, args=(n, size), daemon=True)
            for n, size in enumerate((2, 4))
        ]
        for thread in both:
            thread.start()
        inside.wait()
        assert [one["torch"] for one in seen] == [2, 4]
        assert blas_threads() == {2}
        leave[0].set()
        both[0].join()
        assert blas_threads() == {4}
        leave[1].set()
        both[1].join()
        assert blas_threads() == {8}
        assert [one["afterwards"] for one in seen] == [8, 8]
