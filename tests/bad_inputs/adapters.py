"""Wrong adapters, directories of adapters, and models that serve them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llama_index_adapters import (
    AdapterEmbeddingModel,
    BaseAdapter,
    LinearAdapter,
    TwoLayerAdapter,
    TwoLayerNN,
    VectorDataset,
    compare_adapters,
    evaluate,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.base import load_adapter
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidAdapterError,
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    ModelMismatchError,
    UnknownOptionError,
    UnwritableFileError,
)
from llama_index_adapters.retrieval.query_blocks import QueryBlock
from llama_index_adapters.serving.saved import load_saved
from tests.bad_inputs.rows import EYE, GOOD, NAN, ROWS, BadInput, Call, holds, rows
from tests.fakes import CountingEmbedding, WordsEmbedding


class Own(BaseAdapter):
    """An adapter of a user's own that goes wrong in the way its attribute says."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config = config

    def forward(self, embed: Any) -> Any:
        return embed[:, :1] if self.config == {"config": "short"} else embed @ embed

    def get_config_dict(self) -> dict[str, Any]:
        return self.config or {}


def table() -> Iterator[BadInput]:
    yield from _families()
    yield from _saving()
    yield from _loading()
    yield from _serving()
    yield from _langchain()
    yield from _evaluating()


def _made(family: Any, arguments: tuple[Any, ...], options: dict[str, Any], _: Path) -> object:
    return family(*arguments, **options)


def _families() -> Iterator[BadInput]:
    for family, rest in ((LinearAdapter, ()), (TwoLayerAdapter, ()), (TwoLayerNN, (4, 4))):
        for size in (0, -1, 1.5, "4", None, True, 10**12):
            call = partial(_made, family, (size, *rest), {})
            case = (f"a dimension of {size!r}", call, "in_features is .*; give a whole number")
            yield from rows(family.__name__, InvalidOptionError, case)
        case = ("a word as seed", partial(_made, family, (4, *rest), {"seed": "x"}), "seed is 'x'")
        yield from rows(family.__name__, InvalidOptionError, case)
    for family, arguments, options, text in (
        (LinearAdapter, (4, 0), {}, "out_features is 0"),
        (LinearAdapter, (4,), {"rank": 0}, "rank=0 with 4 to 4"),
        (LinearAdapter, (4,), {"rank": "2"}, "rank='2' with 4 to 4"),
        (LinearAdapter, (4,), {"rank": 1.5}, "rank=1.5 with 4 to 4"),
        (LinearAdapter, (4, 3), {"rank": 2}, "a low-rank adapter is square"),
        (TwoLayerAdapter, (4, -1), {}, "hidden_features is -1"),
        (TwoLayerNN, (4, 4, 0), {}, "out_features is 0"),
    ):
        call = partial(_made, family, arguments, options)
        wrong = f"{arguments} {options}"
        yield from rows(family.__name__, InvalidOptionError, (wrong, call, text))
    for family, arguments, options, text in (
        (TwoLayerAdapter, (4,), {"activation": "gleu"}, "Did you mean 'gelu'"),
        (TwoLayerNN, (4, 4, 4), {"activation_fn_str": "x"}, "Unknown activation 'x'"),
    ):
        call = partial(_made, family, arguments, options)
        case = ("no such activation", call, text)
        yield from rows(family.__name__, InvalidAdapterError, case)
    yield from rows(
        "LinearAdapter.load_arrays",
        InvalidAdapterError,
        ("another's arrays", lambda _: LinearAdapter(4).load_arrays({"x": EYE}), "do not fit"),
        (
            "another shape",
            lambda _: LinearAdapter(3).load_arrays({"linear.weight": EYE}),
            "do not fit LinearAdapter",
        ),
    )


def _saving() -> Iterator[BadInput]:
    name = "save_adapter"
    broken = LinearAdapter(4)
    broken.load_arrays({"linear.weight": NAN})
    good, none = LinearAdapter(4), None
    yield from rows(
        name, InvalidAdapterError, ("NaN", lambda d: save_adapter(d / "a", broken), "holds NaN")
    )
    case = ("None as path", lambda _: save_adapter(none, good), "path is None")  # type: ignore[arg-type]
    yield from rows(name, InvalidOptionError, case)
    yield from rows(
        name,
        InvalidFileError,
        ("a file for a directory", lambda d: save_adapter(d / "mine", good), "is a file"),
        given=holds("mine", "x"),
    )
    others = ("a directory of others", lambda d: save_adapter(d, good), "mine.txt")
    yield from rows(name, InvalidOptionError, others, given=holds("mine.txt", "x"))
    read_only = ("a read-only folder", lambda _: good.save("/proc/a"), "/proc/a cannot be written")
    yield from rows("BaseAdapter.save", UnwritableFileError, read_only)
    yield from rows(
        "BaseAdapter.save",
        InvalidAdapterError,
        ("a config of objects", lambda d: Own({"x": object()}).save(d / "a"), "as JSON"),
        ("a config of NaN", lambda d: Own({"x": float("nan")}).save(d / "a"), "as JSON"),
    )


def _adapter(name: str = "adapter", adapter: Any = None, **files: bytes) -> Call:
    def write(directory: Path) -> None:
        save_adapter(directory / name, adapter or LinearAdapter(8))
        for file, data in files.items():
            (directory / name / file.replace("_", ".", 1)).write_bytes(data)

    return write


def _loading() -> Iterator[BadInput]:
    for load in (load_saved, load_adapter):
        there = partial(lambda f, d: f(d / "no"), load)
        empty = partial(lambda f, d: f(d), load)
        yield from rows(
            load.__name__,
            MissingFileError,
            ("nothing there", there, "is not there"),
            ("an empty directory", empty, "no config.json"),
        )
    of_none: Any = None
    yield from rows(
        "load_saved", InvalidOptionError, ("None", lambda _: load_saved(of_none), "path is None")
    )
    for wrong, files, text in (
        ("truncated JSON", {"config_json": b'{"kind": '}, "not valid JSON"),
        ("a config that is not UTF-8", {"config_json": b"\xff"}, "not valid JSON"),
        ("a config of another kind", {"config_json": b"[]"}, "a JSON list"),
        ("truncated weights", {"model_safetensors": b"\x10"}, "not a safetensors file"),
        (
            "a huge header",
            {"model_safetensors": (2**62).to_bytes(8, "little")},
            "not a safetensors file",
        ),
    ):
        case = (wrong, lambda d: load_saved(d / "adapter"), text)
        yield from rows("load_saved", InvalidAdapterError, case, given=_adapter(**files))
    yield from rows(
        "BaseAdapter.load",
        InvalidAdapterError,
        ("another kind", lambda d: TwoLayerAdapter.load(d / "adapter"), "holds LinearAdapter"),
        given=_adapter(),
    )
    yield from rows(
        "BaseAdapter.load",
        MissingFileError,
        ("no directory", lambda d: LinearAdapter.load(d / "no"), "is not there"),
    )


def _served(directory: Path, model: Any = None, **options: Any) -> AdapterEmbeddingModel:
    model = model or CountingEmbedding()
    return AdapterEmbeddingModel(model, directory / "adapter", **options)


def _answering(answer: Any) -> CountingEmbedding:
    return CountingEmbedding(answer=lambda texts, vectors: answer)


def _serving() -> Iterator[BadInput]:
    name = "AdapterEmbeddingModel"
    serve: Any = AdapterEmbeddingModel
    base = CountingEmbedding()
    yield from rows(
        name,
        InvalidOptionError,
        ("a name as model", lambda d: serve("m", d), "expected a LlamaIndex embedding model"),
        ("None as model", lambda d: serve(None, d), "nothing embeds queries"),
        ("no list of models", lambda d: _served(d, query_embed_models=base), "give a list of"),
        ("no models", lambda d: _served(d, query_embed_models=[]), "query_embed_models is empty"),
        ("a model twice", lambda d: _served(d, query_embed_models=[base, base]), "twice"),
        ("a name among them", lambda d: _served(d, query_embed_models=["m"]), "expected a Llama"),
        ("None as path", lambda _: serve(base, None), "path is None"),
        ("batches of none", lambda d: _served(d, embed_batch_size=0), "embed_batch_size is 0"),
        ("no workers", lambda d: _served(d, num_workers=0), "num_workers is 0; give"),
        ("a word for workers", lambda d: _served(d, num_workers="x"), "num_workers is 'x'"),
        ("a class of another kind", lambda d: _served(d, adapter_cls=str), "adapter_cls is str"),
        given=_adapter(),
    )
    missing = ("no adapter", lambda d: serve(base, d / "no"), "is not there")
    yield from rows(name, MissingFileError, missing)
    own = {"given": _adapter(adapter=Own({"config": "short"}))}
    yield from rows(
        name,
        InvalidAdapterError,
        ("a class that is not given", _served, "Nothing that a file names is imported"),
        **own,
    )
    device = lambda d: _served(d, adapter_cls=Own, device="abacus")  # noqa: E731
    yield from rows(name, InvalidOptionError, ("no such device", device, "'abacus' cannot"), **own)

    def asked(query: Any, model: Any = None, **options: Any) -> Call:
        return lambda d: _served(d, model, **options).get_query_embedding(query)

    yield from rows(
        "BaseAdapter",
        InvalidAdapterError,
        ("fails on vectors", asked("x", adapter_cls=Own), "Own failed on vectors of shape"),
        given=_adapter(adapter=Own()),
    )
    name = f"{name}.get_query_embedding"
    yield from rows(
        name,
        InvalidOptionError,
        ("a number", asked(3), "query is of type int; expected a str"),
        ("None", asked(None), "query is of type NoneType"),
        given=_adapter(),
    )
    nan = [[float("nan")] * 8]
    yield from rows(
        name,
        EmbeddingError,
        ("a model that gives NaN", asked("x", _answering(nan)), "zero, or with NaN"),
        given=_adapter(),
    )
    yield from rows(
        name,
        ModelMismatchError,
        ("a model of another dimension", asked("x", _answering([[1.0]])), "vectors of 8 dim"),
        given=_adapter(),
    )

    def transformed(vectors: Any) -> Call:
        return lambda d: _served(d).transform_queries(vectors)

    yield from rows(
        "AdapterEmbeddingModel.transform_queries",
        InvalidVectorsError,
        ("one vector", transformed([1.0] * 8), r"vectors has shape \(8,\)"),
        ("words", transformed([["a"] * 8]), "cannot be read as one float32"),
        ("NaN", transformed(np.full((1, 8), np.nan)), "vectors holds NaN"),
        given=_adapter(),
    )
    yield from rows(
        "AdapterEmbeddingModel.transform_queries",
        ModelMismatchError,
        ("another dimension", transformed(EYE), "takes query vectors of 8 dimensions"),
        given=_adapter(),
    )
    yield from rows(
        "AdapterEmbeddingModel.transform_passages",
        InvalidVectorsError,
        ("one vector", lambda d: _served(d).transform_passages([1.0] * 8), "vectors has shape"),
        given=_adapter(),
    )
    built: Any = AdapterEmbeddingModel.from_dict
    yield from rows(
        "AdapterEmbeddingModel.from_dict",
        InvalidOptionError,
        ("no base model", lambda _: built({}), "leaves the models out"),
        ("a number", lambda _: built(3), "data is of type int"),
        ("no path", lambda _: built({}, base_embed_model=base), "has no adapter_path"),
    )
    unknown = ("an unknown field", lambda _: built({"x": 1}, base_embed_model=base), "option 'x'")
    yield from rows("AdapterEmbeddingModel.from_dict", UnknownOptionError, unknown)


def _langchain() -> Iterator[BadInput]:
    if importlib.util.find_spec("langchain_core") is None:  # an extra
        return
    from llama_index_adapters.langchain import AdapterEmbeddings

    make: Any = AdapterEmbeddings
    good = make(CountingEmbedding())
    yield from rows(
        "AdapterEmbeddings",
        InvalidOptionError,
        ("a name", lambda _: make("m"), "embed_model is str; expected a LlamaIndex embedding"),
        ("None", lambda _: make(None), "embed_model is NoneType"),
    )
    yield from rows(
        "AdapterEmbeddings.embed_query",
        InvalidOptionError,
        ("a number", lambda _: good.embed_query(3), "A query is of type int"),
    )
    yield from rows(
        "AdapterEmbeddings.embed_documents",
        InvalidOptionError,
        ("one text", lambda _: good.embed_documents("text"), "texts is not a list of texts"),
        ("numbers", lambda _: good.embed_documents([1]), "texts is not a list of texts"),
    )


def _evaluating() -> Iterator[BadInput]:
    def evaluated(directory: Path, **options: Any) -> object:
        places = {"store": directory / "store.sqlite3", "show_progress": False}
        given = {"embed_model": _served(directory), "dataset": GOOD, **places, **options}
        return evaluate(**given)

    def compared(directory: Path, **options: Any) -> object:
        served = _served(directory)
        places = {"store": directory / "store.sqlite3", "show_progress": False}
        given = {"in_use": served, "candidate": served, "dataset": GOOD, **places, **options}
        return compare_adapters(**given)

    base: Any = CountingEmbedding()
    blocks = (QueryBlock(4, "other", "another", "its identity"),)
    vectors = VectorDataset(EYE, EYE, ROWS, blocks=blocks)
    for name, call, model in (
        ("evaluate", evaluated, "embed_model"),
        ("compare_adapters", compared, "candidate"),
    ):
        for wrong, options, error, text in (
            ("a model without an adapter", {model: base}, InvalidOptionError, "has no adapter"),
            ("a path for a model", {model: "adapter"}, InvalidOptionError, "is a str, which has"),
            ("a negative seed", {"seed": -1}, InvalidOptionError, "seed is -1; give"),
            ("a word as seed", {"seed": "x"}, InvalidOptionError, "seed is 'x'; give"),
            ("no similarity", {"similarity": "x"}, InvalidOptionError, "similarity is 'x'"),
            ("a number as store", {"store": 3}, InvalidOptionError, "store is 3; give a path"),
            ("a path for a set", {"dataset": "a.json"}, InvalidDatasetError, "A str without quer"),
            ("None for a set", {"dataset": None}, InvalidDatasetError, "A NoneType without"),
            ("vectors of another", {"dataset": vectors}, ModelMismatchError, "vectors of another"),
        ):
            case = (wrong, partial(lambda c, o, d: c(d, **o), call, options), text)
            yield from rows(name, error, case, given=_adapter())
        case = ("a folder as store", partial(lambda c, d: c(d, store=d), call), "is a folder")
        yield from rows(name, InvalidFileError, case, given=_adapter())
    yield from rows(
        "compare_adapters",
        ModelMismatchError,
        (
            "two base models",
            lambda d: compared(d, candidate=_served(d, WordsEmbedding(dimension=8))),
            "in use serves counting and the candidate words",
        ),
        given=_adapter(),
    )
