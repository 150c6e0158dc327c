"""Every built-in family: the torch half and the numpy half do the same."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from llama_index_adapters import EmbeddingAdapterFinetuneEngine, Relevance, VectorDataset
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.families import (
    ADAPTERS,
    DEFAULT_ADAPTER,
    FAMILIES,
    AdapterName,
    Family,
    Form,
    forms,
    kind_of,
)
from llama_index_adapters.adapters.learned.base import BaseAdapter, load_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.new import new_adapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.adapters.served.arrays import dimension, flag, norm, take
from llama_index_adapters.adapters.served.base import adapt, adapt_vector
from llama_index_adapters.adapters.served.linear import IdentityTransform, LinearTransform
from llama_index_adapters.adapters.served.two_layer import ACTIVATIONS, Activation
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.search.candidates import small_families

DIM = 12


def examples(kind: str) -> list[BaseAdapter]:
    family = FAMILIES[kind].learned_class()
    return [family(**arguments) for arguments in family.example_arguments(DIM)]


def randomised(adapter: BaseAdapter) -> BaseAdapter:
    """Give an adapter random parameters and buffers, and show that each of them has changed."""
    start = adapter.arrays()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in adapter.state_dict().values():
            value.normal_(std=0.5, generator=generator)
    for name, array in adapter.arrays().items():
        assert not np.allclose(array, start[name]), name
    return adapter


@pytest.fixture
def queries() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def forward(adapter: BaseAdapter, queries: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return adapter(torch.from_numpy(queries)).numpy()


# What holds for every adapter of every family.


def numpy_and_torch_agree(adapter: BaseAdapter, queries: np.ndarray, folder: Path) -> None:
    transform = transform_of(adapter)
    for scale, given in ((1, unit(queries)), (1, queries), (7, 7 * queries)):
        expected = forward(adapter, given)
        found = transform(given)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)
        assert (transform.query_dim, transform.passage_dim) == (DIM, expected.shape[1])
        if not isinstance(adapter, IdentityAdapter) and expected.shape[1] == DIM:
            assert not np.allclose(found, given, atol=1e-2)


def one_vector_is_adapted_as_many(adapter: BaseAdapter, queries: np.ndarray, folder: Path) -> None:
    transform = transform_of(adapter)
    for unit_input in (True, False):
        many = adapt(transform, queries, unit_input=unit_input)
        for query, expected in zip(queries, many, strict=True):
            length = float(np.linalg.norm(query))
            found = adapt_vector(transform, query, length, unit_input=unit_input)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def the_length_of_each_query_is_kept(
    adapter: BaseAdapter, queries: np.ndarray, folder: Path
) -> None:
    lengths = np.linalg.norm(adapt(transform_of(adapter), queries), axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(queries, axis=1), rtol=1e-5)


def saved_and_loaded_it_has_the_same_bytes(
    adapter: BaseAdapter, queries: np.ndarray, folder: Path
) -> None:
    save_adapter(folder / "one", adapter)
    loaded = load_adapter(folder / "one")
    assert type(loaded) is type(adapter)
    assert loaded.get_config_dict() == adapter.get_config_dict()
    save_adapter(folder / "two", loaded)
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    np.testing.assert_array_equal(
        load_saved(folder / "one").transform(queries), transform_of(adapter)(queries)
    )


def its_transform_survives_pickle(adapter: BaseAdapter, queries: np.ndarray, folder: Path) -> None:
    transform = transform_of(adapter)
    copied = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(copied(queries), transform(queries))


def arrays_of_another_shape_or_name_are_refused(
    adapter: BaseAdapter, queries: np.ndarray, folder: Path
) -> None:
    kind, arguments, arrays = kind_of(type(adapter)), adapter.get_config_dict(), adapter.arrays()
    for name in arrays:
        wrong = {**arrays, name: np.zeros((*arrays[name].shape, 2), np.float32)}
        with pytest.raises(InvalidAdapterError, match=f"'{name}' has shape .*its config says"):
            FAMILIES[kind].served(arguments, wrong)
        without = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(InvalidAdapterError, match=f"has no array '{name}'"):
            FAMILIES[kind].served(arguments, without)
        with pytest.raises(InvalidAdapterError, match="do not fit"):
            adapter.load_arrays(without)


def arguments_of_another_type_are_refused(
    adapter: BaseAdapter, queries: np.ndarray, folder: Path
) -> None:
    kind, arguments = kind_of(type(adapter)), adapter.get_config_dict()
    tried = 0
    for name, good in arguments.items():
        hostile = {bool: ("no", 1, None), int: (0, -1, 1.5, True, "12", 10**9)}.get(type(good), ())
        for value in hostile:
            with pytest.raises(InvalidAdapterError, match=f"{name}={value!r}; expected"):
                FAMILIES[kind].served({**arguments, name: value}, adapter.arrays())
            tried += 1
        if name.endswith("_features"):
            with pytest.raises(InvalidAdapterError, match=f"{name}=None; expected"):
                FAMILIES[kind].served({**arguments, name: None}, adapter.arrays())
    assert tried


CHECKS = (
    numpy_and_torch_agree,
    one_vector_is_adapted_as_many,
    the_length_of_each_query_is_kept,
    saved_and_loaded_it_has_the_same_bytes,
    its_transform_survives_pickle,
    arrays_of_another_shape_or_name_are_refused,
    arguments_of_another_type_are_refused,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family(kind, check, queries, tmp_path, subtests):
    adapters = examples(kind)
    assert adapters
    for number, adapter in enumerate(adapters):
        with subtests.test(number=number):
            check(randomised(adapter), queries, tmp_path / str(number))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_names_the_class_that_names_it(kind):
    assert FAMILIES[kind].kind == kind
    assert kind_of(FAMILIES[kind].learned_class()) == kind


def test_users_can_ask_for_every_form_by_name():
    assert set(get_args(AdapterName)) == {DEFAULT_ADAPTER, *forms()}
    assert sum(len(family.forms) for family in FAMILIES.values()) == len(forms())


@pytest.mark.parametrize("name", forms())
@pytest.mark.parametrize("bias", [None, False, True])
def test_what_is_asked_for_by_name_starts_as_the_identity(queries, name, bias):
    family, form = forms()[name]
    adapter = new_adapter(name, DIM, DIM, bias=bias)
    assert kind_of(type(adapter)) == family.kind
    np.testing.assert_allclose(transform_of(adapter)(queries), queries, atol=1e-6)
    assert bias in (None, adapter.get_config_dict()["bias"])
    if form.rank is None:
        narrow = transform_of(new_adapter(name, DIM, 5, bias=bias))
        np.testing.assert_allclose(narrow(queries), queries[:, :5], atol=1e-6)


def test_a_rank_is_that_of_the_form_or_the_one_asked_for():
    for dim, asked, expected in ((100, None, 64), (DIM, None, DIM), (DIM, 3, 3)):
        adapter = new_adapter("low-rank", dim, dim, rank=asked)
        assert adapter.get_config_dict()["rank"] == expected


def test_a_residual_network_starts_as_the_identity(queries):
    adapter = TwoLayerNN(DIM, 7, DIM, add_residual=True)
    np.testing.assert_array_equal(transform_of(adapter)(queries), queries)


def test_an_unknown_activation_names_the_closest():
    with pytest.raises(InvalidAdapterError, match=r"'rellu'.*Did you mean 'relu'"):
        TwoLayerAdapter(DIM, activation="rellu")
    adapter = TwoLayerAdapter(DIM)
    for name, message in (("rellu", "Did you mean"), (3, "expected its name")):
        arguments = {**adapter.get_config_dict(), "activation": name}
        with pytest.raises(InvalidAdapterError, match=message):
            FAMILIES["two-layer"].served(arguments, adapter.arrays())


def test_a_rank_that_cannot_be(subtests):
    for out, rank in ((DIM, 0), (DIM, DIM + 1), (5, 2)):
        with (
            subtests.test(out=out, rank=rank),
            pytest.raises(InvalidOptionError, match="a low-rank adapter is square"),
        ):
            LinearAdapter(DIM, out, rank=rank)


def test_seeds_decide_the_start():
    for build in (
        lambda seed: LinearAdapter(DIM, rank=3, seed=seed),
        lambda seed: TwoLayerAdapter(DIM, 7, seed=seed),
        lambda seed: TwoLayerNN(DIM, 7, DIM, seed=seed),
    ):
        one, same, other = (build(seed).arrays() for seed in (1, 1, 2))
        assert all(np.array_equal(one[name], same[name]) for name in one)
        assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_low_rank_equals_its_full_matrix(queries):
    generator = np.random.default_rng(2)
    adapter = LinearAdapter(DIM, rank=3)
    down, up = generator.normal(size=(3, DIM)), generator.normal(size=(DIM, 3))
    adapter.load_arrays(
        {"down.weight": down.astype(np.float32), "up.weight": up.astype(np.float32)}
    )
    np.testing.assert_allclose(
        transform_of(adapter)(queries), queries @ (np.eye(DIM) + up @ down).T, atol=1e-4
    )


class ToyTransform:
    """The numpy half of a family that is added: ``q' = s · q``, number by number."""

    def __init__(self, scale: np.ndarray) -> None:
        self.scale = scale
        self.query_dim = self.passage_dim = len(scale)

    @staticmethod
    def shapes(arguments):
        return {"scale": (dimension(arguments, "in_features"),)}

    @classmethod
    def from_arrays(cls, arguments, arrays):
        flag(arguments, "bias")
        return cls(take(arrays, "scale", cls.shapes(arguments)))

    def bound(self):
        return norm(self.scale)

    def __call__(self, queries):
        return queries * self.scale


class ToyAdapter(BaseAdapter):
    """Its torch half."""

    def __init__(self, in_features, out_features=None, bias=False, *, seed=0):
        super().__init__()
        self.bias = bias
        self.scale = torch.nn.Parameter(torch.ones(in_features))

    def forward(self, embed):
        return embed * self.scale

    def get_config_dict(self):
        return {"in_features": len(self.scale), "bias": self.bias}

    @classmethod
    def example_arguments(cls, dim):
        return [{"in_features": dim}]


class TestAFamilyThatIsAdded:
    """What CONTRIBUTING promises: a record and its two halves, and nothing else."""

    @pytest.fixture(autouse=True)
    def toy(self, monkeypatch):
        form = Form("toy", searched_on_small_sets=True)
        family = Family(
            "toy",
            ToyTransform.shapes,
            ToyTransform.from_arrays,
            f"{__name__}:ToyAdapter",
            (form,),
        )
        monkeypatch.setitem(FAMILIES, "toy", family)
        # The names stand in the module of the records; whoever checks one has imported them.
        for name, module in list(sys.modules.items()):
            if name.startswith("llama_index_adapters.") and hasattr(module, "ADAPTERS"):
                monkeypatch.setattr(module, "ADAPTERS", (*ADAPTERS, "toy"))

    def test_the_tests_above_hold_for_it(self, queries, tmp_path, subtests):
        test_a_family_names_the_class_that_names_it("toy")
        for check in CHECKS:
            test_every_family("toy", check, queries, tmp_path / check.__name__, subtests)
        saved = tmp_path / saved_and_loaded_it_has_the_same_bytes.__name__ / "0" / "one"
        assert '"kind": "toy"' in (saved / "config.json").read_text()

    def test_a_search_on_a_small_set_tries_it(self):
        candidates = {one.name: one for one in small_families(TrainingOptions(), DIM, DIM)}
        assert list(candidates) == ["low-rank, rank 12", "two-layer", "toy"]
        assert type(candidates["toy"].build(None, None, 0)) is ToyAdapter

    def test_an_engine_trains_it_by_its_name(self, tmp_path):
        generator = np.random.default_rng(5)
        passages = generator.normal(size=(60, DIM))
        noise = generator.normal(size=(60, DIM)) * np.repeat([2, 0], DIM // 2)
        data = VectorDataset(
            passages + noise, passages, Relevance.from_rows([[row] for row in range(60)])
        )
        engine = EmbeddingAdapterFinetuneEngine(
            data,
            None,
            adapter="toy",
            val_dataset=data,
            epochs=10,
            learning_rate=0.1,
            model_output_path=tmp_path / "toy",
            show_progress=False,
        )
        assert engine.finetune().adapter == "toy"
        saved = load_saved(tmp_path / "toy")
        assert isinstance(saved.transform, ToyTransform)
        noisy, clean = np.abs(saved.transform.scale).reshape(2, -1)
        assert noisy.max() < clean.min()


class TestAdapt:
    def test_hands_the_transform_unit_length_or_what_came(self, queries):
        seen = []

        class Spy(IdentityTransform):
            def __call__(self, queries):
                seen.append(np.linalg.norm(queries, axis=1))
                return queries

        adapt(Spy(DIM), queries)
        adapt(Spy(DIM), queries, unit_input=False)
        np.testing.assert_allclose(seen[0], 1, rtol=1e-5)
        np.testing.assert_allclose(seen[1], np.linalg.norm(queries, axis=1), rtol=1e-5)

    def test_zero_stays_zero(self):
        transform = LinearTransform(np.eye(3, dtype=np.float32), np.ones(3, np.float32))
        zeros = np.zeros((2, 3), np.float32)
        np.testing.assert_array_equal(adapt(transform, zeros), zeros)

    def test_a_query_mapped_to_zero_is_zero_to_training(self):
        transform = LinearTransform(np.zeros((3, 3), np.float32))
        queries = np.full((1, 3), 1e6, np.float32)
        np.testing.assert_array_equal(adapt(transform, queries), 0 * queries)

    def test_a_query_without_direction_is_not_served(self, subtests):
        query = np.full(3, 1e6, np.float32)
        for value in (0, 1e-25, np.nan, np.inf, 3e38):
            transform = LinearTransform(np.full((3, 3), value, np.float32))
            with (
                subtests.test(value=value),
                np.errstate(all="ignore"),
                pytest.raises(InvalidAdapterError, match="one that is zero or not finite"),
            ):
                adapt_vector(transform, query, 1e6 * 3**0.5)


class TestArrays:
    def test_are_a_copy(self):
        adapter = LinearAdapter(3)
        arrays = adapter.arrays()
        with torch.no_grad():
            adapter.linear.weight.zero_()
        np.testing.assert_array_equal(arrays["linear.weight"], np.eye(3))

    def test_hold_scalars_and_integers(self):
        class Counted(BaseAdapter):
            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
                self.register_buffer("steps", torch.tensor([3]))

            def forward(self, embed):
                return embed * self.scale

            def get_config_dict(self):
                return {}

        arrays = Counted().arrays()
        assert arrays["scale"].shape == ()
        assert (arrays["scale"].dtype, arrays["steps"].dtype) == (np.float32, np.int64)
        again = Counted()
        again.load_arrays({**arrays, "scale": np.float32(5)})
        assert (again.scale.item(), again.scale.dtype) == (5, torch.float64)


def test_type_checkers_know_every_activation():
    assert get_args(Activation) == tuple(ACTIVATIONS)
