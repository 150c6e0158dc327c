"""Wrong indexes, readers of them, and labels about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.vector_stores.simple import SimpleVectorStore

from llama_index_adapters import (
    AdapterEmbeddingModel,
    Page,
    Reading,
    read_index,
    register_reader,
    rewrite_index,
)
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    ModelMismatchError,
    UnsupportedStoreError,
    UnwritableFileError,
)
from tests.bad_inputs.rows import BadInput, Call, holds, rows
from tests.fakes import CountingEmbedding
from tests.rewriting import halved, indexed_simply


class Store:
    """A vector store of the tests; what it gives is set by :func:`reading`."""

    reading: Any = None


register_reader(Store, lambda store, page_size: store.reading)


def table() -> Iterator[BadInput]:
    yield from _indexes()
    yield from _pages()
    yield from _labels()
    yield from _rewriting()


def _read(reading: Any, model: Any, options: dict[str, Any], directory: Path | None) -> Any:
    store = Store()
    store.reading = reading
    return read_index(store, model, directory=directory, show_progress=False, **options)


def _page(*arguments: Any, **options: Any) -> Call:
    pages = [Page(*arguments, **options)]
    return lambda d: _read(Reading("cosine", pages), None, {}, d)


def _whole(model: Any = None) -> Reading:
    model = model or CountingEmbedding()
    return Reading("cosine", [Page(["a", "b"], [model.vector("x"), model.vector("y")], ["x", "y"])])


def _indexes() -> Iterator[BadInput]:
    name = "read_index"
    yield from rows(
        name,
        UnsupportedStoreError,
        ("None", lambda _: read_index(None), "no reader for NoneType"),
        ("a name", lambda _: read_index("index"), "no reader for str"),
    )
    empty = partial(read_index, SimpleVectorStore(), show_progress=False)

    def read(**options: Any) -> Call:
        return lambda d: _read(_whole(), CountingEmbedding(), options, d)

    yield from rows(
        name, InvalidDatasetError, ("an empty store", lambda _: empty(), "has no vectors")
    )
    yield from rows(
        name,
        InvalidOptionError,
        ("a name as model", lambda _: empty("m"), "embed_model is str"),
        ("pages of none", lambda _: empty(page_size=0), "page_size is 0"),
        ("pages of 1.5", lambda _: empty(page_size=1.5), "page_size is 1.5"),
        ("a mapping as filters", read(filters={"a": 1}), "filters is of type dict; give"),
        ("a number as docstore", read(docstore=3), "docstore is of type int; give"),
        ("a negative seed", read(seed=-1), "seed is -1"),
    )
    missing = ("no folder", lambda d: empty(directory=d / "no"), "No files can be made in")
    yield from rows(name, UnwritableFileError, missing)
    another = Reading("cosine", [Page(["a"], [[1.0] * 8], ["x"])])
    dim = Reading("cosine", [Page(["a"], [[1.0]], ["x"])])
    zero = Reading("cosine", [Page(["a"], [[0.0] * 8], ["x"])])
    model = CountingEmbedding()
    yield from rows(
        name,
        ModelMismatchError,
        ("another model's vectors", partial(_read, another, model, {}), "are not what counting"),
        ("another dimension", partial(_read, dim, model, {}), "have 1 dimensions, those of coun"),
        ("stored zeros", partial(_read, zero, model, {}), "are not what counting gives"),
    )
    register: Any = register_reader
    yield from rows(
        "register_reader",
        InvalidOptionError,
        ("a name", lambda _: register("Store", print), "expected the class of a vector store"),
        ("an instance", lambda _: register(Store(), print), "expected the class of a vector sto"),
        ("None as reader", lambda _: register(Store, None), "a function of"),
    )


def _pages() -> Iterator[BadInput]:
    yield from rows(
        "Reading",
        InvalidOptionError,
        ("None", partial(_read, None, None, {}), "The reader of Store gave a NoneType"),
        ("a list", partial(_read, [1], None, {}), "gave a list; expected a Reading"),
        ("no pages", partial(_read, Reading("cosine", 3), None, {}), "iterable of pages"),  # type: ignore[arg-type]
        (
            "another similarity",
            partial(_read, Reading("cosin", []), None, {}),  # type: ignore[arg-type]
            "similarity='cosin'; use one of",
        ),
    )
    one = [[1.0, 2.0]]
    yield from rows(
        "Page",
        InvalidDatasetError,
        ("a row for a page", partial(_read, Reading("cosine", [3]), None, {}), "gave a int among"),  # type: ignore[list-item]
        ("numbers as ids", _page([1], one), "ids that are not str"),
        ("too few vectors", _page(["a", "b"], one), "has 2 ids and 1 vectors"),
        ("too few texts", _page(["a"], one, []), "has 1 ids and 0 texts"),
        ("numbers as texts", _page(["a"], one, [3]), "has texts of another type"),
        ("too little metadata", _page(["a"], one, ["x"], []), "has 1 ids and 0 metadata"),
        ("words as metadata", _page(["a"], one, ["x"], ["y"]), "has metadata of another type"),
    )
    two = [Page(["a"], [[1.0]]), Page(["b"], one)]
    yield from rows(
        "Page",
        InvalidVectorsError,
        ("NaN", _page(["a"], [[float("nan")]]), "from node 'a' on cannot be used.*NaN"),
        ("mixed dimensions", _page(["a", "b"], [[1.0], [1.0, 2.0]]), "cannot be used"),
        ("words as vectors", _page(["a"], [["x"]]), "cannot be used"),
        ("one vector", _page(["a"], [1.0]), r"shape \(1,\)"),
        (
            "another dimension than before",
            partial(_read, Reading("cosine", two), None, {}),
            "have 1 dimensions, and 2 from node 'b' on",
        ),
    )


def _labels() -> Iterator[BadInput]:
    def corpus(directory: Path) -> Any:
        return _read(_whole(), CountingEmbedding(), {}, None)

    def dataset(labels: Any, **options: Any) -> Call:
        def call(directory: Path) -> object:
            found = directory / labels if str(labels).endswith("l") else labels
            given = {"store": directory / "store.sqlite3", "show_progress": False, **options}
            return corpus(directory).dataset(found, **given)

        return call

    name = "read_index: corpus.dataset"
    yield from rows(
        name,
        InvalidDatasetError,
        ("None", dataset(None), "A NoneType without queries"),
        ("no labels", dataset({}), "The labels are empty"),
        ("one id for a list", dataset({"q": "a"}), "is a text with a text; expected"),
        ("a number for a list", dataset({"q": 1}), "is a text with of type int"),
        ("a query without nodes", dataset({"q": []}), "with an empty list"),
        ("numbers as ids", dataset({"q": [1]}), "at least one node id"),
        ("an empty query", dataset({"": ["a"]}), "Entry 0 of the labels is an empty text"),
        ("an unknown node", dataset({"q": ["z"]}), r"not in the index \('z'\)"),
        ("only unknown nodes", dataset({"q": ["z"]}, unknown_nodes="drop"), "no query has another"),
    )
    yield from rows(
        name,
        InvalidOptionError,
        ("another word", dataset({"q": ["a"]}, unknown_nodes="keep"), "unknown_nodes is 'keep'"),
        ("a number as store", dataset({"q": ["a"]}, store=3), "store is 3; give a path"),
        ("a file of another kind", dataset("log.yaml"), "ends in '.yaml'|ends in"),
        (
            "no model",
            lambda _: _read(_whole(), None, {}, None).dataset({"q": ["a"]}),
            "no embed_model was given",
        ),
    )
    yield from rows(name, MissingFileError, ("no file", dataset("no.jsonl"), "There is no file"))
    yield from rows(
        name,
        InvalidFileError,
        ("truncated JSON", dataset("log.jsonl"), "line 1 is not JSON"),
        given=holds("log.jsonl", '{"query": "q'),
    )
    name = "read_index: corpus.nodes"
    for count, seed in ((0, 0), (-1, 0), (1.5, 0), ("x", 0), (1, -1)):
        call = partial(lambda c, s, d: corpus(d).nodes(c, seed=s), count, seed)
        case = (
            f"count={count!r}, seed={seed}",
            call,
            "count is .*; give a whole|seed is -1",
        )
        yield from rows(name, InvalidOptionError, case)


def _rewriting() -> Iterator[BadInput]:
    def rewrite(adapter: Any = None, into: Any = None, **options: Any) -> Call:
        def call(directory: Path) -> object:
            index = indexed_simply()
            given = adapter or AdapterEmbeddingModel(CountingEmbedding(), directory / "adapter")
            store = index.vector_store if into == "itself" else into or SimpleVectorStore()
            return rewrite_index(index, given, store, show_progress=False, **options)

        return call

    def saved(directory: Path) -> None:
        halved(directory / "adapter", CountingEmbedding())

    yield from rows(
        "rewrite_index",
        InvalidOptionError,
        ("a path as adapter", rewrite("adapter"), "adapter is a str; give what"),
        ("a base model", rewrite(CountingEmbedding()), "adapter is a CountingEmbedding; give what"),
        ("the store itself", rewrite(into="itself"), "into is the store of the index itself"),
        ("pages of none", rewrite(page_size=0), "page_size is 0"),
        given=saved,
    )
    yield from rows(
        "rewrite_index",
        UnsupportedStoreError,
        ("a name as store", rewrite(into="store"), "no reader for str"),
        given=saved,
    )
