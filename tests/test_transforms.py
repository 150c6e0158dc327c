"""Every registered adapter kind: the torch half and the numpy half do the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.families import KINDS, kind_of
from llama_index_adapters.adapters.learned.base import BaseAdapter, load_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.adapters.learned.memory import MemoryAdapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.adapters.served.base import adapt, adapt_vector
from llama_index_adapters.adapters.served.linear import IdentityTransform, LinearTransform
from llama_index_adapters.adapters.served.two_layer import ACTIVATIONS, Activation
from llama_index_adapters.errors import InvalidAdapterError, InvalidOptionError
from llama_index_adapters.serving.saved import load_saved

DIM = 12


def filled_memory(passage_dim: int) -> MemoryAdapter:
    generator = np.random.default_rng(3)
    adapter = MemoryAdapter(DIM, passage_dim, entries=40, neighbours=6)
    adapter.remember(
        generator.normal(size=(40, DIM)).astype(np.float32),
        generator.normal(size=(40, passage_dim)).astype(np.float32),
        np.arange(40),
    )
    return adapter


# name -> (builds the adapter, whether it starts as the identity)
ADAPTERS: dict[str, tuple[Callable[[], BaseAdapter], bool]] = {
    "identity": (lambda: IdentityAdapter(DIM), True),
    "linear": (lambda: LinearAdapter(DIM), True),
    "linear bias": (lambda: LinearAdapter(DIM, bias=True), True),
    "linear wide": (lambda: LinearAdapter(DIM, 20, bias=True), False),
    "linear narrow": (lambda: LinearAdapter(DIM, 5), False),
    "low-rank": (lambda: LinearAdapter(DIM, rank=3), True),
    "low-rank bias": (lambda: LinearAdapter(DIM, bias=True, rank=3), True),
    "two-layer no bias": (lambda: TwoLayerAdapter(DIM, 7, bias=False), True),
    "two-layer wide": (lambda: TwoLayerAdapter(DIM, 7, 20), False),
    "two-layer narrow": (lambda: TwoLayerAdapter(DIM, out_features=5), False),
    "memory": (lambda: filled_memory(DIM), False),
    "memory wide": (lambda: filled_memory(20), False),
    **{
        f"two-layer {name}": (lambda name=name: TwoLayerAdapter(DIM, 7, activation=name), True)
        for name in ACTIVATIONS
    },
    **{
        f"two-layer-nn {name}": (
            lambda name=name: TwoLayerNN(DIM, 7, DIM, activation_fn_str=name, add_residual=True),
            True,
        )
        for name in ACTIVATIONS
    },
    "two-layer-nn plain": (lambda: TwoLayerNN(DIM, 7, 20), False),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> BaseAdapter:
    return ADAPTERS[request.param][0]()


@pytest.fixture
def trained(adapter: BaseAdapter) -> BaseAdapter:
    """The adapter with random parameters, each of them shown to differ from its start."""
    start = adapter.arrays()
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    arrays = adapter.arrays()
    for name, _ in adapter.named_parameters():
        assert not np.allclose(arrays[name], start[name]), name
    return adapter


@pytest.fixture
def queries() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def forward(adapter: BaseAdapter, queries: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return adapter(torch.from_numpy(queries)).numpy()


def test_every_registered_kind_is_tried_here():
    assert {kind_of(type(build())) for build, _ in ADAPTERS.values()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_names_the_class_that_names_it(kind):
    assert kind_of(KINDS[kind].adapter_class()) == kind


@pytest.mark.parametrize("scale", [None, 1.0, 7.0])
def test_numpy_and_torch_agree(trained, queries, scale):
    queries = unit(queries) if scale is None else queries * np.float32(scale)
    expected = forward(trained, queries)
    transform = transform_of(trained)
    found = transform(queries)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(scale or 1, 1))
    assert (transform.query_dim, transform.passage_dim) == (DIM, expected.shape[1])
    if not isinstance(trained, IdentityAdapter) and expected.shape[1] == DIM:
        assert not np.allclose(found, queries, atol=1e-2)


@pytest.mark.parametrize("name", ADAPTERS)
def test_start(name, queries):
    build, starts_as_identity = ADAPTERS[name]
    adapter = build()
    assert starts_as_identity == (
        transform_of(adapter)(queries).shape == queries.shape
        and np.allclose(transform_of(adapter)(queries), queries, atol=1e-6)
    )


def test_rectangular_starts_keep_the_leading_dimensions(queries):
    for adapter in (LinearAdapter(DIM, 5), TwoLayerAdapter(DIM, out_features=5)):
        np.testing.assert_allclose(transform_of(adapter)(queries), queries[:, :5], atol=1e-6)


def test_saved_and_loaded_it_has_the_same_bytes(trained, queries, tmp_path):
    save_adapter(tmp_path / "one", trained)
    loaded = load_adapter(tmp_path / "one")
    assert type(loaded) is type(trained)
    assert loaded.get_config_dict() == trained.get_config_dict()
    save_adapter(tmp_path / "two", loaded)
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    np.testing.assert_array_equal(
        load_saved(tmp_path / "one").transform(queries), transform_of(trained)(queries)
    )


def test_a_transform_survives_pickle(trained, queries):
    transform = transform_of(trained)
    copied = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(copied(queries), transform(queries))


def test_arrays_of_another_shape_or_name_are_refused(trained):
    kind, arguments, arrays = kind_of(type(trained)), trained.get_config_dict(), trained.arrays()
    for name in arrays:
        wrong = {**arrays, name: np.zeros((*arrays[name].shape, 2), np.float32)}
        with pytest.raises(InvalidAdapterError, match=f"'{name}' has shape .*its config says"):
            KINDS[kind].transform(arguments, wrong)
        without = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(InvalidAdapterError, match=f"has no array '{name}'"):
            KINDS[kind].transform(arguments, without)
        with pytest.raises(InvalidAdapterError, match="do not fit"):
            trained.load_arrays(without)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "12", None, 10**9])
def test_dimensions_that_are_none_are_refused(trained, value):
    arguments = {**trained.get_config_dict(), "in_features": value}
    with pytest.raises(InvalidAdapterError, match=r"in_features=.*expected a whole number from 1"):
        KINDS[kind_of(type(trained))].transform(arguments, trained.arrays())


def test_flags_that_are_none_are_refused():
    adapter = LinearAdapter(DIM)
    arguments = {**adapter.get_config_dict(), "bias": "no"}
    with pytest.raises(InvalidAdapterError, match="bias='no'; expected true or false"):
        KINDS["linear"].transform(arguments, adapter.arrays())


def test_an_unknown_activation_names_the_closest():
    with pytest.raises(InvalidAdapterError, match=r"'rellu'.*Did you mean 'relu'"):
        TwoLayerAdapter(DIM, activation="rellu")
    adapter = TwoLayerAdapter(DIM)
    for name, message in (("rellu", "Did you mean"), (3, "expected its name")):
        arguments = {**adapter.get_config_dict(), "activation": name}
        with pytest.raises(InvalidAdapterError, match=message):
            KINDS["two-layer"].transform(arguments, adapter.arrays())


@pytest.mark.parametrize(("out", "rank"), [(DIM, 0), (DIM, DIM + 1), (5, 2)])
def test_a_rank_that_cannot_be(out, rank):
    with pytest.raises(InvalidOptionError, match="a low-rank adapter is square"):
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


class TestAdapt:
    def test_keeps_the_length_of_each_query(self, trained, queries):
        lengths = np.linalg.norm(adapt(transform_of(trained), queries), axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(queries, axis=1), rtol=1e-5)

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

    @pytest.mark.parametrize("unit_input", [True, False])
    def test_one_vector_as_many(self, trained, queries, unit_input):
        transform = transform_of(trained)
        many = adapt(transform, queries, unit_input=unit_input)
        for query, expected in zip(queries, many, strict=True):
            length = float(np.linalg.norm(query))
            found = adapt_vector(transform, query, length, unit_input=unit_input)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_zero_stays_zero(self):
        transform = LinearTransform(np.eye(3, dtype=np.float32), np.ones(3, np.float32))
        zeros = np.zeros((2, 3), np.float32)
        np.testing.assert_array_equal(adapt(transform, zeros), zeros)
        np.testing.assert_array_equal(adapt_vector(transform, zeros[0], 0.0), zeros[0])

    def test_a_query_mapped_to_zero_gives_zero(self):
        transform = LinearTransform(np.zeros((3, 3), np.float32))
        queries = np.full((1, 3), 1e6, np.float32)
        np.testing.assert_array_equal(adapt(transform, queries), 0 * queries)
        adapted = adapt_vector(transform, queries[0], 1e6 * 3**0.5)
        np.testing.assert_array_equal(adapted, np.zeros(3))


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
