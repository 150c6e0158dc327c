"""The same vectors, the same identity; other vectors, another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SecretStr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.embeddings.openai import OpenAIEmbedding

from llama_index_adapters import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.services.identity.identity import identity_of as identity_of_any
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.identity import IdentifiedModel
from tests.fakes import CountingEmbedding
from tests.identity_integrations import INTEGRATIONS
from tests.identity_shapes import SHAPES, Prefixed, Wrapping

# As a release of format 1 computed it.
FORMER_OF_OPENAI = "74bbc0bc09655899daee9eebe11098ba80e069aa737a34970e68b57c7f152d37"


class Unstated(CountingEmbedding):
    """A model that says nothing of itself."""

    @property
    def stated_identity(self) -> None:
        return None


class Service(Unstated):
    """With fields such as integrations have."""

    service_api_key: str = "a"
    base_url: str = "https://one"
    azure_endpoint: str = "https://one"
    request_timeout: float = 1.0
    headers: dict[str, str] = Field(default_factory=dict)
    device: str = "cpu"
    password: SecretStr = SecretStr("a")
    options: dict[str, Any] = Field(default_factory=dict)
    anything: Any = None
    input_type: str = "document"
    max_tokens: int = 512
    truncate_dim: int | None = None
    pooling: str = "mean"


class HuggingFaceEmbedding(Unstated):
    """Named like the one that loads folders."""

    normalize: bool = True
    _model: Any = PrivateAttr(default=None)


class Adapted(Unstated):
    """Wraps a model, as AdapterEmbeddingModel does."""

    base_embed_model: BaseEmbedding = Field(exclude=True)
    adapter_path: str = "adapter"
    fingerprint: str = "one"


def identity_of(model: BaseEmbedding) -> str:
    return IdentifiedModel(model).identity


def label_of(model: BaseEmbedding) -> str:
    return IdentifiedModel(model).label


def openai(**options: Any) -> OpenAIEmbedding:
    return OpenAIEmbedding(**{"api_key": "a", "model": "text-embedding-3-small", **options})


def test_what_changes_no_vector_changes_no_identity(subtests: pytest.Subtests) -> None:
    for options in (
        {"embed_batch_size": 3},
        {"num_workers": 3},
        {"callback_manager": CallbackManager([])},
        {"embeddings_cache": SimpleKVStore()},
        {"service_api_key": "b"},
        {"base_url": "https://two"},
        {"azure_endpoint": "https://two"},
        {"request_timeout": 2.0},
        {"headers": {"Authorization": "Bearer b"}},
        {"device": "cuda:1"},
        {"password": SecretStr("b")},
        {"options": {"apiKey": "b", "X-Auth-Token": "b", "extra_headers": {"a": "b"}}},
        {"options": {"cache_folder": "/somewhere", "tokenizer_file": "/not/there"}},
        {"options": {"vocabulary_path": Path("/not/there"), "model_dir": ""}},
    ):
        with subtests.test(options=options):
            options = {"model_name": "m", **options}
            assert identity_of(Service(**options)) == identity_of(Service(model_name="m"))


def test_what_changes_a_vector_changes_the_identity(subtests: pytest.Subtests) -> None:
    for options in (
        {"model_name": "other"},
        {"dimension": 9},
        {"query_instruction": "query: "},
        {"input_type": "query"},
        {"max_tokens": 256},
        {"truncate_dim": 64},
        {"pooling": "cls"},
        {"options": {"task": "retrieval"}},
        {"options": {"nested": [{"task": "retrieval"}]}},
        {"anything": np.arange(3)},
        {"anything": len},
        {"anything": {3, 1, 2}},
    ):
        with subtests.test(options=options):
            assert identity_of(Service(**options)) != identity_of(Service())


def test_another_class_is_another_model() -> None:
    assert identity_of(CountingEmbedding()) != identity_of(Service())


def test_the_order_of_options_does_not_matter() -> None:
    one = Service(options={"a": 1, "b": {"c": 2, "d": 3}})
    two = Service(options={"b": {"d": 3, "c": 2}, "a": 1})
    assert identity_of(one) == identity_of(two)


def test_objects_count_by_their_kind_not_their_address() -> None:
    assert identity_of(Service(anything=object())) == identity_of(Service(anything=object()))
    assert identity_of(Service(anything=object())) != identity_of(Service())
    one, two = np.arange(4), np.arange(4)
    assert identity_of(Service(anything=one)) == identity_of(Service(anything=two))


def test_openai() -> None:
    same = openai()
    for options in (
        {"api_key": "b", "api_base": "http://localhost/v1", "api_version": "2"},
        {"timeout": 1.0, "max_retries": 0, "reuse_client": False},
        {"default_headers": {"X-Team": "b"}, "embed_batch_size": 1, "num_workers": 9},
        {"additional_kwargs": {"user": "b", "extra_headers": {"a": "b"}, "timeout": 3}},
    ):
        assert identity_of(openai(**options)) == identity_of(same), options
    for options in (
        {"dimensions": 256},
        {"model": "text-embedding-3-large"},
        {"additional_kwargs": {"encoding": "other"}},
    ):
        assert identity_of(openai(**options)) != identity_of(same), options


def test_openai_is_the_same_after_it_was_asked() -> None:
    model = openai()
    before = identity_of(model)
    model._get_client()
    assert identity_of(model) == before


def test_openais_engines_count_where_the_name_is_the_same() -> None:
    search = openai(model="davinci", mode="text_search")
    similarity = openai(model="davinci", mode="similarity")
    assert search.model_name == similarity.model_name
    assert identity_of(search) != identity_of(similarity)


def test_openai_by_either_name() -> None:
    assert identity_of(openai(model_name="text-embedding-3-small")) == identity_of(openai())
    assert label_of(openai()) == "text-embedding-3-small"


def test_it_is_the_same_in_every_process() -> None:
    program = (
        "from tests.test_identity import *\n"
        "m = Service(anything={'x', 'y', 'z'}, options={'b': object(), 'a': len, 'c': Service})\n"
        "print(identity_of(m), identity_of(openai()))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "minilm"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": "mean"}')
    return folder


def test_a_folder_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    before = identity_of(HuggingFaceEmbedding(model_name=str(folder)))
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "README.md").write_text("a description")
    (elsewhere / ".gitattributes").write_text("")
    assert identity_of(HuggingFaceEmbedding(model_name=str(elsewhere))) == before
    (elsewhere / "model.safetensors").write_bytes(b"WEIGHTS")
    changed = identity_of(HuggingFaceEmbedding(model_name=str(elsewhere)))
    assert changed != before
    (elsewhere / "1_Pooling" / "config.json").write_text('{"pooling": "cls"}')
    assert identity_of(HuggingFaceEmbedding(model_name=str(elsewhere))) != changed


def test_a_folder_may_be_named_relatively(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    absolute = identity_of(HuggingFaceEmbedding(model_name=str(folder)))
    assert identity_of(HuggingFaceEmbedding(model_name="minilm")) == absolute
    assert identity_of(HuggingFaceEmbedding(model_name="./minilm")) == absolute


def test_a_folder_called_like_a_service_model_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity_of(openai())
    (tmp_path / "text-embedding-3-small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert identity_of(openai()) == before


def test_the_settings_a_loaded_model_carries_count() -> None:
    class Loaded:
        def __init__(self, **settings: Any) -> None:
            usual = {"prompts": {"query": "", "text": ""}, "truncate_dim": None, "dtype": "f4"}
            self.__dict__.update({**usual, **settings})

    def identity(**settings: Any) -> str:
        model = HuggingFaceEmbedding()
        model._model = Loaded(**settings)
        return identity_of(model)

    assert identity() == identity(device="cuda")
    assert identity(prompts={"query": "query: ", "text": ""}) != identity()
    assert identity(truncate_dim=64) != identity()
    assert identity(dtype="f2") != identity()


def test_a_wrapped_model_and_the_fingerprint_count() -> None:
    def identity(base: BaseEmbedding, **options: Any) -> str:
        return identity_of(Adapted(base_embed_model=base, **options))

    base = Service(model_name="m")
    assert identity(base) == identity(Service(model_name="m", base_url="https://two"))
    assert identity(base) == identity(base, adapter_path="elsewhere")
    assert identity(base) != identity(base, fingerprint="two")
    assert identity(base) != identity(Service(model_name="m", pooling="cls"))
    assert identity(base) != identity_of(base)


def test_labels(folder: Path) -> None:
    assert label_of(Service(model_name="BAAI/bge-small-en")) == "BAAI/bge-small-en"
    assert label_of(HuggingFaceEmbedding(model_name=str(folder))) == "minilm"
    assert label_of(Service(model_name="/models/on/the/server")) == "server"
    assert label_of(Service(model_name="unknown")) == "Service"


def test_what_is_no_model_is_refused(subtests: pytest.Subtests) -> None:
    for wrong in ("local", None, CountingEmbedding):
        with subtests.test(wrong=wrong):
            with pytest.raises(InvalidOptionError, match="expected a LlamaIndex embedding model"):
                identity_of(wrong)
            with pytest.raises(InvalidOptionError, match=f"embed_model is {type(wrong).__name__}"):
                label_of(wrong)


ALL_SHAPES = {**SHAPES, **INTEGRATIONS}


@pytest.mark.parametrize("name", ALL_SHAPES)
def test_models_in_every_shape(name: str) -> None:
    shape = ALL_SHAPES[name]
    usual = identity_of_any(shape.make())
    assert usual.lasting
    for settings in shape.same:
        assert identity_of_any(shape.make(**settings)) == usual, settings
    others = [identity_of_any(shape.make(**settings)).digest for settings in shape.other]
    assert len({usual.digest, *others}) == 1 + len(others)


class TestWhatCannotBeRead:
    """An object of a compiled library says nothing of itself."""

    def test_it_is_known_in_this_process_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        one, two = (Wrapping(np.random.default_rng(0).bit_generator) for _ in range(2))
        with caplog.at_level("WARNING"):
            first = identity_of_any(one)
            again = identity_of_any(one)
        assert not first.lasting
        assert first == again
        assert first != identity_of_any(two)
        assert first != identity_of_any(Wrapping(None))
        (record,) = [record for record in caplog.records if "Wrapping" in record.message][:1]
        assert "stated_identity" in record.message

    def test_a_model_may_say_itself_what_it_is(self) -> None:
        class Stated(Wrapping):
            stated_identity: str = "mine, version 1"

        one, two = (Stated(np.random.default_rng(0).bit_generator) for _ in range(2))
        assert identity_of_any(one) == identity_of_any(two)
        assert identity_of_any(one).lasting
        changed = Stated(None, stated_identity="mine, version 2")
        assert identity_of_any(changed) != identity_of_any(one)

    def test_its_vectors_are_no_other_object_s(self, tmp_path: Path) -> None:
        store = tmp_path / "store.sqlite3"
        models = [Compiled(np.random.default_rng(seed).bit_generator) for seed in (1, 2)]
        first, second = (
            Embedder(model, store, show_progress=False).texts(["a text"], "passage").vectors
            for model in models
        )
        assert not np.array_equal(first, second)

    def test_an_adapter_of_it_is_not_compared_by_identity(self, tmp_path: Path) -> None:
        train = {f"q{n}": f"query {n}" for n in range(20)}
        questions = EmbeddingQAFinetuneDataset(
            queries=train,
            corpus={f"n{n}": f"passage {n}" for n in range(20)},
            relevant_docs={f"q{n}": [f"n{n}"] for n in range(20)},
        )
        model = Compiled(np.random.default_rng(1).bit_generator)
        engine = EmbeddingAdapterFinetuneEngine(
            questions,
            model,
            model_output_path=tmp_path / "adapter",
            store=tmp_path / "store.sqlite3",
            show_progress=False,
            adapter="linear",
            epochs=1,
        )
        engine.finetune()
        assert load_saved(tmp_path / "adapter").metadata.base_model_identity is None


class Compiled(Wrapping):
    """Asks an object that nobody can look into."""

    def _get_text_embedding(self, text: str) -> list[float]:
        with self._inner.lock:
            seed = int(self._inner.random_raw()) + len(text)
        return np.random.default_rng(seed).normal(size=4).tolist()


def test_torch_weights_changed_in_memory_count() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(8, 8)
    model = Wrapping(layer)
    before = identity_of_any(model)
    assert before.lasting
    assert identity_of_any(Wrapping(layer)) == before
    with torch.no_grad():
        layer.weight += 0.01
    assert identity_of_any(model) != before


def test_a_module_that_another_library_computes_is_known_in_this_process_alone() -> None:
    """sentence-transformers with ``backend="onnx"``: the weights are in no tensor of it."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 2)
    layer.backend = "onnx"
    assert not identity_of_any(Wrapping(layer)).lasting
    layer.backend = "torch"
    assert identity_of_any(Wrapping(layer)).lasting


def test_what_earlier_stores_know_a_model_by() -> None:
    """Only of a package's class with a name: of others that told too few apart."""
    assert IdentifiedModel(openai()).former_identity == FORMER_OF_OPENAI
    assert IdentifiedModel(Prefixed()).former_identity is None
    adapted = Adapted(base_embed_model=openai())
    assert IdentifiedModel(adapted).former_identity is None
