"""Embed texts on a cluster with Ray Data; the vectors go to the store on the driver."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from llama_index_adapters.checks import require_number, require_whole
from llama_index_adapters.errors import EmbeddingError, InvalidOptionError
from llama_index_adapters.questions.question_set import Questions, as_dataset
from llama_index_adapters.ray.placement import beside_the_driver, connect
from llama_index_adapters.services.errors import described
from llama_index_adapters.vectors.ask import ask_here, in_asking_order, workers_of
from llama_index_adapters.vectors.checks import checked_vectors
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.request import RejectedTextError, explained
from llama_index_adapters.vectors.store import EmbeddingStore
from llama_index_adapters.vectors.store_rows import Role

# What an actor is given at once, and so what a lost one has to do again. Ray spends some
# milliseconds on each.
_TEXTS_PER_BLOCK = 256
_BLOCKS_PER_ACTOR = 4
_FLOAT = np.dtype("<f4")


def embed_with_ray(
    data: Questions | Sequence[str],
    embed_model: BaseEmbedding,
    store: EmbeddingStore | Path | str | None = None,
    *,
    role: Role | None = None,
    actors: int | None = None,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    show_progress: bool = True,
) -> int:
    """Embed texts on a Ray cluster, each once, as far as they are not stored yet.

    Every actor holds the model and is given a few hundred texts at a time. The driver alone
    writes to the store, each answer as it arrives, so a call that was interrupted continues
    where it was. The vectors stay in the store, where engines and ``evaluate`` find them.

    The model travels to the actors by Ray's own serialization, with every key it holds. A
    service is asked by each actor with the model's ``num_workers`` (8 when it sets none).

    Args:
        data: anything with ``queries``, ``corpus`` and ``relevant_docs``, or a list of texts.
        embed_model: any LlamaIndex embedding model whose class the nodes can import.
        store: an open store, or the path of one; by default the one in the user's cache
            directory.
        role: of a list of texts: ``"query"`` or ``"passage"``.
        actors: at most so many; as many as the cluster has CPUs (or GPUs) for when left out.
        num_cpus: CPUs that Ray reserves for an actor.
        num_gpus: GPUs that Ray reserves for an actor.
        show_progress: whether to show a progress bar.

    Returns:
        How many texts the model was asked for; the rest were stored.

    Raises:
        InvalidDatasetError: when the parts of a dataset do not fit together, or a text is empty.
        InvalidOptionError: for a value that cannot be used, or a model that cannot be sent.
        EmbeddingError: when the model or the cluster fails; what was stored before stays, and
            the same call continues.

    Example:
        >>> ray.init(address="auto")
        >>> embed_with_ray(dataset, OpenAIEmbedding(), store="vectors.sqlite3")
    """
    listed = data if isinstance(data, Sequence) and not isinstance(data, str) else None
    if (listed is None) != (role is None):
        raise InvalidOptionError(
            f"role is {role!r}; a list of texts needs one, 'query' or 'passage', and a dataset, "
            "which has both, takes none."
        )
    if actors is not None:
        require_whole(actors, "actors")
    for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        require_number(value, name, least=0)
    model = IdentifiedModel(embed_model)
    parts: list[tuple[Role, list[str], list[str] | None]]
    if listed is not None and role is not None:
        parts = [(role, list(listed), None)]
    else:
        questions = as_dataset(data)
        parts = [
            ("passage", list(questions.corpus.values()), list(questions.corpus)),
            ("query", list(questions.queries.values()), list(questions.queries)),
        ]
    ask = _AskOnRay(actors, num_cpus, num_gpus)
    embedder = Embedder(model, store, show_progress=show_progress, ask=ask)
    return sum(embedder.fill(texts, role, ids=ids).texts for role, texts, ids in parts)


@dataclass(frozen=True)
class _AskOnRay:
    """A way to get texts through a model, see :class:`llama_index_adapters.vectors.ask.Ask`."""

    actors: int | None
    num_cpus: float
    num_gpus: float

    def __call__(
        self, model: BaseEmbedding, texts: Sequence[str], *, batched: bool, keep: Any, take: Any
    ) -> Iterator[int]:
        """Ask on the cluster; keep in this process."""
        texts = take(texts)
        if not texts:
            return
        connect()
        texts = in_asking_order(model, texts)
        sent = _sent(model)
        actors = self.actors or self._most_actors()
        # A block is a multiple of the model's own batch, so that its batches are those of one
        # machine, and with them the last bit of a vector.
        step = (model.embed_batch_size if batched else 1) * (workers_of(model) or 1)
        wanted = min(_TEXTS_PER_BLOCK, -(-len(texts) // (_BLOCKS_PER_ACTOR * actors)))
        block = -(-wanted // step) * step
        stop = ray.remote(**beside_the_driver())(_Stop).remote()
        answers = ray.data.from_arrow(
            [_block(texts, start, block) for start in range(0, len(texts), block)]
        ).map_batches(
            _Asker,
            fn_constructor_args=(ray.put(sent), IdentifiedModel(model).identity, batched, stop),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            # It may shrink, so that an actor whose node is gone finds a place at the end.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        )
        answers.context.enable_progress_bars = False
        failure: Exception | None = None
        try:
            for answer in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
                rows, vectors, said = _read(answer, texts)
                if len(rows):
                    try:
                        keep([texts[row] for row in rows], vectors)
                    except EmbeddingError as error:
                        ray.get(stop.set.remote())
                        said = said or explained(error, model, texts)
                yield len(rows)
                # What is under way on other actors is still kept.
                failure = failure or said
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            raise EmbeddingError(
                f"Ray could not run the embedding model {IdentifiedModel(model).label} "
                f"({described(cause, model, texts)})."
            ) from None
        finally:
            ray.kill(stop)
        if failure is not None:
            raise failure

    def _most_actors(self) -> int:
        total = ray.cluster_resources()
        fits = [
            int(total.get(name, 0) // each)
            for name, each in (("CPU", self.num_cpus), ("GPU", self.num_gpus))
            if each
        ]
        return max(1, min(fits, default=1))


class _Stop:
    """Tells all actors that one of them failed."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set


class _Asker:
    """An actor that holds the model."""

    def __init__(self, sent: Any, model_id: str, batched: bool, stop: Any) -> None:
        self._sent = sent
        self._model_id = model_id
        self._batched = batched
        self._stop = stop
        self._model: BaseEmbedding | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return a vector for every text, as far as the model gives them, and what it failed by."""
        if ray.get(self._stop.is_set.remote()):
            return _answer({}, None)
        rows = {text.decode("utf-8", "surrogatepass"): row for row, text in _pairs(block)}
        kept: dict[int, NDArray[np.float32]] = {}

        def keep(texts: Sequence[str], vectors: object) -> None:
            for text, vector in zip(texts, checked_vectors(vectors, len(texts)), strict=True):
                kept[rows[text]] = vector

        try:
            for _ in ask_here(self._arrived(), list(rows), batched=self._batched, keep=keep):
                pass
        except EmbeddingError as error:
            ray.get(self._stop.set.remote())
            failure: dict[str, str | int] = {"message": str(error)}
            if isinstance(error, RejectedTextError):
                failure["row"] = rows[error.text]
            return _answer(kept, failure)
        return _answer(kept, None)

    def _arrived(self) -> BaseEmbedding:
        """Return the model, unpacked here so that a failure of it can be told."""
        if self._model is None:
            try:
                model = IdentifiedModel(ray.cloudpickle.loads(ray.get(self._sent)))
                arrived = model.identity
            except Exception as error:
                raise EmbeddingError(
                    "The embedding model could not be unpacked on a node "
                    f"({described(error, None)}). Install the packages and files it needs there."
                ) from None
            if arrived != self._model_id:
                raise EmbeddingError(
                    f"The embedding model {model.label} arrived on a node with other "
                    "settings or files than it has on the driver. Put its files at the same path "
                    "on every node, or name the model instead of a folder."
                )
            self._model = model.model
        return self._model


def _sent(model: BaseEmbedding) -> bytes:
    try:
        packed: bytes = ray.cloudpickle.dumps(model)
    except Exception as error:
        raise InvalidOptionError(
            f"The embedding model {IdentifiedModel(model).label} cannot be sent to other processes "
            f"({described(error, model)}). Give one that pickle can write."
        ) from None
    return packed


_TEXTS = pa.schema([("row", pa.int64()), ("text", pa.binary())])
_ANSWER = pa.schema([("row", pa.int64()), ("vector", pa.binary()), ("failure", pa.string())])


def _block(texts: Sequence[str], start: int, size: int) -> pa.Table:
    # Bytes, because Arrow's text holds no lone surrogate, and the store does.
    part = [text.encode("utf-8", "surrogatepass") for text in texts[start : start + size]]
    return pa.table([range(start, start + len(part)), part], schema=_TEXTS)


def _pairs(block: pa.Table) -> Iterator[tuple[int, bytes]]:
    return zip(block["row"].to_pylist(), block["text"].to_pylist(), strict=True)


def _answer(kept: dict[int, NDArray[np.float32]], failure: dict[str, Any] | None) -> pa.Table:
    vectors = [vector.astype(_FLOAT, copy=False).tobytes() for vector in kept.values()]
    table = pa.table([list(kept), vectors, [None] * len(kept)], schema=_ANSWER)
    if failure is None:
        return table
    said = pa.table([[None], [None], [json.dumps(failure)]], schema=_ANSWER)
    return pa.concat_tables([table, said])


def _read(
    answer: pa.Table, texts: Sequence[str]
) -> tuple[list[int], NDArray[np.float32], EmbeddingError | None]:
    rows: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    failure: EmbeddingError | None = None
    for record in answer.to_pylist():
        if record["failure"] is None:
            rows.append(record["row"])
            vectors.append(np.frombuffer(record["vector"], _FLOAT))
            continue
        told = json.loads(record["failure"])
        if "row" in told:
            failure = RejectedTextError(told["message"], texts[told["row"]])
        else:
            failure = EmbeddingError(told["message"])
    return rows, np.array(vectors, np.float32), failure
