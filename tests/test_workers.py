"""Several processes train what one process trains."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from llama_index_adapters.adapters.learned.base import BaseAdapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search.stages import search_adapter
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.workers import ALONE, ProcessGroup
from tests.vector_sets import DIM, rotated

pytestmark = pytest.mark.server

SIZE = 3
# 47 queries in batches of 16 leave a last batch of 15, five a worker; batches of 23 leave 1.
OPTIONS = TrainingOptions(epochs=4, batch_size=16, learning_rate=1e-2, device="cpu")


class Selective(BaseAdapter):
    """Uses one of two layers only, so the other never has a gradient."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.used = nn.Linear(dim, dim, bias=False)
        self.unused = nn.Linear(dim, dim, bias=False)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += len(queries)
        return self.used(queries)

    def get_config_dict(self) -> dict[str, int]:
        return {"dim": DIM}


def selective() -> Selective:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Selective()


CASES = {
    "linear": (lambda: LinearAdapter(DIM), OPTIONS, 20),
    "a last batch of one": (
        lambda: LinearAdapter(DIM),
        dataclasses.replace(OPTIONS, batch_size=23),
        20,
    ),
    "drawn and mined negatives": (
        lambda: LinearAdapter(DIM),
        dataclasses.replace(OPTIONS, negatives=12, mined=4),
        20,
    ),
    "two-layer": (lambda: TwoLayerAdapter(DIM), OPTIONS, 20),
    "fewer validation queries than workers": (lambda: LinearAdapter(DIM), OPTIONS, 2),
    "no validation": (lambda: LinearAdapter(DIM), OPTIONS, 0),
    "stopped early": (
        lambda: LinearAdapter(DIM),
        dataclasses.replace(OPTIONS, epochs=30, learning_rate=0.5, patience=2),
        20,
    ),
    "a parameter without a gradient": (
        selective,
        dataclasses.replace(OPTIONS, optimizer_params={"weight_decay": 0.1}),
        20,
    ),
}


def result_of(case: str, workers=ALONE) -> dict[str, np.ndarray]:
    build, options, n_judged = CASES[case]
    adapter = build()
    if workers.rank:
        # Only the first worker's start counts.
        with torch.no_grad():
            for value in adapter.parameters():
                value.add_(1.0)
    run = train_adapter(
        adapter,
        rotated(47),
        rotated(20, seed=1).select_queries(np.arange(n_judged)) if n_judged else None,
        options,
        session=TrainingSession(workers),
    )
    result = {f"weight {name}": value for name, value in adapter.arrays().items()}
    result["loss"] = np.array([record.loss for record in run.history[1:]])
    result["best epoch"] = np.array(run.best_epoch)
    for epoch, judged in enumerate(run.judged):
        result[f"ndcg {epoch}"] = judged["ndcg@10"]
    return result


def search_by(workers=ALONE) -> dict[str, np.ndarray]:
    options = TrainingOptions(epochs=2, batch_size=32, device="cpu")
    session = TrainingSession(workers)
    found = search_adapter(rotated(), rotated(60, seed=1), options, session=session)
    result = {f"weight {name}": value for name, value in found.adapter.arrays().items()}
    result["names"] = np.array([trial.name for trial in found.trials])
    result["ndcg"] = np.array([trial.ndcg for trial in found.trials])
    return result


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE
    )
    try:
        workers = ProcessGroup()
        for case in CASES:
            np.savez(f"{folder}/{case} {rank}.npz", **result_of(case, workers))
        np.savez(f"{folder}/search {rank}.npz", **search_by(workers))
        distributed.barrier()  # nobody leaves while another still reads from it
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(worker, args=(str(folder),), nprocs=SIZE)
    return lambda case, rank: dict(np.load(folder / f"{case} {rank}.npz"))


def test_several_workers_train_what_one_trains(together, subtests):
    for case in CASES:
        with subtests.test(case):
            alone = result_of(case)
            first, *others = (together(case, rank) for rank in range(SIZE))
            assert first.keys() == alone.keys()
            assert first["best epoch"] == alone["best epoch"]
            start = {f"weight {name}": value for name, value in CASES[case][0]().arrays().items()}
            assert any(np.abs(alone[name] - value).max() > 0.01 for name, value in start.items())
            for name, values in alone.items():
                if name != "weight seen":
                    np.testing.assert_allclose(first[name], values, atol=2e-5, err_msg=name)
            for other in others:  # all of them end with the same
                for name, values in first.items():
                    np.testing.assert_array_equal(other[name], values, err_msg=name)


def test_a_search_by_several_workers(together):
    alone = search_by()
    for rank in range(SIZE):
        found = together("search", rank)
        assert found.keys() == alone.keys()
        assert found["names"].tolist() == alone["names"].tolist()
        for name in found.keys() - {"names"}:
            np.testing.assert_allclose(found[name], alone[name], atol=1e-3, err_msg=name)


def test_the_work_is_shared_out(together):
    """The buffer counts the queries that the first worker saw in 4 epochs of 47."""
    seen = together("a parameter without a gradient", 0)["weight seen"]
    alone = result_of("a parameter without a gradient")["weight seen"]
    assert alone == 4 * 47
    assert seen == 4 * (6 + 6 + 5)
