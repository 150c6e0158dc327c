"""The embedding model that LlamaIndex sees: a base model whose queries are adapted."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.served.base import (
    adapt,
    adapt_vector,
    have_direction,
    unit,
    without_direction,
)
from llama_index_adapters.adapters.served.linear import IdentityTransform
from llama_index_adapters.checks import require_whole
from llama_index_adapters.display.html import facts
from llama_index_adapters.errors import (
    InvalidOptionError,
    ModelMismatchError,
    UnknownOptionError,
    closest_name,
)
from llama_index_adapters.retrieval.vector_dataset import as_matrix
from llama_index_adapters.serving.fitting import require_models
from llama_index_adapters.serving.forwarding import ForwardingEmbedding, heard_from
from llama_index_adapters.serving.saved import SavedAdapter, load_saved
from llama_index_adapters.serving.several import (
    Row,
    SeveralModels,
    checked_vector,
    useless_query,
)
from llama_index_adapters.serving.watching import (
    reported,
    unheard,
    without_span,
)
from llama_index_adapters.vectors.query_models import QueryModels

if TYPE_CHECKING:
    from llama_index_adapters.adapters.learned.base import BaseAdapter


class AdapterEmbeddingModel(ForwardingEmbedding):
    """An embedding model that adapts queries and leaves texts to the model it wraps.

    An adapter with fewer dimensions maps texts too: it is the model of an index that
    :func:`llama_index_adapters.rewrite_index` made.

    Hand it to a retriever of an index that was built with the base model: stored vectors stay
    as they are, queries come out adapted, with the length the base model gave them. Every text
    goes to the base model's public methods in its own batches, so its cache, rate limiter and
    events keep working.

    A text is reported once: by the base model, whose events hold the base model's vectors. This
    model makes a span around it where somebody receives spans, and events of its own for those
    callback handlers alone that the base model does not report to. So whoever counts tokens,
    with handlers here, on the base model, in ``Settings`` or on all of them, counts each once.

    Serving a built-in adapter needs numpy alone; a user's own class runs as a torch module.

    A pickle carries the adapter's weights and the base model, with its credentials; a deep copy
    shares the base model. :meth:`to_dict` leaves the base model out; hand it to
    :meth:`from_dict`.

    Attributes:
        base_embed_model: the model of the index, which embeds texts; None when it is gone.
        query_embed_models: the models that embed queries, in the order of their vectors.
        adapter_path: the directory the adapter was read from.
        transform_query: whether queries are adapted.
        device: where a user's own adapter runs.
        fingerprint: sha256 over adapter, base model and ``transform_query``, so that no two
            models share an entry of an ingestion cache.

    Args:
        base_embed_model: the model of the index, with which the adapter was trained; None when it
            is gone and other models embed the queries. Texts cannot be embedded then.
        adapter_path: the directory of a saved adapter, LlamaIndex's old ones included.
        adapter_cls: the class of a user's own adapter; not needed for a built-in one.
        transform_query: adapt queries. False hands them through as the base gives them.
        device: torch device of a user's own adapter, the CPU when left out.
        embed_batch_size: texts handed to the base at a time, the base's own batch size when
            left out. It is rounded to a multiple of that, so that no request is half full.
        callback_manager: its handlers receive an event for every request, once.
        query_embed_models: the models that embed queries, as in training; ``[base_embed_model]``
            when left out. The asynchronous methods ask them at the same time.
        check_model_name: refuse a base model with another name than the one the adapter was
            trained on. Set it to False when both names stand for the same vectors.
        num_workers: concurrent batches of the async methods, the base's when left out.

    Raises:
        ModelMismatchError: when the base model has another name; at the first query, when its
            vectors have another dimension.
        MissingFileError: when there is no adapter at ``adapter_path``.
        InvalidAdapterError: when the adapter cannot be used.
        InvalidOptionError: when an option cannot be used.

    Example:
        >>> embed_model = AdapterEmbeddingModel(OpenAIEmbedding(), "adapter")
        >>> retriever = index.as_retriever(embed_model=embed_model)
    """

    adapter_path: str = Field(frozen=True)
    transform_query: bool = Field(frozen=True)
    device: str | None = Field(frozen=True)
    fingerprint: str = Field(frozen=True)

    _saved: SavedAdapter = PrivateAttr()
    _several: SeveralModels | None = PrivateAttr(default=None)

    def __init__(
        self,
        base_embed_model: BaseEmbedding | None,
        adapter_path: str | PathLike[str],
        adapter_cls: type[BaseAdapter] | None = None,
        transform_query: bool = True,
        device: str | None = None,
        embed_batch_size: int | None = None,
        callback_manager: CallbackManager | None = None,
        *,
        query_embed_models: Sequence[BaseEmbedding] | None = None,
        check_model_name: bool = True,
        num_workers: int | None = None,
    ) -> None:
        models = QueryModels.of(base_embed_model, query_embed_models)
        base = (models.base or models.models[0]).model
        if models.base is None and not transform_query:
            raise InvalidOptionError(
                "transform_query=False hands out the vectors of the index's own model, and "
                "base_embed_model is None. Leave it out, or give that model."
            )
        if num_workers is not None:
            otherwise = f", or leave it out for the base model's ({base.num_workers})"
            require_whole(num_workers, "num_workers", otherwise=otherwise)
        saved = load_saved(adapter_path, adapter_cls, device=device)
        if saved.passages is not None and not transform_query:
            raise InvalidOptionError(
                f"transform_query=False leaves queries as they are, and the adapter at "
                f"{adapter_path} maps passages to {saved.passages.passage_dim} dimensions. Leave "
                "it out."
            )
        require_models(models, saved.metadata, str(adapter_path), check_names=check_model_name)
        named = [model.model.model_name for model in models.models]
        fields: dict[str, Any] = {
            "base_embed_model": None if models.base is None else models.base.model,
            "query_embed_models": tuple(model.model for model in models.models),
            "adapter_path": str(adapter_path),
            "transform_query": transform_query,
            "device": device,
            "fingerprint": _fingerprint(models, saved, adapter_cls, transform_query),
            "model_name": f"Adapter for {' and '.join(named)}",
            "embed_batch_size": _batch_size(base.embed_batch_size, embed_batch_size),
            "num_workers": base.num_workers if num_workers is None else num_workers,
            "callback_manager": callback_manager or CallbackManager([]),
        }
        super().__init__(**fields)
        self._saved = saved
        if not models.is_base_alone or saved.metadata.result_length != "base":
            self._several = SeveralModels(
                [model.model for model in models.models],
                saved.metadata.query_models,
                saved.metadata.result_length,
            )

    @classmethod
    def class_name(cls) -> str:
        """Return the name LlamaIndex serializes the class under."""
        return "AdapterEmbeddingModel"

    def __repr__(self) -> str:
        """Say which adapter serves which model, in one line."""
        return f"AdapterEmbeddingModel({', '.join(f'{k}={v!r}' for k, v in self._facts().items())})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook."""
        return facts("AdapterEmbeddingModel", self._facts())

    def _facts(self) -> dict[str, object]:
        labels = ", ".join(model.label for model in self.query_models.models)
        found: dict[str, object] = {
            "adapter": self.adapter_kind,
            "adapter_path": self.adapter_path,
            "queries_from": labels,
        }
        return found if self.transform_query else {**found, "transform_query": False}

    @property
    def query_models(self) -> QueryModels:
        """The models that embed queries, and which of them is the index's own."""
        return QueryModels.of(self.base_embed_model, self.query_embed_models)

    @property
    def adapter_kind(self) -> str:
        """The family of the adapter, ``"custom"`` for a user's own class."""
        return self._saved.kind

    @property
    def metadata(self) -> AdapterMetadata:
        """What is known about the adapter beside its weights."""
        return self._saved.metadata

    def transform_queries(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Adapt many query vectors at once, as each query would be.

        Args:
            vectors: ``(n, query_dim)`` of the base model; of several models side by side, as
                :attr:`llama_index_adapters.VectorDataset.queries` has them.

        Returns:
            ``(n, passage_dim)`` float32.

        Raises:
            InvalidVectorsError: when they are not a finite matrix.
            EmbeddingError: when one of them is zero.
            InvalidAdapterError: when an adapted vector is zero or not finite.
            ModelMismatchError: when they have another dimension than the adapter takes.
        """
        queries = as_matrix(vectors, "vectors")
        if not self.transform_query:
            return queries
        self._check_dimension(queries.shape[1])
        if not have_direction(queries):
            raise useless_query(self.model_name)
        if isinstance(self._saved.transform, IdentityTransform):
            return queries
        adapted = adapt(self._saved.transform, queries, unit_input=self._saved.unit_input)
        if not have_direction(adapted):
            raise without_direction()
        length = self._saved.metadata.result_length
        return adapted if length == "base" else unit(adapted) * np.float32(length)

    @property
    def maps_passages(self) -> bool:
        """Whether texts are mapped too, so that it serves a rewritten index."""
        return self._saved.passages is not None

    @property
    def dimension(self) -> int | None:
        """Dimension of the vectors that it gives; None when a user's own adapter does not say."""
        return self._saved.transform.passage_dim

    def transform_passages(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Map many passage vectors at once, as each text would be; each keeps its length.

        Args:
            vectors: ``(n, dim)`` of the base model.

        Returns:
            ``(n, passage_dim)`` float32; as they are where the adapter changes queries alone.

        Raises:
            InvalidVectorsError: when they are not a finite matrix.
            InvalidAdapterError: when a vector that is not zero becomes zero.
            ModelMismatchError: when they have another dimension than the adapter takes.
        """
        passages, transform = as_matrix(vectors, "vectors"), self._saved.passages
        if transform is None:
            return passages
        if passages.shape[1] != transform.query_dim:
            raise ModelMismatchError(
                f"The adapter at {self.adapter_path} maps passages of {transform.query_dim} "
                f"dimensions, but these have {passages.shape[1]}. Give those of the base model, "
                "as the index that is not rewritten has them."
            )
        mapped = adapt(transform, passages)
        if not have_direction(mapped[passages.any(axis=1)]):
            raise without_direction()
        return mapped

    def _one_query(self, query: str) -> Embedding:
        if self._several is None or not self.transform_query:
            return super()._one_query(query)
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()
        return self._get_query_embedding(query)

    async def _aone_query(self, query: str) -> Embedding:
        if self._several is None or not self.transform_query:
            return await super()._aone_query(query)
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()
        return await self._aget_query_embedding(query)

    @without_span
    def _get_query_embedding(self, query: str) -> Embedding:
        query = _checked_text(query)
        if self._several is None or not self.transform_query:
            return self._adapted(self._text_model.get_query_embedding(query))
        return self._mapped(self._several.ask(query, partial(self._report, query)))

    @without_span
    async def _aget_query_embedding(self, query: str) -> Embedding:
        query = _checked_text(query)
        if self._several is None or not self.transform_query:
            return self._adapted(await self._text_model.aget_query_embedding(query))
        return self._mapped(await self._several.aask(query, partial(self._report, query)))

    def _report(self, query: str, model: BaseEmbedding) -> AbstractContextManager[list[Embedding]]:
        """Report to those who do not hear from a model that it embeds a query."""
        return reported(self, unheard(self.callback_manager, heard_from(model)), [query])

    def _mapped(self, row: Row) -> Embedding:
        mapped = adapt_vector(self._saved.transform, row.unit, 1.0) * np.float32(row.length)
        numbers: Embedding = mapped.tolist()
        return numbers

    def _adapted(self, vector: Embedding) -> Embedding:
        if not self.transform_query:
            return vector
        query, length = checked_vector(vector, self._text_model.model_name)
        # Where pydantic keeps ``_saved``, which it finds a hundred times more slowly by its name.
        saved: SavedAdapter = (self.__pydantic_private__ or {})["_saved"]
        if query.size != saved.transform.query_dim:
            self._check_dimension(query.size)
        if isinstance(saved.transform, IdentityTransform):
            return vector  # the base's numbers, to the last bit
        adapted = adapt_vector(saved.transform, query, length, unit_input=saved.unit_input)
        numbers: Embedding = adapted.tolist()
        return numbers

    @without_span
    def _get_text_embedding(self, text: str) -> Embedding:
        return self._mapped_texts([super()._get_text_embedding(text)])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return self._mapped_texts([await super()._aget_text_embedding(text)])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._mapped_texts(super()._get_text_embeddings(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._mapped_texts(await super()._aget_text_embeddings(texts))

    def _mapped_texts(self, vectors: list[Embedding]) -> list[Embedding]:
        if self._saved.passages is None or not vectors:
            return vectors
        mapped: list[Embedding] = self.transform_passages(vectors).tolist()
        return mapped

    def _check_dimension(self, found: int) -> None:
        expected = self._saved.transform.query_dim
        if expected is not None and found != expected:
            trained_on = self._saved.metadata.base_model
            given = " and ".join(repr(model.model_name) for model in self.query_embed_models)
            raise ModelMismatchError(
                f"The adapter at {self.adapter_path} takes query vectors of {expected} "
                f"dimensions, but {given} gave one of {found}. Use "
                f"the base model it was trained on{f', {trained_on!r}' if trained_on else ''}."
            )

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Rebuild the model from :meth:`to_dict` and the base model.

        Args:
            data: what :meth:`to_dict` gave. It holds no base model, because that has
                credentials, and no classes.
            **kwargs: ``base_embed_model``, and whichever other arguments of the constructor
                are to differ, such as ``adapter_cls``.

        Raises:
            InvalidOptionError: without a base model, or for data of something else.
            UnknownOptionError: for an argument that the constructor does not have.
            ModelMismatchError: when the adapter at the path, or the base model, is not the one
                the data describes.
        """
        if not isinstance(data, Mapping):
            raise InvalidOptionError(
                f"data is of type {type(data).__name__}; give what {cls.__name__}.to_dict() gave."
            )
        options = {**data, **kwargs}
        fingerprint = options.pop("fingerprint", None)
        for name in ("class_name", "model_name", "embeddings_cache"):
            options.pop(name, None)
        known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
        for name in options:
            if name not in known:
                raise UnknownOptionError(
                    f"{cls.__name__} has no option {name!r}." + closest_name(name, known)
                )
        if "query_embed_models" in kwargs:
            options.setdefault("base_embed_model", None)
        if "base_embed_model" not in options:
            raise InvalidOptionError(
                f"{cls.__name__}.to_dict() leaves the models out, because they hold credentials; "
                "pass them: from_dict(data, base_embed_model=...)."
            )
        if "adapter_path" not in options:
            raise InvalidOptionError(
                f"The data has no adapter_path; give what {cls.__name__}.to_dict() gave."
            )
        model = cls(**options)
        if fingerprint not in (None, model.fingerprint):
            raise ModelMismatchError(
                f"The adapter at {model.adapter_path} or the base model is not the one this data "
                "was made from: their fingerprints differ. Leave 'fingerprint' out of the data "
                "to use what is there now."
            )
        return model


# LlamaIndex's older name.
LinearAdapterEmbeddingModel = AdapterEmbeddingModel


def _checked_text(query: str) -> str:
    if not isinstance(query, str):
        raise InvalidOptionError(f"The query is of type {type(query).__name__}; expected a str.")
    return query


def _batch_size(of_base: int, wanted: int | None) -> int:
    if wanted is None:
        return of_base
    otherwise = f", or leave it out for the base model's ({of_base})"
    require_whole(wanted, "embed_batch_size", most=2048, otherwise=otherwise)
    return max(1, wanted // of_base) * of_base


def _fingerprint(
    models: QueryModels,
    saved: SavedAdapter,
    adapter_cls: type[BaseAdapter] | None,
    transform_query: bool,
) -> str:
    named = f"{adapter_cls.__module__}.{adapter_cls.__qualname__}" if adapter_cls else None
    parts: list[object] = [saved.fingerprint, saved.unit_input, named, transform_query]
    parts.append(None if models.base is None else models.base.identity)
    if not models.is_base_alone:
        parts.append([model.identity for model in models.models])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
