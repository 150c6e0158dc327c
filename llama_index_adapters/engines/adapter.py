"""The finetune engine: from a question set to an embedding model for any retriever."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_adapters.adapters.disk.asked_section import asked_section, read_asked_section
from llama_index_adapters.adapters.disk.config import QueryModel, ResultLength
from llama_index_adapters.adapters.disk.metadata import WITHOUT_LABELS, AdapterMetadata, Section
from llama_index_adapters.adapters.disk.read import read_adapter
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.adapters.families import CUSTOM, DEFAULT_ADAPTER, AdapterName, kind_of
from llama_index_adapters.checks import as_path
from llama_index_adapters.engines.base import BaseEmbeddingFinetuneEngine, FinetuneResult
from llama_index_adapters.engines.choice import AdapterChoice
from llama_index_adapters.engines.data import TrainingData, TrainingVectors, Unlabelled
from llama_index_adapters.engines.dimensions import fewer_dimensions, require_target_dim
from llama_index_adapters.errors import (
    InvalidOptionError,
    InvalidVectorsError,
    NotTrainedError,
)
from llama_index_adapters.evaluation.comparison import compare
from llama_index_adapters.evaluation.copies import Copies
from llama_index_adapters.questions.question_set import Questions
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import Similarity
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.training.checkpoints import checkpoints_in
from llama_index_adapters.training.options import Default, TrainingOptions, agreed_options
from llama_index_adapters.vectors.checks import require_directions
from llama_index_adapters.vectors.query_models import QueryModels

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter
    from llama_index_adapters.training.result import TrainingResult

logger = logging.getLogger(__name__)

# Arguments of LlamaIndex's ``train_model`` that are not about training.
_SHOW_PROGRESS_BAR = "show_progress_bar"


class EmbeddingAdapterFinetuneEngine(BaseEmbeddingFinetuneEngine):
    """Finetune an adapter on the query side of any embedding model.

    The model is only asked for vectors, each text once in its life; it may be a service. Stored
    passages are never changed, so the result works with an index that exists.

    The first twelve parameters are LlamaIndex's; the defaults are this package's.

    Args:
        dataset: questions to train on: anything with ``queries``, ``corpus`` and
            ``relevant_docs``, or vectors as a :class:`VectorDataset`.
        embed_model: the model the index was built with. May be None when all data are vectors;
            :meth:`get_finetuned_model` then needs one, or ``query_embed_models``.
        batch_size: queries per training step.
        epochs: passes over the queries, at most.
        adapter_model: an adapter to train, your own or a built-in one, as it is.
        dim: dimension of the query vectors; only checked, because the vectors tell.
        device: torch device to train on; the best available one when left out.
        model_output_path: directory the adapter is written to.
        model_checkpoint_path: directory that receives ``step_N`` directories while training.
        checkpoint_save_steps: steps between two checkpoints.
        verbose: log every epoch.
        bias: learn a bias too; by default as the family does.
        val_dataset: questions to judge by, like ``dataset``. Without it, parts of ``dataset`` are
            held out in turn (one part of a large set): queries where passages have several, else
            passages.
        adapter: ``"auto"`` tries several kinds and keeps what held-out queries show to be best;
            ``"linear"``, ``"low-rank"`` and ``"two-layer"`` are trained as they are. When a bias
            or a training option such as ``learning_rate`` is given by name, ``"auto"`` means
            ``"linear"``.
        rank: rank of the low-rank adapter.
        target_corpus: texts (or vectors, ``(n, passage_dim)``) of the corpus that will be
            searched, when it is another than that of ``dataset``. No labels are needed; only
            ``"auto"`` uses them.
        query_log: texts (or vectors, ``(n, query_dim)``) of queries without known answers, the
            more the better. They say how queries are distributed; only ``"auto"`` uses them.
        target_dim: learn maps of queries and of passages to so many dimensions, for an index that
            :func:`llama_index_adapters.rewrite_index` copies; at most those of the base model.
            Truncated PCA is kept where nothing is certainly better.
        query_embed_models: the models that embed queries, in the order of their vectors;
            ``[embed_model]`` when left out. ``[embed_model, other]`` asks both for each query,
            ``[other]`` asks another model instead of one that is gone. An other model embeds at
            most a thousand passages, and queries; the index stays as it is.
        similarity: how your vector store compares vectors.
        seed: the same seed gives the same adapter.
        store: path of the store of vectors; the user's cache directory when left out.
        show_progress: show progress bars.
        options: how to train, as one object beside or instead of options by name; an option
            given both ways has to have one value. With ``"auto"`` they leave the search on: it
            takes the most epochs, the largest batch, the optimizer, ``weight_decay``,
            ``warmup``, ``max_grad_norm``, ``negatives``, ``mined``, ``precision``, ``device``,
            ``unseen_share`` and ``seed`` from them and decides the others itself.
        **train_kwargs: any other :class:`~llama_index_adapters.training.options.TrainingOptions`
            (``learning_rate``, ``weight_decay``, ``patience``, …), among them LlamaIndex's
            ``steps_per_epoch``, ``optimizer_class``, ``optimizer_params`` and
            ``max_grad_norm``; its ``show_progress_bar`` is understood too.

    Raises:
        UnknownOptionError: for an option that does not exist, with the closest that does.
        InvalidOptionError: for a value that cannot be used.
        InvalidDatasetError: when the parts of a dataset do not fit together.

    Example:
        >>> engine = EmbeddingAdapterFinetuneEngine(train, embed_model, val_dataset=val)
        >>> print(engine.finetune())
        >>> retriever = index.as_retriever(embed_model=engine.get_finetuned_model())
    """

    def __init__(
        self,
        dataset: Questions | VectorDataset,
        embed_model: BaseEmbedding | None,
        batch_size: int = Default(TrainingOptions.batch_size),
        epochs: int = Default(TrainingOptions.epochs),
        adapter_model: BaseAdapter | None = None,
        dim: int | None = None,
        device: str | None = None,
        model_output_path: str | PathLike[str] = "model_output",
        model_checkpoint_path: str | PathLike[str] | None = None,
        checkpoint_save_steps: int = 100,
        verbose: bool = False,
        bias: bool | None = None,
        *,
        val_dataset: Questions | VectorDataset | None = None,
        adapter: AdapterName = DEFAULT_ADAPTER,
        rank: int | None = None,
        target_corpus: Unlabelled | None = None,
        query_log: Unlabelled | None = None,
        target_dim: int | None = None,
        query_embed_models: Sequence[BaseEmbedding] | None = None,
        similarity: Similarity = "cosine",
        seed: int = Default(TrainingOptions.seed),
        store: str | PathLike[str] | None = None,
        show_progress: bool = True,
        options: TrainingOptions | None = None,
        **train_kwargs: Any,
    ) -> None:
        self.embed_model = embed_model
        self.query_embed_models = query_embed_models
        self._models: QueryModels | None = None
        if embed_model is not None or query_embed_models is not None:
            self._models = QueryModels.of(embed_model, query_embed_models)
        self._data = TrainingData(
            dataset,
            val_dataset,
            target_corpus,
            query_log,
            models=self._models,
            similarity=similarity,
            store=None if store is None else as_path(store, "store"),
        )
        self.dataset = self._data.dataset
        self.val_dataset = self._data.val_dataset
        self.adapter_model = adapter_model
        self.dim = dim
        self._show_progress = bool(train_kwargs.pop(_SHOW_PROGRESS_BAR, show_progress))
        by_name: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs, "seed": seed}
        if device is not None:
            by_name["device"] = device
        self._options = agreed_options(
            options, {**by_name, **train_kwargs}, beside=_names_of_the_engine()
        )
        choice = AdapterChoice(adapter, adapter_model, bias, rank)
        self._choice = replace(choice, name=choice.family(train_kwargs))
        self.adapter = self._adapter_for(train_kwargs)
        self.target_dim = target_dim
        self._output_path = as_path(model_output_path, "model_output_path")
        require_own_directory(self._output_path)
        self._checkpoints = checkpoints_in(
            model_checkpoint_path, checkpoint_save_steps, beside=self._output_path
        )
        self._require_target_dim(self.adapter)
        self._verbose = verbose
        self._result: FinetuneResult | None = None
        self._trained: BaseAdapter | None = None
        self._fingerprint: str | None = None

    @classmethod
    def from_model_path(
        cls,
        dataset: Questions | VectorDataset,
        embed_model: BaseEmbedding | None,
        model_path: str | PathLike[str],
        model_cls: type[BaseAdapter] | None = None,
        *,
        options: TrainingOptions | None = None,
        **kwargs: Any,
    ) -> EmbeddingAdapterFinetuneEngine:
        """Continue from a saved adapter of any kind, LlamaIndex's directories included.

        A directory that holds the identity, because nothing had beaten the base model, is
        continued by an adapter of the family asked for: each of them starts there.

        Args:
            dataset: questions to train on.
            embed_model: the model the adapter was trained on.
            model_path: the adapter's directory.
            model_cls: its class, needed only for an adapter of your own.
            options: how to train, as in the constructor.
            **kwargs: as in the constructor.

        Raises:
            MissingFileError: when there is no adapter.
            InvalidAdapterError: when it cannot be used.
        """
        from llama_index_adapters.adapters.learned.base import load_adapter

        adapter = load_adapter(model_path, model_cls)
        start = None if _kind(adapter) == "identity" else adapter
        engine = cls(dataset, embed_model, adapter_model=start, options=options, **kwargs)
        if start is not None:
            earlier = read_adapter(model_path).metadata()
            engine._data.asked_before = read_asked_section(earlier.sections)
        return engine

    def finetune(self, **train_kwargs: Any) -> FinetuneResult:
        """Embed what is missing, train, judge, save.

        Args:
            **train_kwargs: training options for this run, as in the constructor.

        Raises:
            UnknownOptionError: for an option that does not exist.
            InvalidOptionError: for a value that cannot be used.
            EmbeddingError: when the embedding model fails; what it gave before is stored.
            InvalidVectorsError: when the vectors do not fit together.
            TrainingError: when the loss is no longer a number.
        """
        from llama_index_adapters.training.device import torch_device

        adapter = self._adapter_for(train_kwargs)
        self._require_target_dim(adapter)
        options, show_progress = self._with(train_kwargs)
        torch_device(options.device)  # a wrong one is refused before anything is embedded
        vectors = self._data.vectors(show_progress=show_progress)
        train = vectors.train
        require_directions(train.queries, "dataset")
        if vectors.validation is not None:
            require_directions(vectors.validation.queries, "val_dataset")
        if self.dim not in (None, train.queries.shape[1]):
            raise InvalidVectorsError(
                f"dim is {self.dim}, but the query vectors have {train.queries.shape[1]} "
                "dimensions. Leave dim out."
            )

        started = time.perf_counter()
        trained = self._fit(adapter, vectors, options, show_progress)
        ended = time.perf_counter()
        if self._verbose:
            for record in (*trained.history, *trained.trials):
                logger.info("%s", record)
        comparison = None
        if trained.base is not None:
            seen = trained.seen if self._data.is_first_training else None
            comparison = compare(trained.base, trained.adapted, seed=options.seed, seen=seen)
            judged = train if vectors.validation is None else vectors.validation
            comparison = replace(
                comparison,
                copies=Copies(judged.n_copies),
                base_is="model" if trained.without_labels is None else "map without labels",
            )
        over_pca = None
        if trained.reduced is not None:
            pca = trained.reduced.truncated_pca
            over_pca = compare(pca, trained.adapted, seed=options.seed, seen=trained.seen)
        evaluated = time.perf_counter()
        result = FinetuneResult(
            trained=trained,
            path=self._output_path,
            comparison=comparison,
            over_truncated_pca=over_pca,
            target_corpus="target_corpus" in vectors.unlabelled,
            similarity=train.similarity,
            seconds={
                "embed": vectors.cost.seconds,
                "train": ended - started,
                "evaluate": evaluated - ended,
            },
            texts_embedded=vectors.cost.texts,
        )
        self._save(result, adapter, vectors, options)
        self._trained = trained.adapter
        self._result = result
        return result

    def get_finetuned_model(self, **model_kwargs: Any) -> AdapterEmbeddingModel:
        """Return the base model with the trained adapter on its query side.

        Args:
            **model_kwargs: options of :class:`~llama_index_adapters.AdapterEmbeddingModel`.

        Raises:
            NotTrainedError: before :meth:`finetune`, without a base model, or when something
                else has replaced the saved adapter.
        """
        if self._trained is None:
            raise NotTrainedError(
                "There is no finetuned model yet. Call finetune() first; an adapter that was "
                "saved before is opened with AdapterEmbeddingModel(base_embed_model, path)."
            )
        if self._models is None:
            raise NotTrainedError(
                "The engine was given vectors and no embed_model. Use "
                f"AdapterEmbeddingModel(base_embed_model, {str(self._output_path)!r})."
            )
        model_kwargs.setdefault("adapter_cls", _own_class(self._trained))
        saved = load_saved(self._output_path, model_kwargs["adapter_cls"])
        if saved.fingerprint != self._fingerprint:
            raise NotTrainedError(
                f"{self._output_path} no longer holds the adapter that this engine trained; "
                "another run has replaced it. Call finetune() again, and give every engine a "
                "model_output_path of its own."
            )
        if not self._models.is_base_alone:
            model_kwargs.setdefault("query_embed_models", self.query_embed_models)
        return AdapterEmbeddingModel(self.embed_model, self._output_path, **model_kwargs)

    def _with(self, train_kwargs: Mapping[str, Any]) -> tuple[TrainingOptions, bool]:
        changes = dict(train_kwargs)
        show_progress = bool(changes.pop(_SHOW_PROGRESS_BAR, self._show_progress))
        return self._options.updated(changes, beside=[_SHOW_PROGRESS_BAR]), show_progress

    def _adapter_for(self, train_kwargs: Mapping[str, Any]) -> AdapterName:
        """Return the family to train, given the names of the options of this run.

        Raises:
            InvalidOptionError: when something was given that only a search would use.
        """
        family = self._choice.family(set(train_kwargs) - {_SHOW_PROGRESS_BAR})
        of_a_search = [*self._data.unlabelled]
        if train_kwargs.get("unseen_share", self._options.unseen_share) is not None:
            of_a_search.append("unseen_share")
        if of_a_search and not self._choice.searches(family):
            unused = of_a_search[0]
            raise InvalidOptionError(
                f"{unused} is given, but only the search (adapter='auto', without adapter_model, "
                f"bias or options of one training) uses it. Leave {unused} out, or those."
            )
        return family

    def _require_target_dim(self, family: AdapterName) -> None:
        require_target_dim(
            self.target_dim,
            {
                "an adapter, bias or option of one training": not self._choice.searches(family),
                "query_log": "query_log" in self._data.unlabelled,
                "query_embed_models": self.query_embed_models is not None,
                "model_checkpoint_path": self._checkpoints is not None,
            },
        )

    def _fit(
        self,
        name: AdapterName,
        vectors: TrainingVectors,
        options: TrainingOptions,
        show_progress: bool,
    ) -> TrainingResult:
        from llama_index_adapters.training.fit import fit
        from llama_index_adapters.training.search.stages import search_adapter
        from llama_index_adapters.training.session import TrainingSession

        session = TrainingSession(show_progress=show_progress, after_step=self._checkpoints)
        if self.target_dim is not None:
            return fewer_dimensions(self.target_dim, vectors, options, session)
        adapter = self._start(name, vectors.train, options)
        train, validation = vectors.train, vectors.validation
        if adapter is None:
            return search_adapter(train, validation, options, **vectors.unlabelled, session=session)
        return fit(adapter, train, validation, options, session)

    def _start(
        self, family: AdapterName, train: VectorDataset, options: TrainingOptions
    ) -> BaseAdapter | None:
        """Return the adapter to train, None for a search."""
        from llama_index_adapters.training.frames import started

        dims = train.queries.shape[1], train.passages.shape[1]
        adapter = self._choice.start(family, *dims, seed=options.seed)
        own = self.adapter_model is not None
        return adapter if adapter is None or own else started(adapter, train)

    def _save(
        self,
        result: FinetuneResult,
        adapter: str,
        vectors: TrainingVectors,
        options: TrainingOptions,
    ) -> None:
        train = vectors.train
        metrics = {"base": result.base, "adapted": result.adapted}
        over_pca = result.over_truncated_pca
        if over_pca is not None:
            metrics["truncated_pca"] = over_pca.base
        if result.comparison is not None:
            metrics |= result.comparison.kinds_to_dict()
        metadata = AdapterMetadata(
            query_models=self._saved_models(train),
            result_length=self._result_length(train),
            query_dim=train.queries.shape[1],
            passage_dim=train.passages.shape[1] if self.target_dim is None else self.target_dim,
            training={
                **options.to_dict(),
                **({} if self.target_dim is None else {"target_dim": self.target_dim}),
                "adapter": adapter,
                "similarity": train.similarity,
                "trials": [asdict(trial) for trial in result.trials],
            },
            data={
                "fingerprint": train.fingerprint(),
                "queries": len(train.queries),
                "passages": len(train.passages),
                "copies": train.n_copies,
            },
            metrics={name: dict(values) for name, values in metrics.items() if values is not None},
            sections={
                **asked_section(self._data.asked(vectors)),
                **_section_without_labels(result.trained.without_labels),
            },
        )
        self._fingerprint = save_adapter(
            self._output_path,
            result.trained.adapter,
            metadata=metadata,
            passages=result.trained.passages,
        )

    def _result_length(self, train: VectorDataset) -> ResultLength:
        """Return how long results are: as the base's vectors, or as the rows of other models."""
        if any(model.role == "base" for model in self._saved_models(train)):
            return "base"
        return float(np.median(np.linalg.norm(train.queries, axis=1)))

    def _saved_models(self, train: VectorDataset) -> tuple[QueryModel, ...]:
        if self._models is not None:
            return self._models.saved([block.dim for block in train.blocks])
        if len(train.blocks) == 1:
            # Vectors that nobody named are those of the model the user will serve with.
            return (QueryModel(),)
        return tuple(
            QueryModel(
                name=block.name, identity=block.identity, role=block.role, dimension=block.dim
            )
            for block in train.blocks
        )


def _section_without_labels(weight: FloatArray | None) -> dict[str, Section]:
    return {} if weight is None else {WITHOUT_LABELS: Section(arrays={"weight": weight})}


def _kind(adapter: BaseAdapter) -> str:
    return kind_of(type(adapter))


def _own_class(adapter: BaseAdapter) -> type[BaseAdapter] | None:
    """Return the class of a user's own adapter, None for a built-in one."""
    return type(adapter) if _kind(adapter) == CUSTOM else None


def _names_of_the_engine() -> set[str]:
    """Return the parameters that a wrong name of a training option may be closest to."""
    parameters = inspect.signature(EmbeddingAdapterFinetuneEngine).parameters
    return {*parameters, _SHOW_PROGRESS_BAR} - {"train_kwargs"}
