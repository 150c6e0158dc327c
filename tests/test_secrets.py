"""A planted key and a marker text are searched for in everything that is written or said."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore

import llama_index_adapters
from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    Page,
    Reading,
    VectorDataset,
    agenerate_qa_embedding_pairs,
    compare_adapters,
    evaluate,
    finetune_without_labels,
    generate_qa_embedding_pairs,
    merge_datasets,
    read_beir,
    read_feedback,
    read_grades,
    read_index,
    read_qrels,
    read_queries,
    register_reader,
    rewrite_index,
    sample_queries,
    split_by_passage,
    split_by_query,
    write_beir,
    write_qrels,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.cli import main
from llama_index_adapters.errors import AdaptersError
from tests.bad_inputs.rows import EYE, ROWS
from tests.fakes import CountingEmbedding, ScriptedLLM, synonym_questions
from tests.faulty_openai import DIMENSION, KEY, FaultyOpenAI, llm_of, model_of
from tests.rewriting import halved, indexed_simply

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_waits")]

MARKER = "the patient in room forty-two is called Ada Marker"


class Payloads(BaseEventHandler):
    """Keeps the payloads of events."""

    seen: list[str] = []  # noqa: RUF012

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event.model_dump_json())


def marked() -> dict[str, Any]:
    data = synonym_questions(4).model_dump()
    for part in ("queries", "corpus"):
        data[part] = {name: f"{text} {MARKER}" for name, text in data[part].items()}
    return data


def bytes_of(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_training_writes_and_says_holds_no_text_and_no_key(
    server: FaultyOpenAI,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    caplog.set_level(logging.DEBUG, logger="llama_index_adapters")
    server.plan("429", "nan", "500")
    model = model_of(server, embed_batch_size=16)
    store = tmp_path / "store.sqlite3"
    payloads = Payloads()
    get_dispatcher().add_event_handler(payloads)
    request.addfinalizer(lambda: get_dispatcher().event_handlers.remove(payloads))
    result = EmbeddingAdapterFinetuneEngine(
        marked(),
        model,
        adapter="linear",
        epochs=2,
        verbose=True,
        store=store,
        model_output_path=tmp_path / "adapter",
        model_checkpoint_path=tmp_path / "checkpoints",
        checkpoint_save_steps=1,
        show_progress=False,
    ).finetune()
    adapted = AdapterEmbeddingModel(model, tmp_path / "adapter")
    report = evaluate(adapted, marked(), store=store, show_progress=False)
    said = "\n".join(
        [
            *(str(result), repr(result), str(report)),
            *(f"{record.getMessage()}" for record in caplog.records if _ours(record)),
        ]
    )
    assert (tmp_path / "adapter").is_dir()
    assert payloads.seen
    for written in (bytes_of(tmp_path), said.encode()):
        assert len(written) > 100
        assert KEY.encode() not in written
        assert MARKER.encode() not in written
        assert b"tint1" not in written
    shown = (repr(adapted), str(adapted.to_dict()), *payloads.seen)
    assert not any(KEY in text for text in shown)


def _ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("llama_index_adapters")


# Every task and every fault, not each with each: a fault is put into words at one place.
FAILING = (
    *(("embed", "401"), ("evaluate", "403"), ("compare", "429"), ("whiten", "500")),
    *(("index", "503"), ("generate", "malformed json"), ("agenerate", "none"), ("embed", "nan")),
)


@pytest.mark.parametrize(("task", "fault"), FAILING)
def test_errors_and_logs_repeat_neither_when_the_server_does(
    server: FaultyOpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, task: str
) -> None:
    server.plan(always=fault)
    server.echo = True
    engine = EmbeddingAdapterFinetuneEngine(
        marked(),
        model_of(server),
        store=tmp_path / "store.sqlite3",
        model_output_path=tmp_path / "adapter",
        show_progress=False,
    )
    nodes = [TextNode(id_="n", text=MARKER)]
    options: dict[str, Any] = {"output_path": tmp_path / "set", "verbose": False}
    asked = partial(generate_qa_embedding_pairs, nodes, llm_of(server), **options)
    asked_async = partial(agenerate_qa_embedding_pairs, nodes, llm_of(server), **options)
    save_adapter(tmp_path / "of-texts", LinearAdapter(DIMENSION))
    adapted = AdapterEmbeddingModel(model_of(server), tmp_path / "of-texts")
    stored = {"store": tmp_path / "store.sqlite3", "show_progress": False}
    jobs: dict[str, Callable[[], object]] = {
        "embed": engine.finetune,
        "evaluate": lambda: evaluate(adapted, marked(), **stored),
        "compare": lambda: compare_adapters(adapted, adapted, marked(), **stored),
        "whiten": lambda: finetune_without_labels(
            [MARKER, f"{MARKER}?"], model_of(server), model_output_path=tmp_path / "w", **stored
        ),
        "index": lambda: index_of(MARKER, model_of(server)),
        "generate": asked,
        "agenerate": lambda: asyncio.run(asked_async()),
    }
    with pytest.raises(AdaptersError) as caught:
        jobs[task]()
    shown = "".join(traceback.format_exception(caught.value)) + "".join(
        record.getMessage() for record in caplog.records if _ours(record)
    )
    assert server.injected
    assert KEY not in shown
    assert MARKER not in shown
    assert KEY.encode() not in bytes_of(tmp_path)


# Wrong inputs that hold a private text


class TextStore:
    """A vector store whose page a test sets."""

    page: Any = None


register_reader(TextStore, lambda store, size: Reading("cosine", [store.page]))


def index_of(text: Any, model: Any = None, vector: Any = None, **options: Any) -> Any:
    store = TextStore()
    store.page = Page(["n"], [vector or [1.0] * 8], [text], [{"note": MARKER}])
    return read_index(store, model, show_progress=False, **options)


class RefusingStore(SimpleVectorStore):
    """A vector store that repeats what it was given."""

    stores_text: bool = True

    def add(self, nodes: Any, **options: Any) -> Any:
        raise ValueError(f"cannot store {nodes[0].get_content()}")


def rewritten(directory: Path) -> Any:
    index = indexed_simply([TextNode(text=MARKER, id_="n")])
    adapter = halved(directory / "adapter", CountingEmbedding())
    return rewrite_index(index, adapter, RefusingStore(), show_progress=False)


def file(name: str, content: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        (directory / name).write_text(content, encoding="utf-8")
        return directory / name

    return write


def of_file(read: Callable[..., object], name: str, content: str) -> Callable[[Path], object]:
    return lambda directory: read(file(name, content)(directory))


def beir(directory: Path) -> Path:
    write_beir({"test": GOOD}, directory / "set")
    return directory / "set"


GOOD = {"queries": {"q": MARKER}, "corpus": {"p": MARKER}, "relevant_docs": {"q": ["p"]}}
OTHER = {**GOOD, "queries": {"q": f"{MARKER}?"}}
MODEL = CountingEmbedding()
ROW = {"query": MARKER, "node_id": "n", "feedback": MARKER}
NODE = TextNode(id_="n", text=MARKER)
WITH_TEXT: Any = [[MARKER] * 4] * 4
CUT = json.dumps(GOOD)[:40]
Dataset = EmbeddingQAFinetuneDataset


def engine(directory: Path, data: Any, **options: Any) -> object:
    places = {"model_output_path": directory / "a", "store": directory / "s.sqlite3"}
    return EmbeddingAdapterFinetuneEngine(
        data, MODEL, show_progress=False, **places, **options
    ).finetune()


def whiten(directory: Path, corpus: Any, **options: Any) -> object:
    places = {"model_output_path": directory / "a", "store": directory / "s.sqlite3"}
    return finetune_without_labels(corpus, MODEL, show_progress=False, **places, **options)


def adapted(directory: Path, model: Any = MODEL) -> AdapterEmbeddingModel:
    save_adapter(directory / "adapter", LinearAdapter(8))
    return AdapterEmbeddingModel(model, directory / "adapter")


def answering(answer: Any) -> CountingEmbedding:
    return CountingEmbedding(answer=lambda texts, vectors: answer)


def labelled(labels: Any) -> Callable[[Path], object]:
    return lambda directory: index_of(None).dataset(labels)


def generated(nodes: Any, **options: Any) -> Callable[[Path], object]:
    llm = ScriptedLLM()
    return lambda directory: generate_qa_embedding_pairs(nodes, llm, verbose=False, **options)


WRONG: dict[str, Callable[[Path], object]] = {
    "EmbeddingQAFinetuneDataset: a list": lambda d: Dataset(**{**GOOD, "queries": [MARKER]}),
    "EmbeddingQAFinetuneDataset: a number": lambda d: Dataset(**{**GOOD, "corpus": {"p": 1}}),
    "EmbeddingQAFinetuneDataset: a set of texts": lambda d: Dataset(
        **{**GOOD, "corpus": {"p": {MARKER}}}
    ),
    "EmbeddingQAFinetuneDataset: unknown ids": lambda d: Dataset(
        **{**GOOD, "relevant_docs": {"q": ["x"]}}
    ),
    "EmbeddingQAFinetuneDataset: an empty text": lambda d: Dataset(
        **{**GOOD, "corpus": {"p": MARKER, "empty": ""}}
    ),
    "EmbeddingQAFinetuneDataset: validated": lambda d: Dataset.model_validate([MARKER]),
    "EmbeddingQAFinetuneDataset: validated JSON": lambda d: Dataset.model_validate_json(CUT),
    "EmbeddingQAFinetuneDataset: a key twice": of_file(
        Dataset.from_json, "s.json", f'{{"{MARKER}": ["n"], "{MARKER}": ["m"]}}'
    ),
    "EmbeddingQAFinetuneDataset: half an emoji": lambda d: Dataset(
        **{**GOOD, "queries": {"q": f"{MARKER} \ud83d"}}
    ),
    "EmbeddingQAFinetuneDataset: cut": of_file(Dataset.from_json, "s.json", CUT),
    "EmbeddingQAFinetuneDataset: a text": of_file(Dataset.from_json, "s.json", f'"{MARKER}"'),
    "EmbeddingQAFinetuneDataset: no object": of_file(
        Dataset.from_json, "s.json", json.dumps({**GOOD, "queries": MARKER})
    ),
    "EmbeddingQAFinetuneDataset: not together": of_file(
        Dataset.from_json, "s.json", json.dumps({**GOOD, "relevant_docs": {"q": ["x"]}})
    ),
    "merge_datasets": lambda d: merge_datasets(GOOD, OTHER),
    "merge_datasets: a text": lambda d: merge_datasets(MARKER),
    "sample_queries": lambda d: sample_queries({**GOOD, "queries": [MARKER]}, 1),
    "split_by_query": lambda d: split_by_query(Dataset(**GOOD)),
    "split_by_passage": lambda d: split_by_passage(Dataset(**GOOD)),
    "read_feedback: a verdict": of_file(read_feedback, "f.jsonl", json.dumps(ROW)),
    "read_feedback: cut": of_file(read_feedback, "f.jsonl", json.dumps(ROW)[:40]),
    "read_feedback: no node": of_file(
        read_feedback, "f.jsonl", json.dumps({**ROW, "node_id": None})
    ),
    "read_feedback: no query": of_file(
        read_feedback, "f.jsonl", json.dumps({**ROW, "query": [MARKER]})
    ),
    "read_feedback: no header": of_file(read_feedback, "f.csv", f'"{MARKER}",n,1\n"q",n,0\n'),
    "read_feedback: a header twice": of_file(read_feedback, "f.csv", f'"{MARKER}","{MARKER}"\n'),
    "read_feedback: an open quote": of_file(read_feedback, "f.csv", f'query\n"{MARKER}'),
    "read_feedback: a key twice": of_file(
        read_feedback, "f.jsonl", f'{{"{MARKER}": 1, "{MARKER}": 2}}'
    ),
    "read_feedback: nothing": of_file(read_feedback, "f.jsonl", json.dumps({**ROW, "feedback": 0})),
    "read_grades: no grade": of_file(
        read_grades, "f.jsonl", json.dumps({**ROW, "feedback": 1, "grade": MARKER})
    ),
    "read_qrels": of_file(read_qrels, "q.txt", MARKER),
    "read_qrels: a grade": of_file(read_qrels, "q.txt", f"q 0 d {MARKER.split()[-1]}"),
    "read_beir": lambda d: read_beir(file("corpus.jsonl", CUT)(beir(d)).parent),
    "read_beir: no object": lambda d: read_beir(
        file("queries.jsonl", json.dumps([MARKER]))(beir(d)).parent
    ),
    "write_beir": lambda d: write_beir([MARKER], d / "new"),
    "write_qrels": lambda d: write_qrels({**GOOD, "queries": [MARKER]}, d / "q"),
    "read_queries": of_file(read_queries, "q.csv", f'"{MARKER}"\n"{MARKER}"\n'),
    "read_queries: cut": of_file(read_queries, "q.jsonl", f'{{"query": "{MARKER}'),
    "read_index: labels": labelled({MARKER: "n"}),
    "read_index: half an emoji": labelled({f"{MARKER} \ud83d": ["n"]}),
    "read_index: no list": labelled({MARKER: MARKER}),
    "read_index: unknown nodes": labelled({MARKER: ["x"]}),
    "read_index: no model": labelled({MARKER: ["n"]}),
    "read_index: texts as vectors": lambda d: index_of(MARKER, vector=[MARKER] * 8),
    "read_index: lists of texts": lambda d: index_of([MARKER]),
    "read_index: another model": lambda d: index_of(MARKER, MODEL),
    "read_index: a model that answers texts": lambda d: index_of(MARKER, answering([MARKER])),
    "rewrite_index": rewritten,
    "VectorDataset": lambda d: VectorDataset(WITH_TEXT, EYE, ROWS),
    "EmbeddingAdapterFinetuneEngine: text": lambda d: engine(d, MARKER),
    "EmbeddingAdapterFinetuneEngine: a list": lambda d: engine(d, [MARKER]),
    "EmbeddingAdapterFinetuneEngine: one text": lambda d: engine(d, GOOD, query_log=MARKER),
    "EmbeddingAdapterFinetuneEngine: numbers": lambda d: engine(d, GOOD, query_log=[MARKER, 1]),
    "EmbeddingAdapterFinetuneEngine: too few": lambda d: engine(d, GOOD),
    "finetune_without_labels: one text": lambda d: whiten(d, MARKER),
    "finetune_without_labels: numbers": lambda d: whiten(d, [MARKER, 1]),
    "finetune_without_labels: an empty text": lambda d: whiten(d, [MARKER, ""]),
    "evaluate": lambda d: evaluate(adapted(d), {**GOOD, "queries": [MARKER]}),
    "evaluate: a text": lambda d: evaluate(adapted(d), MARKER),
    "compare_adapters": lambda d: compare_adapters(adapted(d), adapted(d), [MARKER]),
    "AdapterEmbeddingModel: bytes": lambda d: adapted(d).get_query_embedding(
        MARKER.encode()  # type: ignore[arg-type]
    ),
    "AdapterEmbeddingModel: texts as vectors": lambda d: adapted(d).transform_queries(WITH_TEXT),
    "generate_qa_embedding_pairs: texts": generated([MARKER]),
    "generate_qa_embedding_pairs: one text": generated(MARKER),
    "generate_qa_embedding_pairs: one id twice": generated([NODE, TextNode(id_="n", text="x")]),
    "generate_qa_embedding_pairs: another file": lambda d: generated(
        [NODE], output_path=file("set.json", CUT)(d)
    )(d),
    "agenerate_qa_embedding_pairs": lambda d: asyncio.run(
        agenerate_qa_embedding_pairs([MARKER], ScriptedLLM(), verbose=False)  # type: ignore[list-item]
    ),
}
SEES_NO_TEXT = {
    *("BaseEmbeddingFinetuneEngine", "BaseAdapter", "LinearAdapter"),
    *("TrainingOptions", "FinetuneResult", "Comparison"),
    *("LinearLayer", "TwoLayerAdapter", "TwoLayerNN", "Relevance", "local_embedding"),
    "register_reader",
    *("Page", "Reading"),  # read_index reads them
}


def test_every_public_name_that_sees_texts_is_tried() -> None:
    tried = {name.partition(":")[0] for name in WRONG}
    for name in llama_index_adapters.__all__:
        public = getattr(llama_index_adapters, name)
        if isinstance(public, type) and issubclass(public, AdaptersError):
            continue
        assert (public.__name__ in tried) != (name in SEES_NO_TEXT), name


def test_an_error_about_texts_repeats_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, subtests: pytest.Subtests
) -> None:
    caplog.set_level(logging.DEBUG, logger="llama_index_adapters")
    for number, (name, wrong) in enumerate(WRONG.items()):
        caplog.clear()
        (tmp_path / str(number)).mkdir()
        with subtests.test(name):
            with pytest.raises(AdaptersError) as caught:
                wrong(tmp_path / str(number))
            # Without the lines of source, in which this module has its texts by name alone.
            shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            shown += "".join(record.getMessage() for record in caplog.records if _ours(record))
            for part in (MARKER, *(MARKER[at : at + 12] for at in range(len(MARKER) - 12))):
                assert part not in shown


@pytest.mark.parametrize(
    ("words", "content"), [("", CUT), ("--debug ", json.dumps({**GOOD, "queries": [MARKER]}))]
)
def test_a_command_repeats_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = file("set.json", content)(tmp_path)
    line = f"{words}finetune {path} --embed-model local -o {tmp_path}/new"
    assert main(line.split()) == 2
    said = "".join(capsys.readouterr())
    assert "set.json" in said
    assert "Ada Marker" not in said
