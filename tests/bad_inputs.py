"""Every wrong thing a user could hand in, the error it gives, and that nothing is left behind.

A row is the entry point, what is wrong, the call, the error's class and a part of its text. The
call gets a directory of its own; every file that is in it afterwards and was not before counts as
left behind, but for the store of vectors.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import TextNode

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    Relevance,
    VectorDataset,
    evaluate,
    generate_qa_embedding_pairs,
    split_by_passage,
    split_by_query,
)
from llama_index_adapters.adapters.linear import LinearAdapter
from llama_index_adapters.errors import (
    AdaptersError,
    EmbeddingError,
    InvalidAdapterError,
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    UnknownOptionError,
    UnwritableFileError,
)
from llama_index_adapters.persistence import load_adapter, load_saved, save_adapter
from llama_index_adapters.ranking import top_k
from llama_index_adapters.vectors.embed import embed_texts
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding, ScriptedLLM, synonym_questions

GOOD: dict[str, Any] = {
    "queries": {"q": "why?", "r": "how?"},
    "corpus": {"p": "one", "s": "two"},
    "relevant_docs": {"q": ["p"], "r": ["s"]},
}
EYE = np.eye(4, dtype=np.float32)
NAN = np.full((4, 4), np.nan, np.float32)
ROWS = Relevance.from_rows([[0], [1], [2], [3]])


@dataclass(frozen=True)
class BadInput:
    """One row of the table."""

    entry: str
    wrong: str
    call: Callable[[Path], object]
    error: type[AdaptersError]
    text: str

    def found(self) -> tuple[AdaptersError, list[str]]:
        """Make the call; return its error and what it left behind."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            try:
                self.call(directory)
            except AdaptersError as error:
                left = [
                    str(path.relative_to(directory))
                    for path in directory.rglob("*")
                    if not str(path.relative_to(directory)).startswith(("store.sqlite3", "input"))
                ]
                return error, left
        raise AssertionError(f"{self.entry} takes {self.wrong}")

    def check(self) -> None:
        """Raise AssertionError when the row does not hold."""
        error, left = self.found()
        assert isinstance(error, self.error), repr(error)
        assert re.search(self.text, str(error)), str(error)
        assert not left, left


def dataset(**changes: Any) -> EmbeddingQAFinetuneDataset:
    return EmbeddingQAFinetuneDataset(**{**GOOD, **changes})


def read(content: bytes) -> Callable[[Path], object]:
    def call(directory: Path) -> object:
        (directory / "input.json").write_bytes(content)
        return EmbeddingQAFinetuneDataset.from_json(directory / "input.json")

    return call


def engine(data: object = None, model: Any = None, **options: Any) -> Callable[[Path], object]:
    def call(directory: Path) -> object:
        train = synonym_questions(3) if data is None else data
        given = CountingEmbedding() if model is None else model
        options.setdefault("store", directory / "store.sqlite3")
        return EmbeddingAdapterFinetuneEngine(
            train,
            given,
            model_output_path=directory / "adapter",
            show_progress=False,
            **options,
        ).finetune()

    return call


def embed(texts: Any, answer: Any = None, role: Any = "passage") -> Callable[[Path], object]:
    def call(directory: Path) -> object:
        with EmbeddingStore(directory / "store.sqlite3") as store:
            model = CountingEmbedding(answer=answer)
            return embed_texts(model, texts, role, store, show_progress=False)

    return call


def generate(nodes: Any, **options: Any) -> Callable[[Path], object]:
    def call(directory: Path) -> object:
        return generate_qa_embedding_pairs(
            nodes, ScriptedLLM(), verbose=False, output_path=directory / "set.json", **options
        )

    return call


def saved_with(name: str, content: bytes) -> Callable[[Path], object]:
    def call(directory: Path) -> object:
        save_adapter(directory / "input", LinearAdapter(4))
        (directory / "input" / name).write_bytes(content)
        return load_saved(directory / "input")

    return call


def table() -> Iterator[BadInput]:
    """Yield every row."""
    for entry, wrong, call, error, text in _rows():
        yield BadInput(entry, wrong, call, error, text)


def _rows() -> Iterator[tuple[str, str, Callable[[Path], object], type[AdaptersError], str]]:
    name = "EmbeddingQAFinetuneDataset"
    for wrong, changes, text in (
        ("nothing", {"queries": {}, "corpus": {}, "relevant_docs": {}}, "is empty: it has no quer"),
        ("an empty corpus", {"corpus": {}}, "no passages in the corpus"),
        ("a list", {"queries": ["why?"]}, "queries: Input should be a valid dict"),
        (
            "numbers for texts",
            {"queries": {"q": 1}},
            r"queries\['q'\]: Input should be a valid str",
        ),
        ("bytes that are not UTF-8", {"queries": {"q": b"\xff"}}, "missing or of a wrong type"),
        (
            "an unknown passage",
            {"relevant_docs": {"q": ["x"], "r": ["s"]}},
            "not in the corpus: 'x'",
        ),
        ("an unknown query", {"relevant_docs": {**GOOD["relevant_docs"], "x": ["p"]}}, "'x'"),
        (
            "a query without relevance",
            {"relevant_docs": {"q": ["p"]}},
            "without a relevant passage",
        ),
        ("an empty text", {"corpus": {"p": " ", "s": "two"}}, "with an empty text: 'p'"),
        ("an unknown field", {"corpsu": {}}, "corpsu"),
    ):
        yield name, wrong, lambda _, c=changes: dataset(**c), InvalidDatasetError, text
    name = "EmbeddingQAFinetuneDataset.from_json"
    for wrong, content, text in (
        ("an empty file", b"", "is not JSON"),
        ("truncated JSON", b'{"queries": {"q": "wh', "is not JSON"),
        ("a file that is not UTF-8", b'{"queries": {"q": "\xff"}}', "is not UTF-8 text"),
        ("UTF-16", "{}".encode("utf-16"), "is not UTF-8 text"),
        ("a JSON list", b"[]", "holds a JSON list"),
        ("a number of too many digits", b"9" * 5000, "is not JSON"),
        ("ten thousand brackets", b"[" * 10_000, "is not JSON"),
        ("missing keys", b"{}", "3 values are missing"),
    ):
        yield name, wrong, read(content), InvalidFileError, text
    from_json = EmbeddingQAFinetuneDataset.from_json
    yield name, "a directory", lambda d: from_json(d), InvalidFileError, "is a directory"
    yield name, "no file", lambda d: from_json(d / "no"), MissingFileError, "There is no file"
    for split in (split_by_query, split_by_passage):
        for wrong, fractions in (
            ("a negative share", (1.5, -0.5)),
            ("no share", ()),
            ("shares above 1", (0.8, 0.8)),
            ("NaN", (float("nan"), 0.5)),
        ):
            yield (
                split.__name__,
                wrong,
                lambda _, s=split, f=fractions: s(synonym_questions(3), f),
                InvalidOptionError,
                "expected two or more positive numbers",
            )
        yield (
            split.__name__,
            "more sides than queries",
            lambda _, s=split: s(dataset(), (0.4, 0.3, 0.3)),
            InvalidDatasetError,
            "too few for 3 sides",
        )
    name = "VectorDataset"
    for wrong, arguments, text in (
        ("NaN", (NAN, EYE, ROWS), "queries holds NaN or infinity in 4 rows"),
        ("infinity", (EYE, EYE + np.inf, ROWS), "passages holds NaN or infinity"),
        ("no vectors", (EYE[:0], EYE, ROWS), r"shape \(0, 4\)"),
        ("one vector", (EYE[0], EYE, ROWS), r"shape \(4,\)"),
        ("mixed dimensions", ([[1.0], [1.0, 2.0]], EYE, ROWS), "cannot be read as one float32"),
        ("words", (["a", "b"], EYE, ROWS), "cannot be read as one float32"),
        ("relevance of others", (EYE[:2], EYE, ROWS), "covers 4 queries, but there are 2"),
        ("an unknown passage", (EYE, EYE[:3], ROWS), "rows from 0 to 3, but there are 3"),
        ("no relevance", (EYE, EYE, Relevance.from_rows([[0], [], [1], [2]])), "1 queries have no"),
    ):
        yield name, wrong, lambda _, a=arguments: VectorDataset(*a), InvalidVectorsError, text
    wrong = "an unknown similarity"
    yield (
        *(name, wrong, lambda _: VectorDataset(EYE, EYE, ROWS, similarity="cosin")),  # type: ignore[arg-type]
        *(InvalidVectorsError, "similarity is 'cosin'"),
    )
    name = "ranking.top_k"
    for wrong, call, text in (
        ("NaN", lambda _: top_k(NAN, EYE, 1), "queries has NaN or infinite"),
        ("other dimensions", lambda _: top_k(EYE, EYE[:, :2], 1), "dimension 4 and passages 2"),
    ):
        yield name, wrong, call, InvalidVectorsError, text
    name = "embed_texts"
    for wrong, texts, text in (
        ("one str", "text", "texts is one str"),
        ("numbers", [1, 2], "2 texts are not str"),
        ("None", [None], "1 texts are not str"),
        ("an empty text", ["a", " "], r"1 texts are empty, the first at \[1\]"),
    ):
        yield name, wrong, embed(texts), InvalidDatasetError, text
    yield name, "another role", embed(["a"], role="passages"), InvalidOptionError, "role is 'pass"
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
        yield name, wrong, embed(["a", "b"], lambda t, v, a=answer: a(v)), EmbeddingError, text
    name = "EmbeddingStore"
    yield name, "a directory", lambda d: EmbeddingStore(d), InvalidFileError, "is a folder"
    missing = "does not exist"
    yield name, "no folder", lambda d: EmbeddingStore(d / "a/b"), MissingFileError, missing
    unwritable = "cannot be opened or written"
    read_only = Path("/proc/store.sqlite3")
    yield (
        name,
        "a read-only folder",
        lambda _: EmbeddingStore(read_only),
        UnwritableFileError,
        (unwritable),
    )
    name = "EmbeddingAdapterFinetuneEngine"
    for wrong, options, error, text in (
        ("epochs=0", {"epochs": 0}, InvalidOptionError, "epochs is 0"),
        ("epochs=-1", {"epochs": -1}, InvalidOptionError, "epochs is -1"),
        ("epochs=1.5", {"epochs": 1.5}, InvalidOptionError, "epochs is 1.5"),
        ("a negative batch", {"batch_size": -1}, InvalidOptionError, "batch_size is -1"),
        ("a negative seed", {"seed": -1}, InvalidOptionError, "seed is -1"),
        ("an unknown option", {"learning_rat": 1}, UnknownOptionError, "'learning_rate'"),
        (
            "NaN as rate",
            {"learning_rate": float("nan")},
            InvalidOptionError,
            "learning_rate is nan",
        ),
        ("no such device", {"device": "cuda:99"}, InvalidOptionError, "cuda:99"),
        ("no such kind", {"adapter": "linaer"}, InvalidOptionError, "Did you mean 'linear'"),
        ("a rank too many", {"rank": 3}, InvalidOptionError, "only adapter='low-rank'"),
        ("rank=0", {"adapter": "low-rank", "rank": 0}, InvalidOptionError, "rank is 0; give"),
        ("another similarity", {"similarity": "l2"}, InvalidOptionError, "similarity is 'l2'"),
        ("a class as adapter", {"adapter_model": LinearAdapter}, InvalidOptionError, "instance"),
        ("no steps", {"checkpoint_save_steps": 0}, InvalidOptionError, "from 1"),
        ("another dimension", {"dim": 5}, InvalidVectorsError, "dim is 5"),
    ):
        yield name, wrong, engine(**options), error, text
    for wrong, data, error in (
        ("a path as dataset", "train.json", InvalidDatasetError),
        ("None as dataset", 3, InvalidDatasetError),
        ("vectors alone", EYE, InvalidDatasetError),
    ):
        yield name, wrong, engine(data), error, "is not a question set"
    yield name, "a name as model", engine(model="m"), InvalidOptionError, "embed_model is str"
    flat = VectorDataset(np.zeros((4, 4)), EYE, ROWS)
    cannot = "dataset has 4 of 4 query vectors that are all zero"
    yield name, "query vectors of zeros", engine(flat), InvalidVectorsError, cannot
    name = "save_adapter"
    broken = LinearAdapter(4)
    broken.load_arrays({"linear.weight": NAN})
    yield name, "NaN", lambda d: save_adapter(d / "a", broken), InvalidAdapterError, "holds NaN"

    def over_a_file(directory: Path) -> object:
        (directory / "input").write_text("x")
        return save_adapter(directory / "input", LinearAdapter(4))

    def over_others(directory: Path) -> object:
        (directory / "input").mkdir()
        (directory / "input" / "input.txt").write_text("x")
        return save_adapter(directory / "input", LinearAdapter(4))

    yield name, "a file for a directory", over_a_file, InvalidFileError, "is a file"
    yield name, "a directory of others", over_others, InvalidOptionError, "input.txt"
    yield (
        *(name, "a read-only folder", lambda _: save_adapter("/proc/adapter", LinearAdapter(4))),
        *(UnwritableFileError, "could not be written to /proc/adapter"),
    )
    for load in (load_saved, load_adapter):
        name = load.__name__
        yield name, "nothing there", lambda d, f=load: f(d / "no"), MissingFileError, "is not there"
        yield name, "an empty directory", lambda d, f=load: f(d), MissingFileError, "no config.json"
    name = "load_saved"
    for wrong, file, content, text in (
        ("truncated JSON", "config.json", b'{"kind": ', "not valid JSON"),
        ("a config that is not UTF-8", "config.json", b"\xff", "not valid JSON"),
        ("a config of another kind", "config.json", b"[]", "a JSON list"),
        ("truncated weights", "model.safetensors", b"\x10", "not a safetensors file"),
        ("a huge header", "model.safetensors", (2**62).to_bytes(8, "little"), "not a safetensors"),
    ):
        yield name, wrong, saved_with(file, content), InvalidAdapterError, text
    name = "AdapterEmbeddingModel"
    for wrong, model in (("a name as model", "m"), ("None as model", None)):
        yield (
            *(name, wrong, lambda d, m=model: AdapterEmbeddingModel(m, d)),
            *(InvalidOptionError, "expected a LlamaIndex embedding model"),
        )
    yield (
        *("evaluate", "a model without an adapter"),
        lambda _: evaluate(CountingEmbedding(), GOOD),  # type: ignore[arg-type]
        *(InvalidOptionError, "has no adapter"),
    )
    name = "generate_qa_embedding_pairs"
    node = TextNode(id_="n", text="text")
    for wrong, nodes, options, error, text in (
        ("no nodes", [], {}, InvalidDatasetError, "nothing to ask about"),
        ("texts for nodes", ["text"], {}, InvalidDatasetError, r"nodes\[0\] is a str"),
        ("empty nodes", [TextNode(text=" ")], {}, InvalidDatasetError, "none of them with text"),
        (
            "duplicate ids",
            [node, TextNode(id_="n", text="other")],
            {},
            InvalidDatasetError,
            "have the id 'n'",
        ),
        ("no questions", [node], {"num_questions_per_chunk": 0}, InvalidOptionError, "from 1 up"),
        ("negative workers", [node], {"num_workers": -1}, InvalidOptionError, "num_workers is -1"),
        ("retries as text", [node], {"retry_limit": "3"}, InvalidOptionError, "retry_limit is '3'"),
        (
            "another word",
            [node],
            {"on_failure": "stop"},
            InvalidOptionError,
            "on_failure is 'stop'",
        ),
    ):
        yield name, wrong, generate(nodes, **options), error, text


def tried() -> dict[str, Any]:
    """Try the whole table; return how many inputs and how many did not hold."""
    rows, entries, failed = list(table()), set(), 0
    for row in rows:
        entries.add(row.entry)
        try:
            row.check()
        except AssertionError as error:
            failed += 1
            print(row.entry, row.wrong, error)
    return {"inputs": len(rows), "entry_points": len(entries), "failed": failed}
