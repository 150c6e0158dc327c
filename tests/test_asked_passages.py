from __future__ import annotations

import numpy as np
import pytest

from llama_index_adapters.adapters.disk.asked_section import (
    ASKED_PASSAGES,
    asked_section,
    read_asked_section,
)
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata, Section
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter
from llama_index_adapters.errors import InvalidAdapterError
from llama_index_adapters.retrieval.asked_passages import AskedPassages
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.serving.saved import load_saved

EYE = np.eye(6, dtype=np.float32)
TEXTS = {str(row): f"passage {row}" for row in range(6)}


def asking(*rows, passages=EYE):
    """One question for each list of rows of passages."""
    return VectorDataset(EYE[: len(rows)], passages, Relevance.from_rows(list(rows)))


@pytest.mark.parametrize("texts", [None, TEXTS])
def test_a_question_is_seen_when_any_of_its_passages_was_asked_about(texts):
    asked = AskedPassages.of(asking([0], [1, 2]), texts)
    later = asking([2], [3], [3, 4, 1], [5])
    assert asked.seen_by(later, texts).tolist() == [True, False, True, False]


def test_texts_are_known_by_their_text_whatever_their_vector_and_id():
    asked = AskedPassages.of(asking([0]), TEXTS)
    elsewhere = asking([3], [4], passages=EYE[::-1] * 2)
    texts = {"3": "passage 0", "4": "another"}
    assert asked.seen_by(elsewhere, texts).tolist() == [True, False]


def test_vectors_are_known_in_another_corpus_and_minus_zero_is_zero():
    asked = AskedPassages.of(asking([0], [1]))
    elsewhere = asking([0], [1], passages=np.stack([-0.0 * EYE[0] + EYE[1], EYE[4]]))
    assert asked.seen_by(elsewhere).tolist() == [True, False]
    assert AskedPassages.of(asking([0]), TEXTS).seen_by(asking([0])).tolist() == [False]


@pytest.mark.parametrize("texts", [None, TEXTS])
def test_an_equal_copy_of_a_passage_is_the_same_passage(texts):
    copies = EYE.copy()
    copies[3] = copies[0]
    # With texts that differ: a model may cut them off before they do.
    assert AskedPassages.of(asking([0], passages=copies), texts).seen_by(
        asking([3], [4], passages=copies), texts
    ).tolist() == [True, False]


def test_passages_of_two_trainings_are_joined_and_none_is_kept_twice():
    both = AskedPassages.of(asking([0], [1])) | AskedPassages.of(asking([1], [2]), TEXTS)
    assert (len(both.vectors), len(both.texts)) == (2, 2)
    assert both.seen_by(asking([0], [2], [3]), TEXTS).tolist() == [True, True, False]


def test_the_section_comes_back_from_disk_in_eight_bytes_for_each_passage(tmp_path):
    asked = AskedPassages.of(asking([0], [1, 2]), TEXTS) | AskedPassages.of(asking([4]))
    with_section = AdapterMetadata(sections=asked_section(asked))
    fingerprint = save_adapter(tmp_path / "a", IdentityAdapter(6), metadata=with_section)
    assert fingerprint == save_adapter(tmp_path / "b", IdentityAdapter(6))
    found = read_asked_section(load_saved(tmp_path / "a").metadata.sections)
    np.testing.assert_array_equal(found.texts, asked.texts)
    np.testing.assert_array_equal(found.vectors, asked.vectors)
    assert (found.texts.nbytes, found.vectors.nbytes) == (24, 8)
    assert b"passage 0" not in (tmp_path / "a" / "model.safetensors").read_bytes()
    assert read_asked_section(load_saved(tmp_path / "b").metadata.sections) is None


HASHES = {"texts": np.zeros(1, np.uint64), "vectors": np.zeros(0, np.uint64)}


@pytest.mark.parametrize(
    ("content", "arrays", "message"),
    [
        ({"hash": "md5"}, HASHES, "expected the hash 'sha256-64'"),
        ({"hash": "sha256-64"}, {"texts": HASHES["texts"]}, "texts and vectors"),
        ({"hash": "sha256-64"}, HASHES | {"texts": np.zeros(1)}, "type float64; expected"),
        ({"hash": "sha256-64"}, HASHES | {"vectors": np.zeros((1, 1), np.uint64)}, r"shape \(1, 1"),
    ],
)
def test_a_section_that_holds_something_else_is_refused(content, arrays, message):
    with pytest.raises(InvalidAdapterError, match=message):
        read_asked_section({ASKED_PASSAGES: Section(content, arrays)})
