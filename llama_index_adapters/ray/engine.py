"""The finetune engine whose training runs on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from ray.train import RunConfig, ScalingConfig

from llama_index_adapters.adapters.families import AdapterName
from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
from llama_index_adapters.engines.base import FinetuneResult
from llama_index_adapters.engines.data import TrainingVectors
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.ray.train import fit_on_ray
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.options import TrainingOptions

if TYPE_CHECKING:
    from llama_index_adapters.training.result import TrainingResult


class RayFinetuneEngine(EmbeddingAdapterFinetuneEngine):
    """:class:`~llama_index_adapters.EmbeddingAdapterFinetuneEngine`, trained by several workers.

    Every worker takes its share of each batch and of the validation queries; gradients are
    averaged, so the adapter is that of one machine up to rounding. It is saved by the driver, and
    so are checkpoints. Texts that are not stored yet are embedded by the driver: call
    :func:`~llama_index_adapters.ray.embed_with_ray` with the same ``store`` before for many.

    Workers read vectors that are memory-mapped from their file, which all nodes have to see, and
    any others from Ray's object store, once for each node. A run that lost a worker begins again.

    Args:
        dataset: as for the other engine.
        embed_model: likewise.
        *args: likewise.
        scaling_config: Ray Train's own: how many workers, on CPUs (gloo) or GPUs (nccl).
        run_config: Ray Train's own; by default its files go to a temporary directory and a run
            may begin again 3 times.
        options: as for the other engine; without a device, which Ray decides.
        **kwargs: as for the other engine, but for ``device``, which Ray decides.

    Raises:
        UnknownOptionError: for an option that does not exist, with the closest that does.
        InvalidOptionError: for a value that cannot be used.
        InvalidDatasetError: when the parts of a dataset do not fit together.

    Example:
        >>> ray.init(address="auto")
        >>> engine = RayFinetuneEngine(
        ...     train, embed_model, scaling_config=ScalingConfig(num_workers=8), val_dataset=val
        ... )
        >>> print(engine.finetune())
    """

    def __init__(
        self,
        dataset: Questions | VectorDataset,
        embed_model: BaseEmbedding | None,
        *args: Any,
        scaling_config: ScalingConfig,
        run_config: RunConfig | None = None,
        options: TrainingOptions | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(scaling_config, ScalingConfig):
            raise InvalidOptionError(
                f"scaling_config is a {type(scaling_config).__name__}; give a "
                "ray.train.ScalingConfig, such as ScalingConfig(num_workers=8)."
            )
        super().__init__(dataset, embed_model, *args, options=options, **kwargs)
        self._scaling_config = scaling_config
        self._run_config = run_config
        self._require_no_device(self._options)
        if self.target_dim is not None:
            raise InvalidOptionError(
                "target_dim is given, and maps to fewer dimensions are trained by one process. Use "
                "EmbeddingAdapterFinetuneEngine."
            )

    def finetune(self, **train_kwargs: Any) -> FinetuneResult:
        """Embed what is missing, train on the cluster, judge, save.

        Args:
            **train_kwargs: training options for this run, as in the constructor.

        Raises:
            TrainingError: when Ray gives up, or the loss is no longer a number.
            AdaptersError: as the other engine.
        """
        self._require_no_device(self._with(train_kwargs)[0])
        return super().finetune(**train_kwargs)

    def _fit(
        self,
        name: AdapterName,
        vectors: TrainingVectors,
        options: TrainingOptions,
        show_progress: bool,
    ) -> TrainingResult:
        return fit_on_ray(
            self._start(name, vectors.train, options),
            vectors,
            options,
            scaling_config=self._scaling_config,
            run_config=self._run_config,
            checkpoints=self._checkpoints,
            show_progress=show_progress,
        )

    @staticmethod
    def _require_no_device(options: TrainingOptions) -> None:
        if options.device is not None:
            raise InvalidOptionError(
                f"device is {options.device!r}, but Ray gives every worker its own. Leave it out; "
                "ScalingConfig(use_gpu=True) asks for GPUs."
            )
