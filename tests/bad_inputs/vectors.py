"""Wrong vectors, and models that give them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llama_index_adapters import Relevance, VectorDataset, local_embedding
from llama_index_adapters.errors import (
    EmbeddingError,
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingExtraError,
    MissingFileError,
    UnknownOptionError,
    UnwritableFileError,
)
from llama_index_adapters.retrieval.ranking import top_k
from llama_index_adapters.vectors import local
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.bad_inputs.rows import EYE, NAN, ROWS, BadInput, Call, holds, rows
from tests.fakes import CountingEmbedding

WORDS: Any = ["a", "b"]


def table() -> Iterator[BadInput]:
    yield from _arrays()
    yield from _embedding()
    yield from _stores()
    yield from _local()


def _arrays() -> Iterator[BadInput]:
    def data(*arguments: Any, **options: Any) -> Call:
        return lambda _: VectorDataset(*arguments, **options)

    def selected(rows: Any) -> Call:
        return lambda _: VectorDataset(EYE, EYE, ROWS).select_queries(rows)

    gap = Relevance.from_rows([[0], [], [1], [2]])
    yield from rows(
        "VectorDataset",
        InvalidVectorsError,
        ("NaN", data(NAN, EYE, ROWS), "queries holds NaN or infinity in 4 rows"),
        ("infinity", data(EYE, EYE + np.inf, ROWS), "passages holds NaN or infinity"),
        ("no vectors", data(EYE[:0], EYE, ROWS), r"shape \(0, 4\)"),
        ("one vector", data(EYE[0], EYE, ROWS), r"shape \(4,\)"),
        ("None", data(None, EYE, ROWS), r"shape \(\)|cannot be read"),
        ("mixed dimensions", data([[1.0], [1.0, 2.0]], EYE, ROWS), "cannot be read as one float32"),
        ("words", data(WORDS, EYE, ROWS), "cannot be read as one float32"),
        ("relevance of others", data(EYE[:2], EYE, ROWS), "covers 4 queries, but there are 2"),
        ("an unknown passage", data(EYE, EYE[:3], ROWS), "rows from 0 to 3, but there are 3"),
        ("no relevance", data(EYE, EYE, gap), "1 queries have no"),
        ("too few ids", data(EYE, EYE, ROWS, query_ids=("q",)), "query_ids has 1 entries for 4"),
        ("a query that is not there", selected([4]), "expected at least one row of the 4 queries"),
        ("a query before the first", selected([-1]), "as whole numbers from 0 to 3"),
        ("none of the queries", selected([]), r"rows has shape \(0,\) and type float64"),
    )

    unknown = ("an unknown similarity", data(EYE, EYE, ROWS, "cosin"), "Did you mean 'cosine'")
    yield from rows("VectorDataset", InvalidOptionError, unknown)

    def relevance(given: Any) -> Call:
        return lambda _: Relevance.from_rows(given)

    def parts(*arrays: Any) -> Call:
        return lambda _: Relevance(*arrays)

    yield from rows(
        "Relevance.from_rows",
        InvalidVectorsError,
        ("None", relevance(None), "is of type NoneType"),
        ("numbers", relevance([1, 2]), "expected a list of passage rows for every query"),
        ("words", relevance([WORDS]), "expected rows: whole numbers from 0 on"),
        ("fractions", relevance([[0.5]]), "expected rows: whole numbers from 0 on"),
        ("true and false", relevance([[True]]), "type bool"),
        ("a row before the first", relevance([[-1]]), "whole numbers from 0 on"),
    )
    yield from rows(
        "Relevance",
        InvalidVectorsError,
        ("offsets past the end", parts([0, 5], [1]), "offsets do not divide 1 passages"),
        ("offsets that fall", parts([0, 3, 1], [1]), "offsets do not divide"),
        ("no offsets", parts([], []), "offsets do not divide 0 passages"),
        ("a matrix", parts(EYE.astype(int), [1]), r"offsets of the relevance has shape \(4, 4\)"),
        ("None", parts(None, None), "offsets of the relevance has shape"),
    )
    yield from rows(
        "ranking.top_k",
        InvalidVectorsError,
        ("NaN", lambda _: top_k(NAN, EYE, 1), "queries has NaN or infinite"),
        ("other dimensions", lambda _: top_k(EYE, EYE[:, :2], 1), "dimension 4 and passages 2"),
    )


def _embedded(texts: Any, answer: Any, role: Any, directory: Path) -> object:
    with EmbeddingStore(directory / "store.sqlite3") as store:
        model = CountingEmbedding(answer=answer)
        return Embedder(model, store, show_progress=False).texts(texts, role).vectors


def _embedding() -> Iterator[BadInput]:
    name = "Embedder.texts"

    def embed(texts: Any, answer: Any = None, role: Any = "passage") -> Call:
        return partial(_embedded, texts, answer, role)

    yield from rows(
        name,
        InvalidDatasetError,
        ("one str", embed("text"), "texts is one str"),
        ("numbers", embed([1, 2]), "2 texts are not str"),
        ("None", embed([None]), "1 texts are not str"),
        ("an empty text", embed(["a", " "]), r"1 texts are empty, the first at \[1\]"),
    )
    role = ("another role", embed(["a"], role="passages"), "role is 'pass")
    yield from rows(name, InvalidOptionError, role)
    for wrong, answer, text in (
        ("a model that gives NaN", lambda v: np.array(v) * np.nan, "NaN or infinity in 2 of 2"),
        ("a model that gives infinity", lambda v: np.array(v) * np.inf, "NaN or infinity"),
        ("a model that gives zeros", lambda v: np.zeros((2, 8)), "2 zero vectors"),
        ("a model that gives mixed dimensions", lambda v: [v[0], v[1][:3]], "dimensions 3, 8"),
        ("a model that gives too few", lambda v: v[:1], "1 vectors for 2 texts"),
        ("a model that gives nothing", lambda v: [], "0 vectors for 2 texts"),
        ("a model that gives words", lambda v: [["a"]] * 2, "failed. ValidationError"),
        ("a model that gives None", lambda v: [None, None], "failed. ValidationError"),
    ):
        call = embed(["a", "b"], lambda t, v, a=answer: a(v))
        yield from rows(name, EmbeddingError, (wrong, call, text))


def _stores() -> Iterator[BadInput]:
    name = "EmbeddingStore"
    three: Any = 3
    yield from rows(name, InvalidFileError, ("a directory", EmbeddingStore, "is a folder"))
    no_folder = ("no folder", lambda d: EmbeddingStore(d / "a/b"), "does not exist")
    yield from rows(name, MissingFileError, no_folder)
    number = ("a number", lambda _: EmbeddingStore(three), "store is 3; give a path")
    yield from rows(name, InvalidOptionError, number)
    read_only = Path("/proc/store.sqlite3")
    unwritable = "cannot be opened or written"
    case = ("a read-only folder", lambda _: EmbeddingStore(read_only), unwritable)
    yield from rows(name, UnwritableFileError, case)
    text = ("a text file", lambda d: EmbeddingStore(d / "set.json"), "not a readable embedding sto")
    yield from rows(name, InvalidFileError, text, given=holds("set.json", "[1, 2, 3]" * 99))


def _local() -> Iterator[BadInput]:
    name = "local_embedding"
    installed = all(map(local._is_installed, local._NEEDED))
    for wrong, options, error, text in (
        ("a word misspelt", {"devise": "cpu"}, UnknownOptionError, "Did you mean 'device'"),
        ("another model", {"model_name": "x"}, UnknownOptionError, "all-MiniLM-L6-v2, not 'x'"),
        ("a device that is not there", {"device": "abacus"}, InvalidOptionError, "device as given"),
        ("batches of none", {"embed_batch_size": 0}, InvalidOptionError, "embed_batch_size as giv"),
        ("texts of no length", {"max_length": -1}, InvalidOptionError, "max_length as given"),
    ):
        call = partial(lambda o, _: local_embedding(**o), options)
        if not installed:
            error, text = MissingExtraError, "pip install"
        yield from rows(name, error, (wrong, call, text))
