"""Every notebook runs from a clean kernel, and is committed with what it showed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tests.documents import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOT_TO_BE_SHOWN = re.compile(
    r"/home/|/root|/Users/|/tmp/|[A-Z]:\\|site-packages|dist-packages"
    r"|Traceback|Warning|\bsk-\w|\d+it/s|\r"
)

# What only the full form of a notebook shows: the benchmarks have a short one to be tried here.
FULL_FORM = {
    "adapters_compared": ["tenk", "tldr"],
    "benchmark_10k": ["test    790 questions,  395 passages"],
    "change_the_model": ["1,200 passages of 128 dimensions"],
    "changing_data": ["600 documents"],
    "retriever_gallery": ["375 to test", "1024 tokens"],
    "learning_curve": ["train  20,344 questions"],
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in read(path).cells for output in cell.get("outputs", [])]


def shown(path: Path) -> str:
    return "".join(output.get("text", "") for output in outputs(path))


def test_these_are_among_them():
    assert {"finetune_embedding_adapter", *FULL_FORM} <= {path.stem for path in NOTEBOOKS}


def test_cells_compile_and_their_imports_work(subtests):
    """What running them would find first; the slow tests run them."""
    for path in NOTEBOOKS:
        for number, cell in enumerate(read(path).cells):
            if cell.cell_type == "code":
                with subtests.test(path.stem, cell=number):
                    tree = ast.parse(cell.source, path.name)
                    tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
                    exec(compile(tree, path.name, "exec"), {})


def test_it_was_run_from_the_start(subtests):
    for path in NOTEBOOKS:
        with subtests.test(path.stem):
            cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
            assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
            assert not [output for output in outputs(path) if output.output_type == "error"]


def test_it_shows_figures_and_a_plot(subtests):
    for path in NOTEBOOKS:
        with subtests.test(path.stem):
            kinds = {kind for output in outputs(path) for kind in output.get("data", {})}
            assert "image/png" in kinds
            assert "nDCG@10" in shown(path)


def test_a_benchmark_is_committed_in_its_full_form(subtests):
    for name, texts in FULL_FORM.items():
        with subtests.test(name):
            text = shown(ROOT / "notebooks" / f"{name}.ipynb")
            assert not [stated for stated in texts if stated not in text]


def test_it_shows_nothing_of_the_machine_it_ran_on(subtests):
    for path in NOTEBOOKS:
        with subtests.test(path.stem):
            texts = [
                text
                for output in outputs(path)
                for text in (output.get("text", ""), output.get("data", {}).get("text/plain", ""))
            ]
            assert not [text for text in texts if NOT_TO_BE_SHOWN.search(text)]
            assert not [output for output in outputs(path) if output.get("name") == "stderr"]
            assert set(read(path).metadata) <= {"kernelspec", "language_info"}
            assert str(Path.home()) not in path.read_text(encoding="utf-8")


def test_the_scripted_model_is_named_as_such(subtests):
    for path in NOTEBOOKS:
        source = "".join(cell.source for cell in read(path).cells)
        if "ScriptedLLM" in source:
            with subtests.test(path.stem):
                assert "not a language model" in source


@pytest.mark.slow
@pytest.mark.local_model
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_without_a_key_or_a_network(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    for name in ("HOME", "XDG_CACHE_HOME", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LLAMA_INDEX_ADAPTERS_SHORT", "1")
    monkeypatch.delenv("LLAMA_INDEX_ADAPTERS_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel runs elsewhere than in notebooks/
    (tmp_path / "run").mkdir()

    notebook = read(path)
    # With this name and no kernels of the user's own, Jupyter starts this very interpreter.
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=1800,
        resources={"metadata": {"path": str(tmp_path / "run")}},
    )
    client.execute()

    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert list((tmp_path / "run").rglob("model.safetensors"))
    assert (tmp_path / "xdg_cache_home" / "llama-index-adapters").is_dir()
