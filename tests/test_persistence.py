"""Adapters on disk: written whole, read without belief."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from llama_index_adapters.adapters.disk import llamaindex, read, save, untrusted_files, weight_file
from llama_index_adapters.adapters.disk.config import AdapterConfig, QueryModel
from llama_index_adapters.adapters.disk.fingerprint import adapter_fingerprint
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata, Section
from llama_index_adapters.adapters.disk.read import read_adapter
from llama_index_adapters.adapters.disk.save import require_own_directory, save_adapter
from llama_index_adapters.adapters.families import FAMILIES
from llama_index_adapters.adapters.learned.base import BaseAdapter, load_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter, LinearLayer
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.errors import (
    InvalidAdapterError,
    InvalidFileError,
    InvalidOptionError,
    MissingFileError,
    UnwritableFileError,
)
from llama_index_adapters.serving.saved import load_saved
from tests.adapter_directories import FORMAT_1, rewrite

DIM = 6
ARGUMENTS = {
    "linear": {"in_features": DIM, "bias": True},
    "two-layer": {"in_features": DIM, "out_features": 5},
    "two-layer-nn": {
        "in_features": DIM,
        "hidden_features": 9,
        "out_features": DIM,
        "add_residual": True,
    },
}
METADATA = AdapterMetadata(
    query_models=(QueryModel(name="text-embedding-3-small", identity="ab" * 32),),
    training={"epochs": 4, "learning_rate": np.float32(0.5), "seed": 0},
    data={"fingerprint": "cd" * 32, "queries": 1200, "passages": 34567},
    metrics={
        "base": {"ndcg@10": 0.51, "mrr@10": 0.4},
        "adapted": {"ndcg@10": 0.57, "mrr@10": 0.45},
    },
)


class Scale(BaseAdapter):
    """A user's own adapter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(dim))

    def forward(self, embed):
        return embed * self.scale

    def get_config_dict(self):
        return {"dim": len(self.scale)}


class Shift(Scale):
    """Built from the same arguments, computing something else."""

    def forward(self, embed):
        return embed + self.scale


class LinearTwice(LinearAdapter):
    """A user's own member of a built-in family."""

    def forward(self, embed):
        return super().forward(super().forward(embed))


def example(kind: str) -> BaseAdapter:
    return FAMILIES[kind].learned_class()(**ARGUMENTS.get(kind, {"in_features": DIM}))


def randomised(adapter: BaseAdapter, seed: int = 0) -> BaseAdapter:
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return adapter


def queries(dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(4, dim)).astype(np.float32)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def make_directory(tmp_path: Path) -> Callable[[], Path]:
    """Every call gives another directory with the same adapter."""
    numbers = itertools.count()

    def make() -> Path:
        path = tmp_path / f"adapter-{next(numbers)}"
        save_adapter(path, randomised(LinearAdapter(DIM, bias=True)), metadata=METADATA)
        return path

    return make


@pytest.fixture
def directory(make_directory: Callable[[], Path]) -> Path:
    return make_directory()


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_half(directory: Path, **changes: object) -> None:
    """Change the map of queries in the config, with a fingerprint that fits."""
    rewrite(directory, lambda config: config["queries"].update(changes))


def rewrite_arguments(directory: Path, changes: dict[str, object]) -> None:
    rewrite(directory, lambda config: config["queries"]["arguments"].update(changes))


def write_as_llamaindex(directory: Path, config: object, state: object, **options: object) -> Path:
    """Write what LlamaIndex's ``BaseAdapter.save`` writes."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    torch.save(state, directory / "pytorch_model.bin", **options)
    return directory


class TestWriting:
    def test_three_files_that_say_what_it_is(self, directory):
        assert sorted(contents(directory)) == ["README.md", "config.json", "model.safetensors"]
        config = json.loads((directory / "config.json").read_text())
        versions = config.pop("versions")
        assert {"llama-index-adapters", "torch", "numpy", "llama-index-core"} <= set(versions)
        fingerprint = config.pop("fingerprint")
        assert fingerprint == load_saved(directory).fingerprint
        assert len(fingerprint) == 64
        assert config == {
            "format_version": 2,
            "query_models": [
                {
                    "name": "text-embedding-3-small",
                    "identity": "ab" * 32,
                    "role": "base",
                    "dimension": DIM,
                    "normalise": "unit",
                }
            ],
            "queries": {
                "kind": "linear",
                "adapter_class": None,
                "arguments": {"in_features": DIM, "out_features": DIM, "bias": True, "rank": None},
                "dimensions": {"input": DIM, "output": DIM},
                "result_length": "base",
            },
            "passages": None,
            "sections": {},
            "training": {"epochs": 4, "learning_rate": 0.5, "seed": 0},
            "data": {"fingerprint": "cd" * 32, "queries": 1200, "passages": 34567},
            "metrics": METADATA.metrics,
        }
        arrays = safetensors.numpy.load_file(directory / "model.safetensors")
        assert sorted(arrays) == ["queries.linear.bias", "queries.linear.weight"]

    def test_metadata_comes_back(self, directory):
        saved = load_saved(directory).metadata
        assert (saved.base_model, saved.base_model_identity) == (
            "text-embedding-3-small",
            "ab" * 32,
        )
        (model,) = METADATA.query_models
        assert saved.query_models == (model.model_copy(update={"dimension": DIM}),)
        assert (saved.query_dim, saved.passage_dim) == (DIM, DIM)
        assert (saved.data, saved.metrics) == (METADATA.data, METADATA.metrics)
        assert saved.training["learning_rate"] == 0.5

    def test_the_card_is_for_a_person(self, directory, tmp_path):
        card = (directory / "README.md").read_text()
        assert "`text-embedding-3-small`" in card
        assert 'AdapterEmbeddingModel(base_embed_model, "path/to/this/directory")' in card
        assert "| ndcg@10 | 0.5100 | 0.5700 | +0.0600 |" in card
        assert "1,200 queries and 34,567 passages" in card
        for content in contents(directory).values():
            assert str(tmp_path).encode() not in content

    def test_the_card_without_metadata_says_less(self, tmp_path):
        Scale(DIM).save(tmp_path / "adapter")
        card = (tmp_path / "adapter" / "README.md").read_text()
        assert "Measured" not in card
        assert "Training data" not in card
        assert "adapter_cls=MyAdapter" in card

    def test_a_base_model_name_cannot_break_the_card(self, tmp_path):
        model = QueryModel(name="x`\n# Run this\n\ud800")
        metadata = AdapterMetadata(query_models=(model,))
        save_adapter(tmp_path / "adapter", LinearAdapter(DIM), metadata=metadata)
        card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
        assert not any(line.startswith("# Run") for line in card.splitlines())
        assert load_saved(tmp_path / "adapter").metadata.base_model == model.name

    def test_the_same_bytes_in_another_process(self, directory, tmp_path):
        code = (
            "import tests.test_persistence as t, sys\n"
            "t.save_adapter(sys.argv[1], t.randomised(t.LinearAdapter(t.DIM, bias=True)),"
            " metadata=t.METADATA)"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        root = Path(__file__).parent.parent
        command = [sys.executable, "-c", code, str(tmp_path / "other")]
        subprocess.run(command, check=True, cwd=root, env=environment)
        assert contents(tmp_path / "other") == contents(directory)

    def test_the_same_bytes_in_whatever_order_metadata_come(self, tmp_path):
        for name, training in (
            ("a", {"x": 1, "y": {"p": 2, "q": 3}}),
            ("b", {"y": {"q": 3, "p": 2}, "x": 1}),
        ):
            metadata = AdapterMetadata(training=training)
            save_adapter(tmp_path / name, LinearAdapter(DIM), metadata=metadata)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_another_adapter_replaces_it_whole(self, directory):
        before = load_saved(directory).fingerprint
        (directory / "pytorch_model.bin").write_bytes(b"from LlamaIndex, before")
        save_adapter(directory, randomised(TwoLayerAdapter(DIM)))
        saved = load_saved(directory)
        assert saved.kind == "two-layer"
        assert saved.fingerprint != before
        assert "pytorch_model.bin" not in contents(directory)

    def test_other_files_are_never_lost(self, directory):
        (directory / "notes.txt").write_text("mine")
        before = contents(directory)
        with pytest.raises(InvalidOptionError, match=r"not an adapter's \(notes.txt\)"):
            save_adapter(directory, LinearAdapter(DIM))
        with pytest.raises(InvalidOptionError, match="Name a new or an empty one"):
            require_own_directory(directory)
        assert contents(directory) == before

    def test_directories_that_may_be_written(self, directory, tmp_path):
        (tmp_path / "empty").mkdir()
        for path in (directory, tmp_path / "empty", tmp_path / "new" / "deep"):
            require_own_directory(path)
            LinearAdapter(DIM).save(path)
            assert load_saved(path).kind == "linear"

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(InvalidFileError, match="is a file"):
            save_adapter(tmp_path / "file", LinearAdapter(DIM))
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_full_disk_leaves_the_old_adapter(self, directory, monkeypatch):
        before = contents(directory)

        def full(arrays):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(save.safetensors.numpy, "save", full)
        with pytest.raises(UnwritableFileError, match=r"No space left.*is as it was"):
            save_adapter(directory, TwoLayerAdapter(DIM))
        assert contents(directory) == before
        assert [path.name for path in directory.parent.iterdir()] == [directory.name]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_broken_weights_are_not_saved(self, tmp_path, value):
        adapter = LinearAdapter(DIM)
        with torch.no_grad():
            adapter.linear.weight[0, 0] = value
        with pytest.raises(InvalidAdapterError, match=r"'linear.weight'.*NaN or infinity"):
            adapter.save(tmp_path / "adapter")
        assert not (tmp_path / "adapter").exists()

    @pytest.mark.parametrize(
        "training", [{"path": Path("x")}, {"loss": float("nan")}, {"data": b""}]
    )
    def test_metadata_that_json_cannot_hold(self, tmp_path, training):
        with pytest.raises(InvalidAdapterError, match="metadata cannot be written as JSON"):
            save_adapter(
                tmp_path / "a", LinearAdapter(DIM), metadata=AdapterMetadata(training=training)
            )

    def test_arguments_that_json_cannot_hold(self, tmp_path):
        class Odd(Scale):
            def get_config_dict(self):
                return {"dim": object()}

        with pytest.raises(InvalidAdapterError, match=r"get_config_dict.*cannot be written"):
            Odd(DIM).save(tmp_path / "a")

    def test_arguments_that_json_changes(self, tmp_path):
        class Odd(Scale):
            def __init__(self, dim, weights):
                super().__init__(dim)

            def get_config_dict(self):
                return {"dim": DIM, "weights": {10: 1, 9: (2, 3)}}

        Odd(DIM, {}).save(tmp_path / "a")
        assert isinstance(Odd.load(tmp_path / "a"), Odd)


class TestFingerprint:
    def test_is_the_hash_that_the_page_of_the_format_describes(self, directory):
        config = json.loads((directory / "config.json").read_text())
        decides = {
            "query_models": [
                {key: model[key] for key in ("role", "dimension", "normalise")}
                for model in config["query_models"]
            ],
            "queries": config["queries"],
            "passages": None,
            "sections": {},
        }
        expected = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
        arrays = safetensors.numpy.load_file(directory / "model.safetensors")
        for name, shape in (("linear.bias", (DIM,)), ("linear.weight", (DIM, DIM))):
            expected.update(f"\nqueries.{name} <f4 {shape}\n".encode())
            expected.update(arrays[f"queries.{name}"].astype("<f4").tobytes())
        assert config["fingerprint"] == expected.hexdigest()

    def test_follows_what_decides_vectors_alone(self, tmp_path):
        def fingerprint(adapter, **options):
            save_adapter(tmp_path / "a", adapter, **options)
            return load_saved(tmp_path / "a", Scale if type(adapter) is Scale else None).fingerprint

        as_it_comes = LinearAdapter(DIM)
        as_it_comes.unit_input = False
        found = [
            fingerprint(LinearAdapter(DIM)),
            fingerprint(randomised(LinearAdapter(DIM))),
            fingerprint(LinearAdapter(DIM, bias=True)),
            fingerprint(TwoLayerAdapter(DIM, activation="relu")),
            fingerprint(TwoLayerAdapter(DIM, activation="gelu")),
            fingerprint(IdentityAdapter(DIM)),
            fingerprint(Scale(DIM)),
            fingerprint(as_it_comes),
        ]
        assert len(set(found)) == len(found)
        assert fingerprint(LinearAdapter(DIM), metadata=METADATA) == found[0]
        sections = {"seen": Section({"count": 2}, {"hashes": np.arange(2)})}
        metadata = AdapterMetadata(sections=sections)
        assert fingerprint(LinearAdapter(DIM), metadata=metadata) == found[0]

    @pytest.mark.parametrize(
        ("changes", "same"),
        [
            ({"query_models": [{"name": "x", "identity": "y", "dimension": 4}]}, True),
            ({"training": {"epochs": 1}, "versions": {"torch": "9"}}, True),
            ({"sections": {"seen": {"changes_vectors": False, "content": {"count": 1}}}}, True),
            ({"query_models": [{"dimension": 4, "normalise": "none"}]}, False),
            ({"query_models": [{"dimension": 2}, {"dimension": 2, "role": "other"}]}, False),
            ({"queries": {"kind": "identity", "arguments": {}, "result_length": 1.5}}, False),
            ({"passages": {"kind": "identity", "arguments": {}}}, False),
            ({"sections": {"gate": {"changes_vectors": True}}}, False),
        ],
    )
    def test_of_a_config(self, changes, same):
        config = {
            "format_version": 2,
            "fingerprint": "",
            "query_models": [{"dimension": 4}],
            "queries": {"kind": "identity", "arguments": {}},
        }
        before, after = (AdapterConfig.model_validate(c) for c in (config, {**config, **changes}))
        assert (adapter_fingerprint(before, {}) == adapter_fingerprint(after, {})) is same

    def test_of_arrays(self):
        sections = {"seen": {"changes_vectors": False}, "gate": {"changes_vectors": True}}
        queries = {"kind": "identity", "arguments": {}}
        config = AdapterConfig.model_validate(
            {
                "format_version": 2,
                "fingerprint": "",
                "query_models": [{}],
                "queries": queries,
                "passages": queries,
                "sections": sections,
            }
        )
        none = adapter_fingerprint(config, {})
        array = np.ones(3, np.float32)
        assert adapter_fingerprint(config, {"sections.seen.x": array}) == none
        parts = [f"{part}.x" for part in ("queries", "passages", "sections.gate")]
        found = {adapter_fingerprint(config, {name: array}) for name in parts}
        assert len(found - {none}) == len(parts)


class TestCustom:
    def test_round_trip_and_serving(self, tmp_path):
        adapter = randomised(Scale(DIM))
        assert not torch.allclose(adapter.scale, Scale(DIM).scale)
        metadata = AdapterMetadata(query_dim=DIM, passage_dim=DIM)
        save_adapter(tmp_path / "a", adapter, metadata=metadata)
        for loaded in (Scale.load(tmp_path / "a"), load_adapter(tmp_path / "a", Scale)):
            assert type(loaded) is Scale
            assert torch.equal(loaded.scale, adapter.scale)
        saved = load_saved(tmp_path / "a", Scale)
        assert (saved.kind, saved.transform.query_dim) == ("custom", DIM)
        expected = queries() * adapter.scale.detach().numpy()
        np.testing.assert_allclose(saved.transform(queries()), expected, rtol=1e-6)

    def test_without_dimensions_it_serves_too(self, tmp_path):
        Scale(DIM).save(tmp_path / "a")
        saved = load_saved(tmp_path / "a", Scale)
        assert (saved.transform.query_dim, saved.transform.passage_dim) == (None, None)
        np.testing.assert_array_equal(saved.transform(queries()), queries())
        with pytest.raises(InvalidAdapterError, match=r"Scale failed on vectors of shape \(4, 7\)"):
            saved.transform(queries(7))

    def test_dropout_is_off_while_serving(self, tmp_path):
        class Noisy(Scale):
            def forward(self, embed):
                return torch.nn.functional.dropout(embed, training=self.training)

        Noisy(DIM).save(tmp_path / "a")
        saved = load_saved(tmp_path / "a", Noisy)
        np.testing.assert_array_equal(saved.transform(queries()), queries())

    def test_another_output_shape_is_refused(self):
        class Sum(Scale):
            def forward(self, embed):
                return embed.sum(dim=1)

        with pytest.raises(InvalidAdapterError, match=r"into \(4,\)"):
            transform_of(Sum(DIM), DIM, DIM)(queries())

    def test_needs_its_class_and_imports_nothing(self, tmp_path, monkeypatch):
        Scale(DIM).save(tmp_path / "a")
        rewrite(tmp_path / "a", lambda config: config["queries"].update(adapter_class="os.system"))
        monkeypatch.setattr("importlib.import_module", pytest.fail)
        with pytest.raises(InvalidAdapterError, match=r"not built in \(os.system\).*adapter_cls"):
            load_saved(tmp_path / "a")

    @pytest.mark.parametrize("load", [load_saved, load_adapter])
    def test_the_error_names_the_class_to_pass(self, tmp_path, load):
        Scale(DIM).save(tmp_path / "a")
        for given in (None, BaseAdapter):
            with pytest.raises(InvalidAdapterError, match=r"\(Scale\).*pass it as adapter_cls"):
                load(tmp_path / "a", given)

    def test_a_built_in_class_for_a_custom_adapter(self, tmp_path):
        randomised(LinearTwice(DIM)).save(tmp_path / "a")
        with pytest.raises(
            InvalidAdapterError, match="holds LinearTwice, but adapter_cls is LinearAdapter"
        ):
            load_saved(tmp_path / "a", LinearAdapter)
        assert type(LinearTwice.load(tmp_path / "a")) is LinearTwice

    def test_arguments_that_do_not_fit_the_class(self, tmp_path):
        class Other(Scale):
            def __init__(self, size):
                super().__init__(size)

        Scale(DIM).save(tmp_path / "a")
        with pytest.raises(InvalidAdapterError, match=r"Other cannot be built .*\(dim\)"):
            load_adapter(tmp_path / "a", Other)

    def test_arrays_that_do_not_fit_the_class(self, tmp_path):
        Scale(DIM).save(tmp_path / "a")
        rewrite(tmp_path / "a", arrays={"queries.scale": np.ones(DIM + 1, np.float32)})
        with pytest.raises(InvalidAdapterError, match="do not fit Scale"):
            load_adapter(tmp_path / "a", Scale)

    def test_something_that_is_no_adapter_class(self, directory, subtests):
        for given in (torch.nn.Linear, "Scale", Scale(2), dict):
            with subtests.test(given=given):
                message = r"expected a subclass of .*BaseAdapter"
                with pytest.raises(InvalidOptionError, match=message):
                    load_saved(directory, given)

    def test_a_device_that_is_not_there(self, tmp_path):
        Scale(DIM).save(tmp_path / "a")
        with pytest.raises(InvalidOptionError, match="device='nowhere' cannot be used"):
            load_saved(tmp_path / "a", Scale, device="nowhere")
        assert load_saved(tmp_path / "a", Scale, device="cpu").transform(queries()).shape == (4, 6)


class TestAdapterClass:
    """LlamaIndex's users pass ``adapter_cls=TwoLayerNN``; here it need not be."""

    def test_matching(self, directory, subtests):
        for given in (LinearAdapter, LinearLayer, BaseAdapter):
            with subtests.test(given=given):
                assert type(load_adapter(directory, given)) is LinearAdapter
                assert type(given.load(directory)) is LinearAdapter
                saved = load_saved(directory, given)
                np.testing.assert_array_equal(
                    saved.transform(queries()), load_saved(directory).transform(queries())
                )

    def test_not_matching(self, directory, subtests):
        for given in (TwoLayerNN, TwoLayerAdapter, Scale):
            with subtests.test(given=given):
                message = (
                    r"holds LinearAdapter \(kind 'linear'\), but adapter_cls is " + given.__name__
                )
                for reading in (load_saved, load_adapter):
                    with pytest.raises(InvalidAdapterError, match=message):
                        reading(directory, given)
                with pytest.raises(InvalidAdapterError, match=message):
                    given.load(directory)

    def test_a_subclass_of_a_family_loads_with_its_own_forward(self, directory):
        assert type(load_adapter(directory, LinearTwice)) is LinearTwice
        once = load_saved(directory).transform
        twice = load_saved(directory, LinearTwice).transform
        np.testing.assert_allclose(twice(queries()), once(once(queries())), rtol=1e-4, atol=1e-5)

    def test_the_identity_serves_for_any_class(self, tmp_path):
        IdentityAdapter(DIM).save(tmp_path / "a")
        for given in (None, TwoLayerNN, LinearAdapter, Scale):
            saved = load_saved(tmp_path / "a", given)
            np.testing.assert_array_equal(saved.transform(queries()), queries())
        with pytest.raises(InvalidAdapterError, match="holds IdentityAdapter"):
            LinearAdapter.load(tmp_path / "a")


class TestMissing:
    def test_no_directory(self, tmp_path):
        with pytest.raises(MissingFileError, match=r"gone is not there; expected the directory"):
            load_saved(tmp_path / "gone")
        (tmp_path / "file").write_text("")
        with pytest.raises(MissingFileError, match="file is a file"):
            load_adapter(tmp_path / "file")

    def test_no_config_says_what_is_there(self, directory):
        (directory / "config.json").unlink()
        message = r"has no config.json; it holds README.md, model.safetensors"
        with pytest.raises(MissingFileError, match=message):
            load_saved(directory)
        for number in range(20):
            (directory / f"{number:02}").touch()
        with pytest.raises(MissingFileError, match="09 and 12 more"):
            load_saved(directory)

    def test_no_weights(self, directory, tmp_path):
        (directory / "model.safetensors").unlink()
        with pytest.raises(MissingFileError, match=r"no model.safetensors; it holds README.md, c"):
            load_saved(directory)
        # A config of ours never makes a pickle be read.
        torch.save(LinearAdapter(DIM, bias=True).state_dict(), directory / "pytorch_model.bin")
        with pytest.raises(MissingFileError, match=r"no model.safetensors"):
            load_saved(directory)
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingFileError, match="it holds nothing"):
            load_saved(tmp_path / "empty")


class TestHostileConfig:
    def test_not_a_config(self, make_directory, subtests):
        for text, message in (
            ("", "not valid JSON"),
            ("{", "not valid JSON"),
            ("[1]", "a JSON list, expected an object"),
            ("null", "a JSON NoneType, expected an object"),
            ('{"a": NaN}', "NaN is not JSON"),
            ("[" * 200_000, "not valid JSON"),
            ("9" * 10_000, "not valid JSON"),
            (b"\xff\xfe\x00", "not valid JSON"),
            (" " * (untrusted_files.MAX_CONFIG_BYTES + 1), "no adapter needs more than"),
        ):
            with subtests.test(message):
                directory = make_directory()
                data = text if isinstance(text, bytes) else text.encode()
                (directory / "config.json").write_bytes(data)
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(directory)

    def test_a_newer_format(self, directory):
        change_config(directory, format_version=3)
        with pytest.raises(InvalidAdapterError, match=r"version 3.*up to 2.*Upgrade llama-index"):
            load_saved(directory)

    def test_no_format(self, make_directory, subtests):
        for version in (0, -1, "1", True, None, 1.0):
            with subtests.test(version=version):
                directory = make_directory()
                change_config(directory, format_version=version)
                with pytest.raises(InvalidAdapterError, match="expected a number from 1 to 2"):
                    load_saved(directory)

    def test_a_version_that_is_cut_out_does_not_make_it_llamaindex_s(self, directory):
        config = json.loads((directory / "config.json").read_text())
        del config["format_version"]
        (directory / "config.json").write_text(json.dumps(config))
        with pytest.raises(InvalidAdapterError, match="format_version None; expected"):
            load_saved(directory)

    @pytest.mark.parametrize("half", ["queries", "passages"])
    def test_an_unknown_kind(self, directory, half):
        change_config(directory, **{half: {"kind": "linaer", "arguments": {}}})
        with pytest.raises(InvalidAdapterError) as caught:
            load_saved(directory)
        assert all(kind in str(caught.value) for kind in FAMILIES)
        assert "Did you mean 'linear'?" in str(caught.value)

    def test_entries_that_are_wrong_or_unknown(self, make_directory, subtests):
        for changes, entry in (
            ({"queries": {"kind": 3, "arguments": {}}}, "queries.kind"),
            ({"queries": {"kind": "linear", "arguments": [1]}}, "queries.arguments"),
            ({"queries": {"kind": "linear"}}, "queries.arguments"),
            ({"queries": None}, "queries"),
            ({"query_models": []}, "query_models"),
            ({"query_models": [{"name": 5}]}, "query_models.0.name"),
            ({"query_models": [{"dimension": "6"}]}, "query_models.0.dimension"),
            ({"query_models": [{"dimension": 0}]}, "query_models.0.dimension"),
            ({"query_models": [{"role": "both"}]}, "query_models.0.role"),
            ({"query_models": [{"normalise": True}]}, "query_models.0.normalise"),
            ({"query_models": [{"prompt": "x"}]}, "query_models.0.prompt"),
            ({"fingerprint": None}, "fingerprint"),
            ({"metrics": []}, "metrics"),
            ({"versions": {"torch": 2}}, "versions.torch"),
            ({"sections": {"gate": {}}}, "sections.gate.changes_vectors"),
            ({"sections": {"a.b": {"changes_vectors": False}}}, "sections.a.b"),
            ({"later": 1}, "later"),
        ):
            with subtests.test(entry, changes=changes):
                directory = make_directory()
                change_config(directory, **changes)
                message = f"not a valid adapter config: {entry}"
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(directory)

    def test_a_length_that_is_none(self, make_directory, subtests):
        for length in (0, -1, True, "long", None, 10**400):
            with subtests.test(length=length):
                directory = make_directory()
                half = json.loads((directory / "config.json").read_text())["queries"]
                change_config(directory, queries={**half, "result_length": length})
                message = r"valid adapter config: queries.result_len"
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(directory)

    def test_query_models_that_do_not_fit(self, make_directory, subtests):
        for models, message in (
            ([{}, {}], "2 query models as the base; one model embedded the passages"),
            ([{"role": "other"}], "no query model is the base; expected a number"),
            ([{"dimension": 4}, {"role": "other", "dimension": 3}], "of 4 and 3 .* takes 6"),
            ([{"dimension": 5}], "query models of 5 dimensions, but its map takes 6"),
        ):
            with subtests.test(message):
                directory = make_directory()
                change_config(directory, query_models=models)
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(directory)

    def test_another_kind_than_the_arrays_are_of(self, directory):
        rewrite_half(directory, kind="identity", arguments={"in_features": DIM})
        with pytest.raises(InvalidAdapterError, match=r"not a 'identity' adapter: .*linear.bias"):
            load_saved(directory)

    def test_arguments_that_do_not_fit(self, make_directory, subtests):
        for changes, message in (
            ({"in_features": 10**9}, "in_features=1000000000"),
            ({"out_features": 60_000, "in_features": 60_000}, "its config says"),
            ({"rank": DIM + 1}, "a low-rank adapter is square"),
            ({"rank": 2}, "has no array"),
            ({"bias": 1}, "expected true or false"),
            ({"seed": 3}, "also has seed"),
        ):
            for load in (load_saved, load_adapter):
                with subtests.test(message, load=load):
                    directory = make_directory()
                    rewrite_arguments(directory, changes)
                    with pytest.raises(InvalidAdapterError, match=message):
                        load(directory)

    @pytest.mark.parametrize("load", [load_saved, load_adapter])
    def test_dimensions_that_the_arguments_do_not_make(self, directory, load):
        rewrite_half(directory, dimensions={"input": DIM, "output": 7})
        with pytest.raises(InvalidAdapterError, match=r"map of 6 to 7 .* make one of 6 to 6"):
            load(directory)


class TestMoreThanThisReleaseDoes:
    """What the format can say already: it is read, and refused by whoever would compute."""

    def test_a_map_of_passages_to_other_dimensions(self, directory):
        arguments = {"in_features": DIM, "out_features": 2, "bias": False, "rank": None}
        weight = np.ones((2, DIM), np.float32)
        rewrite(
            directory,
            lambda config: config.update(passages={"kind": "linear", "arguments": arguments}),
            {"passages.linear.weight": weight},
        )
        stored = read_adapter(directory)
        assert stored.config.passages.arguments == arguments
        np.testing.assert_array_equal(stored.parts["passages"]["linear.weight"], weight)
        assert set(stored.query_arrays) == {"linear.weight", "linear.bias"}
        with pytest.raises(InvalidAdapterError, match=r"passages from 6 to 2; expected the same"):
            load_saved(directory)

    @pytest.mark.parametrize("change", [{"result_length": 1.0}, {"kind": "custom"}])
    def test_a_map_of_passages_in_another_way(self, directory, change):
        half = {"kind": "linear", "arguments": {"in_features": DIM, "out_features": DIM}}
        weight = np.ones((DIM, DIM), np.float32)
        half["arguments"] |= {"bias": False, "rank": None}
        rewrite(
            directory,
            lambda config: config.update(passages={**half, **change}),
            {"passages.linear.weight": weight},
        )
        with pytest.raises(InvalidAdapterError, match=r"passages in a way of its own.*Upgrade"):
            load_saved(directory)

    @pytest.mark.parametrize("load", [load_saved, load_adapter])
    def test_several_query_models_that_enter_as_they_come(self, directory, load):
        models = [QueryModel(name="a", role="other", dimension=4), QueryModel(dimension=2)]
        adapter = LinearAdapter(DIM)
        save_adapter(directory, adapter, metadata=AdapterMetadata(query_models=tuple(models)))
        assert read_adapter(directory).metadata().query_models == tuple(models)
        assert "query side of `a`" in (directory / "README.md").read_text()
        load(directory)
        adapter.unit_input = False
        save_adapter(directory, adapter, metadata=AdapterMetadata(query_models=tuple(models)))
        with pytest.raises(InvalidAdapterError, match=r"enter as they come.*Upgrade"):
            load(directory)

    def test_query_models_that_do_not_fit_are_not_written(self, tmp_path):
        metadata = AdapterMetadata(query_models=(QueryModel(), QueryModel()))
        with pytest.raises(InvalidAdapterError, match="adapter's metadata names 2 query models"):
            save_adapter(tmp_path / "a", LinearAdapter(DIM), metadata=metadata)
        assert not (tmp_path / "a").exists()


class TestSections:
    def test_one_that_changes_no_vector_may_be_unknown(self, directory):
        before = load_saved(directory)
        hashes = np.array([3, 1, 2], np.uint64)
        rewrite(
            directory,
            lambda config: config.update(
                sections={"seen": {"changes_vectors": False, "content": {"of": "texts"}}}
            ),
            {"sections.seen.hashes": hashes, "sections.seen.odd": np.full(2, np.nan)},
        )
        saved = load_saved(directory)
        assert saved.fingerprint == before.fingerprint
        np.testing.assert_array_equal(saved.transform(queries()), before.transform(queries()))
        assert type(load_adapter(directory)) is LinearAdapter

    def test_it_comes_back_as_it_was_saved(self, tmp_path):
        hashes = np.arange(5, dtype=np.uint64)
        section = Section({"of": "texts"}, {"hashes": hashes})
        metadata = AdapterMetadata(sections={"seen": section})
        for name in ("a", "b"):
            save_adapter(tmp_path / name, LinearAdapter(DIM), metadata=metadata)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
        found = load_saved(tmp_path / "a").metadata.sections["seen"]
        assert found.content == section.content
        np.testing.assert_array_equal(found.arrays["hashes"], hashes)

    @pytest.mark.parametrize("load", [load_saved, load_adapter])
    def test_one_that_changes_vectors_must_be_known(self, directory, load):
        rewrite(
            directory, lambda config: config.update(sections={"gate": {"changes_vectors": True}})
        )
        message = r"section 'gate' that changes vectors.*does not know it. Upgrade llama-index"
        with pytest.raises(InvalidAdapterError, match=message):
            load(directory)

    def test_an_array_of_no_part(self, make_directory, subtests):
        for name in ("stray", "passages.x", "sections.seen.x", "queries"):
            with subtests.test(name=name):
                directory = make_directory()
                rewrite(directory, arrays={name: np.ones(2, np.float32)})
                with pytest.raises(InvalidAdapterError, match=f"also has {name}, of no part that"):
                    load_saved(directory)


class TestFormatOne:
    """Directories that the main branch wrote before the first release."""

    @pytest.fixture
    def make_one(self, tmp_path: Path) -> Callable[[], Path]:
        numbers = itertools.count()
        return lambda: Path(shutil.copytree(FORMAT_1 / "linear", tmp_path / f"one-{next(numbers)}"))

    @pytest.fixture
    def one(self, make_one: Callable[[], Path]) -> Path:
        return make_one()

    def test_is_served_as_it_was(self):
        vectors = queries(4)
        arrays = safetensors.numpy.load_file(FORMAT_1 / "linear" / "model.safetensors")
        saved = load_saved(FORMAT_1 / "linear")
        assert (saved.kind, saved.unit_input) == ("linear", True)
        expected = vectors @ arrays["linear.weight"].T + arrays["linear.bias"]
        np.testing.assert_allclose(saved.transform(vectors), expected, rtol=1e-5)
        metadata = saved.metadata
        assert (metadata.base_model, metadata.base_model_identity) == (
            "text-embedding-3-small",
            "ab" * 32,
        )
        assert (metadata.query_dim, metadata.passage_dim) == (4, 3)
        assert metadata.data == {"queries": 1200, "passages": 34567}
        assert metadata.training == {"epochs": 4}
        assert metadata.metrics["adapted"] == {"ndcg@10": 0.6}

    def test_vectors_as_they_come_and_a_user_s_own_class(self):
        assert load_saved(FORMAT_1 / "two-layer-nn").unit_input is False
        assert load_adapter(FORMAT_1 / "two-layer-nn").unit_input is False
        scale = safetensors.numpy.load_file(FORMAT_1 / "custom" / "model.safetensors")["scale"]
        saved = load_saved(FORMAT_1 / "custom", Scale)
        np.testing.assert_allclose(saved.transform(queries(4)), queries(4) * scale, rtol=1e-6)
        with pytest.raises(InvalidAdapterError, match=r"\(Scale\).*pass it as adapter_cls"):
            load_saved(FORMAT_1 / "custom")

    @pytest.mark.parametrize("name", ["linear", "two-layer-nn", "custom"])
    def test_saved_again_it_is_format_2_with_the_same_fingerprint(self, tmp_path, name):
        own = Scale if name == "custom" else None
        old = load_saved(FORMAT_1 / name, own)
        save_adapter(tmp_path / "a", load_adapter(FORMAT_1 / name, own), metadata=old.metadata)
        new = load_saved(tmp_path / "a", own)
        assert json.loads((tmp_path / "a" / "config.json").read_text())["format_version"] == 2
        assert (new.fingerprint, new.metadata) == (old.fingerprint, old.metadata)
        np.testing.assert_array_equal(new.transform(queries(4)), old.transform(queries(4)))

    def test_an_entry_that_nobody_reads_does_not_matter(self, one):
        change_config(one, comment="mine")
        assert load_saved(one).kind == "linear"

    def test_a_config_that_is_wrong(self, make_one, subtests):
        for changes, message in (
            ({"kind": "linaer"}, "Did you mean 'linear'"),
            ({"kind": 3}, "not a valid adapter config: kind"),
            ({"unit_input": "yes"}, "not a valid adapter config: unit_input"),
            ({"dimensions": {"query": "6"}}, "not a valid adapter config: dimensions.query"),
            ({"base_model": "x"}, "not a valid adapter config: base_model"),
            ({"arguments": {"in_features": 4}}, "out_features=None; expected a whole number"),
            ({"fingerprint": "0" * 64}, "do not belong together"),
            ({"format_version": 2}, "not a valid adapter config: query_models"),
        ):
            with subtests.test(message):
                one = make_one()
                change_config(one, **changes)
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(one)

    def test_arrays_that_do_not_fit(self, one):
        rewrite(one, arrays={"extra": np.ones(1, np.float32)})
        with pytest.raises(InvalidAdapterError, match="also has extra"):
            load_saved(one)


class TestHostileWeights:
    def test_not_safetensors(self, make_directory, subtests):
        for data in (
            b"",
            b"\xff" * 100,
            (2**60).to_bytes(8, "little") + b"{}",
            pickle.dumps({"linear.weight": 1}),
            b"\x02" + bytes(7) + b"{}" + bytes(50),
        ):
            with subtests.test(data=data):
                directory = make_directory()
                (directory / "model.safetensors").write_bytes(data)
                with pytest.raises(InvalidAdapterError, match="not a safetensors file"):
                    load_saved(directory)

    def test_a_header_that_declares_more_than_there_is(self, directory):
        header = json.dumps(
            {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
        ).encode()
        data = len(header).to_bytes(8, "little") + header
        (directory / "model.safetensors").write_bytes(data)
        with pytest.raises(InvalidAdapterError, match="not a safetensors file"):
            load_saved(directory)

    def test_too_large(self, directory, monkeypatch):
        monkeypatch.setattr(weight_file, "MAX_WEIGHT_BYTES", 10)
        with pytest.raises(InvalidAdapterError, match="no adapter needs more than 10"):
            load_saved(directory)

    def test_values_that_are_not_finite(self, make_directory, subtests):
        for value in (np.nan, np.inf, -np.inf):
            with subtests.test(value=value):
                directory = make_directory()
                rewrite(directory, arrays={"queries.linear.bias": np.full(DIM, value, np.float32)})
                with pytest.raises(InvalidAdapterError, match=r"'linear.bias'.*NaN or infinity"):
                    load_saved(directory)

    def test_arrays_that_do_not_fit(self, make_directory, subtests):
        for changes, message in (
            ({"linear.weight": np.ones((DIM, DIM + 1), np.float32)}, "has shape .*config says"),
            ({"linear.weight": None}, "has no array 'linear.weight'"),
            ({"extra": np.ones(1, np.float32)}, "not a 'linear' adapter: it also has extra"),
        ):
            with subtests.test(message):
                directory = make_directory()
                arrays = {f"queries.{name}": array for name, array in changes.items()}
                rewrite(directory, arrays=arrays)
                for reading in (load_saved, load_adapter):
                    with pytest.raises(InvalidAdapterError, match=message):
                        reading(directory)

    def test_weights_of_another_adapter(self, directory, tmp_path):
        randomised(LinearAdapter(DIM, bias=True), seed=1).save(tmp_path / "other")
        (tmp_path / "other" / "model.safetensors").replace(directory / "model.safetensors")
        with pytest.raises(InvalidAdapterError, match="do not belong together"):
            load_saved(directory)

    def test_numbers_that_float32_does_not_hold(self, directory):
        rewrite(directory, arrays={"queries.linear.bias": np.full(DIM, 1e300)})
        with pytest.raises(InvalidAdapterError, match=r"'linear.bias'.*too large for float32"):
            load_saved(directory)

    @pytest.mark.parametrize("load", [load_saved, load_adapter])
    def test_weights_that_overflow(self, directory, load):
        rewrite(directory, arrays={"queries.linear.bias": np.full(DIM, 3e38, np.float32)})
        with pytest.raises(
            InvalidAdapterError, match=r"so large that .* may reach inf; float32 is"
        ):
            load(directory)

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (kind, name)
            for kind, family in FAMILIES.items()
            for name in family.shapes(example(kind).get_config_dict())
            if name != "log_sharpness"  # served as at most exp(80), which float32 holds
        ],
    )
    def test_each_array_of_each_family_has_its_bound(self, tmp_path, kind, name):
        adapter = example(kind)
        with torch.no_grad():
            for values in adapter.state_dict().values():
                values.fill_(1)
            adapter.state_dict()[name].fill_(1e15)
        with pytest.raises(InvalidAdapterError, match="so large that adapted vectors may reach"):
            adapter.save(tmp_path / "a")

    @pytest.mark.parametrize("dtype", [np.complex64, np.int32, np.uint8, np.bool_])
    def test_weights_that_are_no_floating_point_numbers(self, directory, dtype):
        rewrite(directory, arrays={"queries.linear.bias": np.ones(DIM, dtype)})
        message = f"'linear.bias' holds {np.dtype(dtype)}; the weights of .* again as float32"
        with pytest.raises(InvalidAdapterError, match=message):
            load_saved(directory)

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_another_precision_is_read_as_float32(self, directory, dtype):
        name = "queries.linear.weight"
        weight = safetensors.numpy.load_file(directory / "model.safetensors")[name]
        rewrite(directory, arrays={name: weight.astype(dtype)})
        found = load_saved(directory).transform(queries())
        assert found.dtype == np.float32

    def test_bfloat16(self, tmp_path):
        path = write_as_llamaindex(tmp_path / "a", TestLlamaIndexDirectories.LINEAR, {})
        weight = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0)).bfloat16()
        safetensors.torch.save_file({"linear.weight": weight}, path / "model.safetensors")
        expected = queries() @ weight.float().numpy().T
        np.testing.assert_allclose(load_saved(path).transform(queries()), expected, rtol=1e-4)


class TestRefusedByTheHeader:
    """Files that are large on paper: sparse, so that a test can afford them."""

    @pytest.fixture
    def most_read(self, monkeypatch) -> list[int]:
        """Numbers of bytes read at a time from files of weights."""
        sizes: list[int] = []
        opened = untrusted_files.opened

        class Counted:
            def __init__(self, file):
                self.seek, self.tell, self._file = file.seek, file.tell, file

            def read(self, size=-1):
                sizes.append(len(data := self._file.read(size)))
                return data

        @contextlib.contextmanager
        def counted(*arguments):
            with opened(*arguments) as (file, size):
                yield Counted(file), size

        for module in (weight_file, llamaindex):
            monkeypatch.setattr(module, "opened", counted)
        return sizes

    def write(self, path: Path, header: object, size: int) -> None:
        data = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(len(data).to_bytes(8, "little") + data)
        os.truncate(path, size)

    def test_a_sparse_file(self, directory, most_read, subtests):
        path, large = directory / "model.safetensors", 2**31
        number = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        wide = {"dtype": "F32", "shape": [2**20, 2**8], "data_offsets": [0, 2**30]}
        fits_wide = {
            name: 8 + len(json.dumps({name: wide})) + 2**30
            for name in ("queries.linear.weight", "other")
        }
        for header, size, message in (
            ({"queries.linear.weight": number}, large, "the file has 2,147,483,648"),
            (
                {"queries.linear.weight": wide},
                fits_wide["queries.linear.weight"],
                r"\(1048576, 256\), its config says \(6, 6\)",
            ),
            ({"other": wide}, fits_wide["other"], "also has other, of no part"),
            ({f"queries.{n}": number for n in range(10_001)}, large, "has 10,001 arrays; no"),
            (b" " * (4 * 2**20 + 1), large, "header of .* has 4,194,305 bytes; no adapter"),
        ):
            with subtests.test(message):
                self.write(path, header, size)
                most_read.clear()
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(directory)
                assert 0 < sum(most_read) < 2**21

    def test_a_sparse_pickle(self, tmp_path, most_read):
        state = {"linear.weight": torch.eye(DIM)}
        path = write_as_llamaindex(tmp_path / "a", TestLlamaIndexDirectories.LINEAR, state)
        os.truncate(path / "pytorch_model.bin", 2**31)
        with pytest.raises(InvalidAdapterError, match="no adapter needs more than 4,19"):
            load_saved(path)
        assert most_read == []

    def test_a_sparse_pickle_of_an_unknown_class(self, tmp_path, most_read):
        path = write_as_llamaindex(tmp_path / "a", {"dim": DIM}, Scale(DIM).state_dict())
        weights = path / "pytorch_model.bin"
        archive = weights.read_bytes()
        with weights.open("wb") as file:  # what precedes an archive does not count
            file.seek(2**31)
            file.write(archive)
        with pytest.raises(InvalidAdapterError, match=r"bytes for .* bytes of entries"):
            load_saved(path, Scale)
        assert 0 < sum(most_read) < 2**21

    def test_a_pickle_of_a_million_entries(self, tmp_path, most_read, monkeypatch):
        monkeypatch.setattr(llamaindex, "_MAX_ZIP_OVERHEAD", 70_000)
        path = write_as_llamaindex(tmp_path / "a", {"dim": DIM}, {})
        with zipfile.ZipFile(path / "pytorch_model.bin", "w") as archive:
            for number in range(2000):
                archive.writestr(f"{number:0100}", b"")
        with pytest.raises(InvalidAdapterError, match="its list of entries is too long"):
            load_saved(path, Scale)
        assert sum(most_read) <= 70_001

    def test_more_arrays_than_can_be_loaded_are_not_saved(self, tmp_path, monkeypatch):
        monkeypatch.setattr(weight_file, "MAX_ARRAYS", 1)
        with pytest.raises(
            InvalidAdapterError, match=r"model.safetensors has 2 arrays; no adapter"
        ):
            LinearAdapter(DIM, bias=True).save(tmp_path / "a")
        assert not (tmp_path / "a").exists()


class TestLinks:
    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_out_of_the_directory(self, directory, tmp_path, name):
        (directory / name).rename(tmp_path / name)
        (directory / name).symlink_to(tmp_path / name)
        with pytest.raises(InvalidAdapterError, match=f"{name} is a link out of the directory"):
            load_saved(directory)

    def test_within_the_directory(self, directory):
        (directory / "config.json").rename(directory / "real.json")
        (directory / "config.json").symlink_to("real.json")
        assert load_saved(directory).kind == "linear"

    def test_to_the_directory(self, directory, tmp_path):
        (tmp_path / "link").symlink_to(directory)
        assert load_saved(tmp_path / "link").kind == "linear"

    def test_leading_nowhere(self, directory):
        (directory / "model.safetensors").unlink()
        (directory / "model.safetensors").symlink_to("gone")
        with pytest.raises(MissingFileError, match=r"no model.safetensors"):
            load_saved(directory)
        (directory / "config.json").unlink()
        (directory / "config.json").symlink_to("config.json")
        with pytest.raises((InvalidAdapterError, MissingFileError)):
            load_saved(directory)

    def test_something_that_is_no_file(self, directory):
        (directory / "config.json").unlink()
        os.mkfifo(directory / "config.json")
        with pytest.raises(InvalidAdapterError, match="not a plain file"):
            load_saved(directory)


@pytest.mark.parametrize("replacements", [1, 5])
def test_replaced_between_its_two_files_it_is_read_again(directory, monkeypatch, replacements):
    others = [randomised(TwoLayerAdapter(DIM), seed) for seed in range(replacements)]
    last, read_weights = others[-1], read.read_safetensors

    def replace_and_read(path, require_expected):
        if others:
            save_adapter(path, others.pop(0))
        return read_weights(path, require_expected)

    monkeypatch.setattr(read, "read_safetensors", replace_and_read)
    np.testing.assert_array_equal(
        load_saved(directory).transform(queries()), transform_of(last)(queries())
    )


def test_a_reader_never_sees_half_of_a_save(tmp_path):
    adapters = [randomised(LinearAdapter(DIM), seed) for seed in range(2)]
    path = tmp_path / "adapter"
    prints = set()
    for adapter in adapters:
        save_adapter(path, adapter)
        prints.add(load_saved(path).fingerprint)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for adapter in adapters:
                save_adapter(path, adapter)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [load_saved(path).fingerprint for _ in range(200)]
    finally:
        stop.set()
        writer.join()
    assert set(seen) <= prints


class TestLlamaIndexDirectories:
    LINEAR = {"in_features": DIM, "out_features": DIM, "bias": False}  # noqa: RUF012

    @pytest.mark.parametrize("bias", [False, True])
    def test_linear(self, tmp_path, bias):
        layer = torch.nn.Linear(DIM, DIM, bias=bias)
        state = {f"linear.{name}": value for name, value in layer.state_dict().items()}
        path = write_as_llamaindex(tmp_path / "a", {**self.LINEAR, "bias": bias}, state)
        saved = load_saved(path)
        assert (saved.kind, saved.unit_input, saved.transform.query_dim) == ("linear", False, DIM)
        assert saved.metadata.base_model is None
        expected = layer(torch.from_numpy(queries())).detach().numpy()
        np.testing.assert_allclose(saved.transform(queries()), expected, atol=1e-6)
        for loaded in (load_adapter(path), LinearLayer.load(path)):
            assert type(loaded) is LinearAdapter
            assert loaded.unit_input is False

    @pytest.mark.parametrize("residual", [False, True])
    def test_two_layers(self, tmp_path, residual):
        adapter = randomised(
            TwoLayerNN(DIM, 9, DIM, activation_fn_str="tanh", add_residual=residual)
        )
        path = write_as_llamaindex(tmp_path / "a", adapter.get_config_dict(), adapter.state_dict())
        saved = load_saved(path, TwoLayerNN)
        assert (saved.kind, saved.unit_input) == ("two-layer-nn", False)
        expected = adapter(torch.from_numpy(queries())).detach().numpy()
        np.testing.assert_allclose(saved.transform(queries()), expected, rtol=1e-4, atol=1e-5)
        assert type(load_adapter(path)) is TwoLayerNN
        with pytest.raises(InvalidAdapterError, match=r"holds TwoLayerNN \(kind 'two-layer-nn'\)"):
            load_saved(path, LinearLayer)

    def test_a_custom_one_needs_its_class(self, tmp_path):
        adapter = randomised(Scale(DIM))
        path = write_as_llamaindex(tmp_path / "a", {"dim": DIM}, adapter.state_dict())
        with pytest.raises(InvalidAdapterError, match="pass it as adapter_cls"):
            load_saved(path)
        saved = load_saved(path, Scale)
        np.testing.assert_allclose(
            saved.transform(queries()), queries() * adapter.scale.detach().numpy(), rtol=1e-6
        )
        assert torch.equal(Scale.load(path).scale, adapter.scale)

    def test_a_custom_one_that_takes_a_built_in_s_arguments(self, tmp_path):
        class Own(Scale):
            def __init__(self, in_features, out_features, bias):
                super().__init__(in_features)

        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, Scale(DIM).state_dict())
        assert type(load_adapter(path, Own)) is Own
        with pytest.raises(InvalidAdapterError, match=r"no array 'linear.weight'; it holds scale"):
            load_saved(path)

    def test_saved_again_it_computes_the_same(self, tmp_path):
        adapter = randomised(TwoLayerNN(DIM, 9, DIM))
        path = write_as_llamaindex(tmp_path / "a", adapter.get_config_dict(), adapter.state_dict())
        load_adapter(path).save(tmp_path / "b")
        old, new = load_saved(path), load_saved(tmp_path / "b")
        assert new.unit_input is False
        assert new.fingerprint == old.fingerprint
        np.testing.assert_array_equal(old.transform(queries()), new.transform(queries()))

    def test_safetensors_beside_it_win(self, tmp_path):
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, {"linear.weight": "not read"})
        weight = np.full((DIM, DIM), 2, np.float32)
        safetensors.numpy.save_file({"linear.weight": weight}, path / "model.safetensors")
        np.testing.assert_allclose(
            load_saved(path).transform(queries()), queries() @ weight.T, rtol=1e-5
        )

    def test_half_precision_weights(self, tmp_path):
        state = {"linear.weight": torch.eye(DIM, dtype=torch.bfloat16)}
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, state)
        np.testing.assert_array_equal(load_saved(path).transform(queries()), queries())

    def test_a_pickle_runs_nothing(self, tmp_path):
        marker = tmp_path / "was-here"

        class Attack:
            def __reduce__(self):
                return (Path.touch, (marker,))

        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, {"linear.weight": Attack()})
        with pytest.raises(InvalidAdapterError, match="can be read safely"):
            load_saved(path)
        (path / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
        with pytest.raises(InvalidAdapterError, match="can be read safely"):
            load_saved(path)
        assert not marker.exists()

    def test_tensors_that_are_none(self, tmp_path, subtests):
        for number, (state, message) in enumerate(
            (
                ([torch.ones(2)], "holds a list, not named tensors"),
                ({"linear.weight": 3}, "holds 'linear.weight', which is not a plain tensor"),
                ({3: torch.ones(2)}, "holds 3, which is not a plain tensor"),
                ({"linear.weight": torch.eye(DIM).to_sparse()}, "not a plain tensor"),
                ({"linear.weight": torch.ones(1).expand(DIM, DIM)}, "not a plain tensor"),
                ({"linear.weight": torch.ones(DIM, DIM, device="meta")}, "not a plain tensor"),
                ({"linear.weight": torch.full((DIM, DIM), torch.nan)}, "NaN or infinity"),
                ({"linear.weight": torch.ones(DIM, 2)}, "its config says"),
            )
        ):
            with subtests.test(message, number=number):
                path = write_as_llamaindex(tmp_path / str(number), self.LINEAR, state)
                with pytest.raises(InvalidAdapterError, match=message):
                    load_saved(path)

    def test_a_tensor_that_is_a_flag_on_another(self, tmp_path):
        weight = torch.complex(torch.zeros(DIM, DIM), torch.eye(DIM))
        state = {"linear.weight": weight.conj()}
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, state)
        with pytest.raises(InvalidAdapterError, match=r"'linear.weight' holds complex64; the w"):
            load_saved(path)
        negative = torch._neg_view(torch.eye(DIM))
        assert negative.is_neg()
        path = write_as_llamaindex(tmp_path / "b", self.LINEAR, {"linear.weight": negative})
        np.testing.assert_array_equal(load_saved(path).transform(queries()), -queries())

    @pytest.mark.filterwarnings("ignore:ComplexHalf support")
    def test_a_type_that_numpy_has_not(self, tmp_path):
        state = {"linear.weight": torch.eye(DIM).to(torch.complex32)}
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, state)
        with pytest.raises(InvalidAdapterError, match=r"as torch.complex32, which cannot be read"):
            load_saved(path)

    def test_a_small_file_cannot_become_a_large_one(self, tmp_path):
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, {"linear.weight": torch.zeros(9)})
        packed = io.BytesIO()
        with (
            zipfile.ZipFile(path / "pytorch_model.bin") as old,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        (path / "pytorch_model.bin").write_bytes(packed.getvalue())
        with pytest.raises(InvalidAdapterError, match="is compressed"):
            load_saved(path)

    def test_something_torch_did_not_write(self, tmp_path, subtests):
        for number, data in enumerate((b"", b"PK\x03\x04", b"\x80\x02}q\x00.")):
            with subtests.test(data=data):
                path = write_as_llamaindex(tmp_path / str(number), self.LINEAR, {})
                (path / "pytorch_model.bin").write_bytes(data)
                with pytest.raises(
                    InvalidAdapterError, match=r"pytorch_model.bin is not a file of weights"
                ):
                    load_saved(path)

    def test_a_link_out_of_the_directory(self, tmp_path):
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, LinearAdapter(DIM).state_dict())
        assert load_saved(path).kind == "linear"
        (path / "pytorch_model.bin").rename(tmp_path / "elsewhere")
        (path / "pytorch_model.bin").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InvalidAdapterError, match="link out of the directory"):
            load_saved(path)

    def test_no_weights(self, tmp_path):
        path = write_as_llamaindex(tmp_path / "a", self.LINEAR, {})
        (path / "pytorch_model.bin").unlink()
        with pytest.raises(MissingFileError, match=r"it holds config.json"):
            load_saved(path)
