"""The README's code: what needs no key runs as it is written, the rest at least compiles."""

from __future__ import annotations

import ast

import pytest

from tests.documents import Block, blocks, run

README = blocks("README.md", "python")


def imports_of(block: Block) -> ast.Module:
    nodes = [
        node for node in ast.parse(block.code).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return ast.Module(nodes, type_ignores=[])


def test_there_are_blocks_of_both_kinds():
    assert {block.needs_key for block in README} == {True, False}


@pytest.mark.slow  # a search among all kinds of adapters
@pytest.mark.local_model
def test_blocks_that_need_no_key_run(tmp_path, monkeypatch):
    """One after the other, as somebody pastes them into one session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    session: dict[str, object] = {"__name__": "readme"}
    for block in README:
        if not block.needs_key:
            run("README.md", block, session)
            if block is README[0]:  # a later one gives the names to other models
                first = session["evaluate"](session["embed_model"], session["test"]).comparison
    # What the text around the blocks says of them.
    assert first.gains[first.metric].low > 0.1
    assert session["index"].as_retriever(embed_model=session["base_model"])
    assert (tmp_path / "cache").is_dir()
    assert '"kind": "identity"' in (tmp_path / "vector-adapter" / "config.json").read_text()
    assert type(session["embed_model"]).__name__ == "AdapterEmbeddingModel"


@pytest.mark.parametrize("block", README)
def test_blocks_compile_and_import(block):
    compile(block.code, "README.md", "exec")
    exec(compile(imports_of(block), "README.md", "exec"), {})
