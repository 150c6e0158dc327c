"""Fit an adapter on the workers of a Ray Train run, each with its share of every batch."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig

from llama_index_adapters.engines.data import TrainingVectors
from llama_index_adapters.errors import (
    AdaptersError,
    InvalidOptionError,
    InvalidVectorsError,
    TrainingError,
)
from llama_index_adapters.ray.arrays import SharedDataset, Sharing, opened
from llama_index_adapters.ray.placement import beside_the_driver, connect
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.checkpoints import Checkpoints
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter
    from llama_index_adapters.training.result import TrainingResult
    from llama_index_adapters.training.session import TrainingSession

# How often a run that lost a worker begins again.
_MOST_FAILURES = 3


def fit_on_ray(
    adapter: BaseAdapter | None,
    vectors: TrainingVectors,
    options: TrainingOptions,
    *,
    scaling_config: ScalingConfig,
    run_config: RunConfig | None = None,
    checkpoints: Checkpoints | None = None,
    show_progress: bool = False,
) -> TrainingResult:
    """Train or search as one process does, by several workers.

    Args:
        adapter: the adapter to train; None to search for one.
        vectors: what to learn from and to judge by.
        options: how to train; the device is the one Ray gives a worker.
        scaling_config: how many workers, and what each needs.
        run_config: Ray Train's own. By default its files go to a temporary directory, and a run
            that lost a worker begins again at most 3 times.
        checkpoints: saved on the driver's node.
        show_progress: show bars, in the output of the first worker.

    Raises:
        InvalidOptionError: when the dataset would ask its vector store for hard negatives.
        TrainingError: when Ray gives up, or the loss is no longer a number.
        InvalidVectorsError: when the vectors do not fit together, or a node cannot read them.
    """
    from ray.train.torch import TorchTrainer

    if vectors.train.search is not None and options.mined:
        raise InvalidOptionError(
            f"mined is {options.mined} and the dataset asks its vector store for them, but a "
            "store's client belongs to the process that opened it. Make the dataset without "
            "search_store, so that workers rank the passages themselves, or leave mined out."
        )
    connect()
    sharing = Sharing()
    job = _Job(
        ray.put(adapter),
        sharing.dataset(vectors.train),
        None if vectors.validation is None else sharing.dataset(vectors.validation),
        {name: sharing.array(part) for name, part in vectors.unlabelled.items()},
        options,
        show_progress,
        None if checkpoints is None else _RemoteCheckpoints.of(checkpoints),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            _fit_together,
            train_loop_config={"job": job},
            scaling_config=scaling_config,
            run_config=run_config
            or RunConfig(
                storage_path=folder, failure_config=FailureConfig(max_failures=_MOST_FAILURES)
            ),
        )
        try:
            outcome = trainer.fit().return_value
        except ray.train.TrainingFailedError as error:
            raise TrainingError(
                f"Ray gave the training up ({type(error).__name__}, which says more). The same "
                "call trains again; vectors that are stored are not paid for again."
            ) from error
    if isinstance(outcome, AdaptersError):
        raise outcome
    result: TrainingResult = outcome
    return result


@dataclass(frozen=True)
class _RemoteCheckpoints:
    """Saves checkpoints on the driver's node, whichever node the adapter is on."""

    checkpoints: Checkpoints
    placement: Mapping[str, Any]

    @classmethod
    def of(cls, checkpoints: Checkpoints) -> _RemoteCheckpoints:
        absolute = replace(checkpoints, directory=checkpoints.directory.absolute())
        return cls(absolute, beside_the_driver())

    def __call__(self, adapter: BaseAdapter, step: int) -> None:
        if self.checkpoints.due(step):
            save = ray.remote(**self.placement)(_save)
            ray.get(save.remote(self.checkpoints, adapter, step))


def _save(checkpoints: Checkpoints, adapter: BaseAdapter, step: int) -> None:
    checkpoints.save(adapter, step)


@dataclass(frozen=True)
class _Job:
    """What every worker is told."""

    adapter: Any
    train: SharedDataset
    validation: SharedDataset | None
    unlabelled: Mapping[str, Any]
    options: TrainingOptions
    show_progress: bool
    checkpoints: _RemoteCheckpoints | None

    def open(self) -> _OpenedVectors:
        """Return the vectors on this node.

        Raises:
            InvalidVectorsError: when the node cannot read them.
        """
        return _OpenedVectors(
            self.train.open(),
            None if self.validation is None else self.validation.open(),
            {name: opened(part) for name, part in self.unlabelled.items()},
        )


@dataclass(frozen=True)
class _OpenedVectors:
    """What a worker learns from and judges by."""

    train: VectorDataset
    validation: VectorDataset | None
    unlabelled: Mapping[str, FloatArray]


def _fit_together(config: Mapping[str, Any]) -> TrainingResult | AdaptersError | None:
    """Fit on one worker; the first returns the result."""
    from torch import distributed

    from llama_index_adapters.training.session import TrainingSession
    from llama_index_adapters.training.workers import ALONE, ProcessGroup

    job: _Job = config["job"]
    workers = ProcessGroup() if distributed.is_initialized() else ALONE
    first = workers.rank == 0
    session = TrainingSession(
        workers,
        show_progress=job.show_progress and first,
        after_step=job.checkpoints if first else None,
    )
    # Nothing writes to them; torch only says that it could.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    vectors, unreadable = None, None
    try:
        vectors = job.open()
    except InvalidVectorsError as error:
        unreadable = str(error)
    # One node may lack a file that the others have; then none of them begins.
    reports = [report for report in _on_all(unreadable) if report]
    if vectors is None or reports:
        return InvalidVectorsError(reports[0])
    try:
        result = _fit(job, vectors, session)
    except AdaptersError as error:
        # About the data or the options, and so the same on every worker: trying again is no use.
        return error
    return result if first else None


def _fit(job: _Job, vectors: _OpenedVectors, session: TrainingSession) -> TrainingResult:
    from ray.train.torch import get_device

    from llama_index_adapters.training.fit import fit
    from llama_index_adapters.training.search.stages import search_adapter

    adapter: BaseAdapter | None = ray.get(job.adapter)
    options = replace(job.options, device=str(get_device()))
    if adapter is None:
        return search_adapter(
            vectors.train, vectors.validation, options, **vectors.unlabelled, session=session
        )
    return fit(adapter, vectors.train, vectors.validation, options, session)


def _on_all(report: str | None) -> list[str | None]:
    """Return what every worker reports."""
    from torch import distributed

    if not distributed.is_initialized():
        return [report]
    everything: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everything, report)
    return everything
