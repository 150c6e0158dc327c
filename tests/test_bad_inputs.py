"""The table of wrong inputs, row by row; what is unusual but right; and properties."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import llama_index_adapters
from llama_index_adapters import EmbeddingQAFinetuneDataset, Relevance
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.cli.app import app
from llama_index_adapters.errors import AdaptersError, InvalidFileError, InvalidOptionError
from llama_index_adapters.retrieval.ranking import metrics_at_k, top_k
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.bad_inputs import PARTS, BadInput, table
from tests.bad_inputs.rows import holds
from tests.fakes import CountingEmbedding

FEW = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)


TABLE = list(table())
# Public names that take nothing of a user's: an interface, and what engines return.
WITHOUT_ROWS = {"BaseEmbeddingFinetuneEngine", "Comparison", "FinetuneResult"}


def entries(prefix: str = "") -> set[str]:
    names = (row.entry for row in TABLE if row.entry.startswith(prefix))
    return {name.removeprefix(prefix).strip() for name in names}


def test_every_public_name_has_rows() -> None:
    tried = {entry.partition(".")[0].partition(":")[0] for entry in entries()}
    assert set(llama_index_adapters.__all__) >= WITHOUT_ROWS
    for name in llama_index_adapters.__all__:
        public = getattr(llama_index_adapters, name)
        # LlamaIndex's older names are the same objects.
        is_error = isinstance(public, type) and issubclass(public, AdaptersError)
        assert is_error or name in WITHOUT_ROWS or public.__name__ in tried, name


def test_every_command_has_rows() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert commands <= entries("llama-index-adapters")
    assert len(commands) == 7


def test_a_row_that_does_not_hold_is_found() -> None:
    def leaves_a_file(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise InvalidFileError("text")

    def changes_a_file(directory: Path) -> None:
        (directory / "there").write_text("x")
        raise InvalidFileError("text")

    def raises(directory: Path) -> None:
        raise InvalidFileError("text")

    for call, error, text, message in (
        (leaves_a_file, InvalidFileError, "text", "half"),
        (changes_a_file, InvalidFileError, "text", "there"),
        (raises, InvalidOptionError, "text", "InvalidFileError"),
        (raises, InvalidFileError, "other", "text"),
        (lambda directory: None, InvalidFileError, "text", "takes it"),
    ):
        row = BadInput("entry", "it", call, error, text, holds("there", "mine"))
        with pytest.raises(AssertionError, match=message):
            row.check()
    BadInput("entry", "it", raises, InvalidFileError, "text", holds("there", "mine")).check()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_a_wrong_input_has_its_error_and_leaves_nothing(
    part: Any, subtests: pytest.Subtests
) -> None:
    for row in part.table():
        with subtests.test(f"{row.entry}: {row.wrong}"):
            row.check()


def test_unusual_texts_and_numbers_are_kept(tmp_path: Path, subtests: pytest.Subtests) -> None:
    texts = ["x" * 1_000_000, "\0", "a\u202eb"]
    for convert in (np.array, np.float64, list):
        model = CountingEmbedding(answer=lambda texts, vectors, convert=convert: convert(vectors))
        path = tmp_path / f"{convert.__name__}.sqlite3"
        with subtests.test(convert.__name__), EmbeddingStore(path) as store:
            found = Embedder(model, store, show_progress=False).texts(texts, "passage").vectors
            np.testing.assert_array_equal(found, np.float32([model.vector(t) for t in texts]))


ids = st.text(min_size=1, max_size=3)
texts = st.text(min_size=1, max_size=8).filter(lambda text: bool(text.strip()))


@FEW
@hypothesis.given(st.data())
def test_a_dataset_comes_back_as_it_was(data: st.DataObject) -> None:
    corpus = data.draw(st.dictionaries(ids, texts, min_size=1, max_size=6))
    queries = data.draw(st.dictionaries(ids, texts, min_size=1, max_size=6))
    some = st.lists(st.sampled_from(sorted(corpus)), min_size=1, unique=True)
    relevant = {query: data.draw(some) for query in queries}
    written = EmbeddingQAFinetuneDataset(queries=queries, corpus=corpus, relevant_docs=relevant)
    with tempfile.TemporaryDirectory() as directory:
        written.save_json(Path(directory) / "set.json")
        assert EmbeddingQAFinetuneDataset.from_json(Path(directory) / "set.json") == written


finite = st.floats(2**-10, 2**20, width=32) | st.floats(-(2**20), -(2**-10), width=32)


@FEW
@hypothesis.given(
    st.lists(st.tuples(st.text(), npst.arrays(np.float32, 3, elements=finite)), max_size=12)
)
def test_the_store_keeps_the_first_vector_of_each_text(
    rows: list[tuple[str, np.ndarray[Any, Any]]],
) -> None:
    first: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddingStore(Path(directory) / "store.sqlite3") as store,
    ):
        for text, vector in rows:
            assert store.put("m", "passage", [text], [vector]) == (text not in first)
            first.setdefault(text, vector)
        found = store.get("m", "passage", list(first))
        assert store.count() == len(first)
        assert not store.missing("m", "passage", list(first))
    for vector, expected in zip(found.vectors, first.values(), strict=True):
        np.testing.assert_array_equal(vector, expected)


vectors = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2), elements=finite)


@FEW
@hypothesis.given(vectors, st.integers(1, 8), st.sampled_from(["cosine", "dot_product"]), st.data())
def test_ranking_is_that_of_sorting_and_metrics_stay_in_their_range(
    passages: np.ndarray[Any, Any], k: int, similarity: Any, data: st.DataObject
) -> None:
    n, dim = passages.shape
    queries = data.draw(npst.arrays(np.float32, (3, dim), elements=finite))
    k = min(k, n)
    top = top_k(queries, passages, k, similarity=similarity)
    left, right = queries.astype(np.float64), passages.astype(np.float64)
    if similarity == "cosine":
        left, right = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (left, right))
    scores = left @ right.T
    best = -np.sort(-scores, axis=1)[:, :k]
    found = np.take_along_axis(scores, top.passages, axis=1)
    np.testing.assert_allclose(found, best, rtol=1e-5, atol=1e-5 * np.abs(scores).max())
    assert all(len(set(row)) == k for row in top.passages.tolist())
    some = st.lists(st.integers(0, n - 1), min_size=1, unique=True)
    relevance = Relevance.from_rows([data.draw(some) for _ in range(3)])
    metrics = metrics_at_k(top, relevance, k)
    for values in metrics.values():
        assert ((values >= 0) & (values <= 1)).all()
    for row, ranked in enumerate(top.passages.tolist()):
        hits = [place for place, passage in enumerate(ranked, 1) if passage in relevance[row]]
        gains = sum(1 / np.log2(1 + place) for place in hits)
        best = sum(1 / np.log2(1 + place) for place in range(1, 1 + min(k, len(relevance[row]))))
        expected = {
            "hit_rate": float(bool(hits)),
            "mrr": 1 / hits[0] if hits else 0,
            "recall": len(hits) / len(relevance[row]),
            "precision": len(hits) / k,
            "ndcg": gains / best,
        }
        for name, value in expected.items():
            assert metrics[f"{name}@{k}"][row] == pytest.approx(value)


@FEW
@hypothesis.given(npst.arrays(np.float32, (3, 3), elements=finite))
def test_an_adapter_comes_back_as_it_was(weight: np.ndarray[Any, Any]) -> None:
    adapter = LinearAdapter(3)
    adapter.load_arrays({"linear.weight": weight})
    with tempfile.TemporaryDirectory() as directory:
        fingerprint = save_adapter(Path(directory) / "adapter", adapter)
        saved = load_saved(Path(directory) / "adapter")
    assert saved.fingerprint == fingerprint
    np.testing.assert_allclose(saved.transform(np.eye(3, dtype=np.float32)), weight.T, rtol=1e-6)
