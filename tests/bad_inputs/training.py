"""Wrong data and options for training."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llama_index_adapters import (
    EmbeddingAdapterFinetuneEngine,
    TrainingOptions,
    VectorDataset,
    finetune_without_labels,
)
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    NotTrainedError,
    UnknownOptionError,
    UnwritableFileError,
)
from tests.bad_inputs.rows import EYE, GOOD, NAN, ROWS, BadInput, Call, holds, rows
from tests.fakes import CountingEmbedding, synonym_questions

ZEROS = np.zeros((4, 4), np.float32)
ONE = {"queries": {"q": "a"}, "corpus": {"p": "b"}, "relevant_docs": {"q": ["p"]}}
HALF_ZERO = np.concatenate([EYE[:2], ZEROS[:2]])


def table() -> Iterator[BadInput]:
    yield from _options()
    yield from _data()
    yield from _paths()
    yield from _unlabelled()


def _engine(data: Any, model: Any, options: dict[str, Any], directory: Path) -> object:
    places = {"model_output_path": directory / "adapter", "store": directory / "store.sqlite3"}
    given = {**places, "show_progress": False, **options}
    return EmbeddingAdapterFinetuneEngine(data, model, **given).finetune()


def engine(data: Any = None, model: Any = None, **options: Any) -> Call:
    data = synonym_questions(3) if data is None else data
    return partial(_engine, data, model or CountingEmbedding(), options)


NAME = "EmbeddingAdapterFinetuneEngine"


def _options() -> Iterator[BadInput]:
    low = {"adapter": "low-rank"}
    yield from rows(
        NAME,
        InvalidOptionError,
        # Of each kind of option one: tests/test_options.py has all of their values.
        ("epochs=0", engine(epochs=0), "epochs is 0"),
        ("a negative seed", engine(seed=-1), "seed is -1"),
        ("no such parameter", engine(optimizer_params={"bets": 0}), "cannot be built from optimi"),
        ("no such device", engine(device="cuda:99"), "cuda:99"),
        ("no such kind", engine(adapter="linaer"), "Did you mean 'linear'"),
        ("None as kind", engine(adapter=None), "adapter is None; use one of"),
        ("a rank too many", engine(rank=3), "only adapter='low-rank'"),
        ("rank=0", engine(rank=0, **low), "rank is 0; give"),
        ("rank=3.5", engine(rank=3.5, **low), "rank is 3.5; give"),
        ("a rank above the dimension", engine(rank=9, **low), "rank=9 with 8 to 8 dimensions"),
        ("another similarity", engine(similarity="l2"), "similarity is 'l2'"),
        ("a class as adapter", engine(adapter_model=LinearAdapter), "instance"),
        ("no steps", engine(checkpoint_save_steps=0), "from 1"),
        ("a name as model", engine(model="m"), "embed_model is str"),
        ("no target corpus", engine(target_corpus=[]), "target_corpus is empty"),
        ("one text as target corpus", engine(target_corpus="x"), "target_corpus is one text"),
        ("a number as target corpus", engine(target_corpus=3), "target_corpus is of type int"),
        ("an empty log", engine(query_log=[]), "query_log is empty"),
        ("one text as log", engine(query_log="x"), "query_log is one text"),
        (
            "a corpus for one training",
            engine(target_corpus=["a"], adapter="linear"),
            "target_corpus is given, but only the search",
        ),
        (
            "a corpus beside a rate",
            engine(target_corpus=["a"], learning_rate=0.1),
            "target_corpus is given, but only the search",
        ),
        (
            "a share beside a rate",
            engine(unseen_share=0.5, learning_rate=0.1),
            "unseen_share is given, but only the search",
        ),
        ("no dimensions", engine(target_dim=0), "target_dim is 0"),
        ("dimensions in words", engine(target_dim="128"), "target_dim is '128'"),
        (
            "dimensions beside a rate",
            engine(target_dim=4, learning_rate=0.1),
            "target_dim is given, and so is an adapter, bias or option of one training",
        ),
        (
            "dimensions beside a log",
            engine(target_dim=4, query_log=["a"]),
            "target_dim is given, and so is query_log",
        ),
        (
            "a share for one run of one training",
            lambda d: EmbeddingAdapterFinetuneEngine(
                synonym_questions(3),
                CountingEmbedding(),
                adapter="linear",
                model_output_path=d / "adapter",
                store=d / "store.sqlite3",
            ).finetune(unseen_share=0.5),
            "unseen_share is given, but only the search",
        ),
        (
            "a log beside a bias",
            engine(query_log=["a"], bias=True),
            "query_log is given, but only the search",
        ),
    )
    yield from rows(
        NAME,
        UnknownOptionError,
        ("an unknown option", engine(learning_rat=1), "'learning_rate'"),
    )
    given = TrainingOptions(epochs=2)
    yield from rows(
        NAME,
        InvalidOptionError,
        ("a mapping as options", engine(options={"epochs": 2}), "options is of type dict; give a"),
        ("two values", engine(epochs=3, options=given), "epochs is 3 by name and 2 in options"),
    )
    wrong: Any = TrainingOptions
    yield from rows(
        "TrainingOptions",
        InvalidOptionError,
        ("no step", lambda _: wrong(negatives=0), "give a whole number from 1 on, 'all', or leave"),
        ("another precision", lambda _: wrong(precision="fp16"), "use one of float32, bfloat16"),
        (
            "a share in percent",
            lambda _: wrong(unseen_share=50),
            "unseen_share is 50; give",
        ),
        ("certain beyond doubt", lambda _: wrong(certainty=1), "certainty is 1; give a number fr"),
    )
    finetune = EmbeddingAdapterFinetuneEngine.finetune
    model = CountingEmbedding()

    def made(directory: Path) -> EmbeddingAdapterFinetuneEngine:
        return EmbeddingAdapterFinetuneEngine(GOOD, model, model_output_path=directory / "a")

    yield from rows(
        f"{NAME}.finetune",
        UnknownOptionError,
        ("an unknown option", lambda d: finetune(made(d), epoch=3), "Did you mean 'epochs'"),
    )
    yield from rows(
        f"{NAME}.get_finetuned_model",
        NotTrainedError,
        ("nothing trained", lambda d: made(d).get_finetuned_model(), r"Call finetune\(\) first"),
    )


def _data() -> Iterator[BadInput]:
    for wrong, data in (("a path", "train.json"), ("a number", 3), ("vectors alone", EYE)):
        case = (f"{wrong} as dataset", engine(data), "is not a question set")
        yield from rows(NAME, InvalidDatasetError, case)
    yield from rows(
        NAME,
        InvalidDatasetError,
        ("a path to validate", engine(val_dataset="val.json"), "A str without queries"),
        ("numbers in the target corpus", engine(target_corpus=[1]), "1 texts are not str"),
        ("None in the log", engine(query_log=[None]), "1 texts are not str"),
        ("half an emoji in the log", engine(query_log=["\ud83d"]), "query_log: 1 texts hold half"),
        ("an empty text to search", engine(target_corpus=[" "]), "1 texts are empty"),
    )
    given = VectorDataset(EYE, EYE, ROWS)
    zeros = VectorDataset(ZEROS, EYE, ROWS)
    some = VectorDataset(HALF_ZERO, EYE, ROWS)
    yield from rows(
        NAME,
        InvalidVectorsError,
        ("another dimension", engine(dim=5), "dim is 5"),
        ("NaN to search", engine(target_corpus=NAN), "target_corpus holds NaN"),
        ("a log of another dimension", engine(query_log=EYE), "query_log has vectors of 4 dim"),
        ("more dimensions than there are", engine(target_dim=9), "target_dim is 9, but the"),
        ("validation of another dimension", engine(val_dataset=given), "those of validation 4"),
        ("one query", engine(ONE), "1 query cannot be split by query"),
        ("query vectors of zeros", engine(zeros), "dataset has 4 of 4 query vectors that are all"),
        ("some of zeros", engine(some), r"2 of 4 .* in rows \[2, 3\].* embed those .* again"),
        ("zeros to validate", engine(given, val_dataset=zeros), "val_dataset has 4 of 4"),
    )
    no_model = partial(EmbeddingAdapterFinetuneEngine, GOOD, None)
    case = ("texts without a model", lambda _: no_model(), "holds texts, and embed_model is None")
    yield from rows(NAME, InvalidOptionError, case)


def _paths() -> Iterator[BadInput]:
    model = CountingEmbedding()
    start: Any = EmbeddingAdapterFinetuneEngine.from_model_path
    missing = ("nothing there", lambda d: start(GOOD, model, d / "no"), "is not there")
    yield from rows(f"{NAME}.from_model_path", MissingFileError, missing)
    yield from rows(
        NAME,
        InvalidOptionError,
        ("a number as store", engine(store=3), "store is 3; give a path"),
        ("None as output", engine(model_output_path=None), "model_output_path is None"),
        ("a number for checkpoints", engine(model_checkpoint_path=3), "model_checkpoint_path is 3"),
    )

    def at(**names: str) -> Call:
        def call(directory: Path) -> object:
            named = {name: directory / place for name, place in names.items()}
            return engine(**named)(directory)

        return call

    inside = at(model_output_path="a", model_checkpoint_path="a/b")
    yield from rows(NAME, InvalidOptionError, ("checkpoints inside", inside, "of their own"))
    others = ("a directory of others", at(model_output_path="mine"), "input.txt")

    def folder(directory: Path) -> None:
        (directory / "mine").mkdir()
        (directory / "mine" / "input.txt").write_text("x")

    yield from rows(NAME, InvalidOptionError, others, given=folder)
    yield from rows(
        NAME,
        InvalidFileError,
        ("a file as output", at(model_output_path="file"), "is a file; expected a directory"),
        ("a file for checkpoints", at(model_checkpoint_path="file"), "is a file, so"),
        ("a folder as store", engine(store=Path("/")), "is a folder"),
        given=holds("file", "mine"),
    )
    yield from rows(
        NAME,
        UnwritableFileError,
        ("a read-only folder", engine(model_output_path="/proc/a"), "/proc/a cannot be written"),
        ("checkpoints there", engine(model_checkpoint_path="/proc"), "/proc/step_100 cannot be"),
    )


def _whitened(corpus: Any, options: dict[str, Any], directory: Path) -> object:
    places = {"model_output_path": directory / "adapter", "store": directory / "store.sqlite3"}
    given = {"embed_model": CountingEmbedding(), **places, "show_progress": False, **options}
    return finetune_without_labels(corpus, **given)


def _unlabelled() -> Iterator[BadInput]:
    name = "finetune_without_labels"

    def whiten(corpus: Any = ("one text", "two texts"), **options: Any) -> Call:
        return partial(_whitened, corpus, options)

    yield from rows(
        name,
        InvalidOptionError,
        ("no corpus", whiten([]), "corpus is empty"),
        ("one text", whiten("abc"), "corpus is one text; give a list"),
        ("None", whiten(None), "corpus is of type NoneType"),
        ("a generator", whiten(text for text in "ab"), "corpus is of type generator"),
        ("a mapping", whiten({"p": "one"}), "corpus is of type dict"),
        ("a name as model", whiten(embed_model="m"), "embed_model is str"),
        ("another similarity", whiten(similarity="l2"), "similarity is 'l2'"),
        ("a negative power", whiten(passage_power=-1), "passage_power is -1; give a number from 0"),
        ("NaN as power", whiten(passage_power=float("nan")), "passage_power is nan"),
        ("a word as power", whiten(passage_power="x"), "passage_power is 'x'"),
        ("a power without queries", whiten(query_power=0.1), "there are no queries"),
        ("an empty log", whiten(query_log=[]), "query_log is empty"),
        ("a number as store", whiten(store=3), "store is 3; give a path"),
        ("a number as output", whiten(model_output_path=3), "model_output_path is 3"),
    )
    yield from rows(
        name,
        InvalidDatasetError,
        ("numbers", whiten([1, 2]), "2 texts are not str"),
        ("an empty text", whiten(["a", ""]), "1 texts are empty"),
    )
    yield from rows(
        name,
        InvalidVectorsError,
        ("NaN", whiten(NAN), "corpus holds NaN or infinity in 4 rows"),
        ("zeros", whiten(ZEROS), "vectors of the corpus are all zero"),
        ("a log of zeros", whiten(EYE, query_log=ZEROS), "query_log has 4 of 4 query vectors"),
        ("words in an array", whiten(np.array(["a", "b"])), "cannot be read as one float32"),
        ("other dimensions", whiten(EYE, query_log=np.eye(3)), "of 3 dimensions, the cor"),
    )
    yield from rows(
        name,
        InvalidFileError,
        ("a file as output", lambda d: whiten(model_output_path=d / "file")(d), "is a file"),
        given=holds("file", "mine"),
    )
    read_only = ("a read-only folder", whiten(model_output_path="/proc/a"), "/proc/a cannot be")
    yield from rows(name, UnwritableFileError, read_only)
