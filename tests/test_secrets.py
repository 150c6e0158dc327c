"""A planted key and a marker text are searched for in everything that is written or said."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import TextNode

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    evaluate,
    generate_qa_embedding_pairs,
)
from llama_index_adapters.errors import AdaptersError
from tests.fakes import synonym_questions
from tests.faulty_openai import KEY, FaultyOpenAI, llm_of, model_of

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
    server: FaultyOpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="llama_index_adapters")
    server.plan("429", "nan", "500")
    model = model_of(server, embed_batch_size=16)
    store = tmp_path / "store.sqlite3"
    payloads = Payloads()
    get_dispatcher().add_event_handler(payloads)
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


@pytest.mark.parametrize("fault", ["401", "403", "429", "500", "503", "malformed json", "nan"])
@pytest.mark.parametrize("task", ["embed", "generate"])
def test_errors_and_logs_repeat_neither_when_the_server_does(
    server: FaultyOpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, task: str
) -> None:
    if task == "generate" and fault == "nan":
        fault = "none"
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
    jobs: dict[str, Callable[[], object]] = {
        "embed": engine.finetune,
        "generate": lambda: generate_qa_embedding_pairs(
            nodes, llm_of(server), output_path=tmp_path / "set", verbose=False
        ),
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
