"""The pages about an index that exists: their code runs as it is written."""

from __future__ import annotations

import ast

import pytest

from llama_index_adapters.index import read, registry, same_model
from llama_index_adapters.questions import logs
from tests.documents import ROOT, blocks, run

PAGE = "docs/index.md"
QUERY_MODELS = "docs/query-models.md"
QUESTIONS = "docs/questions.md"
FEWER_DIMENSIONS = "docs/fewer-dimensions.md"


@pytest.mark.local_model
def test_blocks_that_need_no_key_run(tmp_path, monkeypatch, capsys):
    """One after the other, as somebody pastes them into one session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_registered", {})
    session: dict[str, object] = {"__name__": "page"}
    for block in blocks(PAGE, "python"):
        if not block.needs_key:
            run(PAGE, block, session)
    shown = capsys.readouterr().out
    assert "4 vectors of 384 dimensions from SimpleVectorStore, compared by cosine\n" in shown
    assert "{'can I send it back': ['returns'], 'where is my order': ['shipping']}\n" in shown
    assert "4 vectors of 384 dimensions from ListStore, compared by cosine\n" in shown
    assert len(session["dataset"].queries) == 2
    assert "nDCG@3" in shown
    assert "Keep the adapter in use" in shown
    assert len(session["train"].queries) == 5
    assert (tmp_path / "whitening" / "config.json").is_file()


@pytest.mark.local_model
def test_blocks_about_query_models_run(tmp_path, monkeypatch, capsys):
    """One after the other; a model without labels, one that is gone, and two together."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session: dict[str, object] = {"__name__": "page"}
    for block in blocks(QUERY_MODELS, "python"):
        run(QUERY_MODELS, block, session)
    assert "mapped without labels" in capsys.readouterr().out
    assert len(session["embed_model"].get_query_embedding("returns of phones?")) == 256


def test_blocks_about_questions_print_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "page"}
    said = []
    for block in blocks(QUESTIONS, "python"):
        run(QUESTIONS, block, session)
        lines = (line for line in block.code.splitlines() if line.startswith("print("))
        said += [line.partition("  # ")[2].partition(": a folder")[0] for line in lines]
    assert capsys.readouterr().out.splitlines() == said
    assert session["labels"]["Can I send it back?"] == {"n3": 1}


@pytest.mark.local_model
def test_blocks_about_fewer_dimensions_run(tmp_path, monkeypatch, capsys):
    """One after the other; the copy has the nodes, and vectors of as many dimensions as asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session: dict[str, object] = {"__name__": "page"}
    for block in blocks(FEWER_DIMENSIONS, "python"):
        run(FEWER_DIMENSIONS, block, session)
    vectors = session["smaller"].vector_store.data.embedding_dict
    assert {len(vector) for vector in vectors.values()} == {128}
    assert set(vectors) == {"returns", "warranty", "shipping", "billing"}
    assert "Of 384 dimensions to 128" in " ".join(capsys.readouterr().out.split())


def test_blocks_that_need_a_key_compile():
    (block,) = (block for block in blocks(PAGE, "python") if block.needs_key)
    assert ast.parse(block.code).body


def test_numbers_and_names_are_those_of_the_code():
    text = " ".join((ROOT / PAGE).read_text(encoding="utf-8").split())
    *others, last = logs.VERDICT_COLUMNS
    for stated in (
        f"below {same_model.SAME_COSINE:g} to",
        f"({same_model.SAME_COSINE_OF_CODES:g} where",
        f"{read.PAGE_SIZE:,} by default",
        f"{', '.join(f'`{name}`' for name in others)} or `{last}`",
    ):
        assert stated in text
    relevant, other = text.partition("A row with")[0], text.partition("A row with")[2]
    for word in ("1", "true", "yes", "clicked", "thumbs_up", "like", "helpful"):
        assert word in logs.RELEVANT
        assert f"`{word}`" in relevant
    for word in ("0", "false", "no", "skipped", "thumbs_down"):
        assert word in logs.NOT_RELEVANT
        assert f"`{word}`" in other
