"""Adapters without labels: what they are made of, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llama_index_adapters import AdapterEmbeddingModel, finetune_without_labels
from llama_index_adapters.engines.unlabelled import (
    PASSAGE_POWER,
    PASSAGE_POWER_WITH_LOG,
    QUERY_POWER,
)
from llama_index_adapters.errors import InvalidOptionError, InvalidVectorsError
from llama_index_adapters.training.closed_form import whitening
from tests.fakes import CountingEmbedding, WordsEmbedding

PASSAGES = [f"passage {number}" for number in range(30)]
TOPICS = ("returns", "warranty", "shipping", "billing", "accounts", "privacy")
WORDS = ("deadline", "address", "amount", "person", "form", "reason")
QUERIES = [f"query {number}" for number in range(40)]


def vectors(texts: list[str]) -> np.ndarray:
    model = CountingEmbedding()
    return np.array([model.vector(text) for text in texts], np.float32)


@pytest.fixture
def finetuned(tmp_path):
    def run(corpus=PASSAGES, model=None, **options):
        return finetune_without_labels(
            corpus,
            model or CountingEmbedding(),
            model_output_path=tmp_path / "adapter",
            store=tmp_path / "store.sqlite3",
            show_progress=False,
            **options,
        )

    return run


def applied(weight: np.ndarray, query: str) -> np.ndarray:
    """The definition: the map, at the length of the base vector."""
    base = vectors([query])[0]
    mapped = weight @ base
    return mapped / np.linalg.norm(mapped) * np.linalg.norm(base)


def test_a_corpus_is_enough(finetuned):
    weight = whitening(vectors(PASSAGES), passage_power=PASSAGE_POWER)
    served = finetuned().get_query_embedding("where is it?")
    np.testing.assert_allclose(served, applied(weight, "where is it?"), rtol=1e-5)


def test_a_log_says_how_queries_are_spread(finetuned):
    weight = whitening(
        vectors(PASSAGES),
        vectors(QUERIES),
        passage_power=PASSAGE_POWER_WITH_LOG,
        query_power=QUERY_POWER,
    )
    served = finetuned(query_log=QUERIES).get_query_embedding("where is it?")
    np.testing.assert_allclose(served, applied(weight, "where is it?"), rtol=1e-5)


def test_passages_stay_as_they_are(finetuned):
    assert finetuned().get_text_embedding("a text") == CountingEmbedding().vector("a text")


def test_vectors_of_an_index_are_not_embedded_again(finetuned):
    model = CountingEmbedding()
    finetuned(vectors(PASSAGES), model)
    assert model.texts == []


def test_it_is_an_adapter_like_any_other(finetuned, tmp_path):
    served = finetuned().get_query_embedding("where is it?")
    reopened = AdapterEmbeddingModel(CountingEmbedding(), tmp_path / "adapter")
    assert reopened.get_query_embedding("where is it?") == served
    config = json.loads((tmp_path / "adapter" / "config.json").read_text())
    assert config["training"]["adapter"] == "whitening"
    assert config["data"]["passages"] == len(PASSAGES)


def test_powers_of_zero_change_nothing(finetuned):
    model = finetuned(passage_power=0.0)
    np.testing.assert_allclose(
        model.get_query_embedding("where?"), CountingEmbedding().vector("where?"), rtol=1e-5
    )


def test_what_is_refused(finetuned, tmp_path, subtests):
    for options, error, message in (
        ({"passage_power": -1.0}, InvalidOptionError, r"passage_power is -1\.0; give a number"),
        ({"query_power": 0.5}, InvalidOptionError, r"Give query_log too"),
        ({"similarity": "manhattan"}, InvalidOptionError, r"similarity is 'manhattan'"),
        ({"corpus": "one text"}, InvalidOptionError, r"^corpus is one text"),
        ({"corpus": []}, InvalidOptionError, r"^corpus is empty"),
        (
            {"query_log": np.ones((4, 3), np.float32)},
            InvalidVectorsError,
            r"query_log has vectors of 3 dimensions, the corpus 8",
        ),
    ):
        with subtests.test(options=options, error=error, message=message):
            with pytest.raises(error, match=message):
                finetuned(**options)
            assert not (tmp_path / "adapter").exists()


class TestAnotherModel:
    """Queries of another model, on an index that stays as it is."""

    def test_a_corpus_of_texts(self, tmp_path):
        base = WordsEmbedding(dimension=32)
        other = WordsEmbedding(model_name="other", dimension=48)
        texts = [f"{topic} {word}" for topic in TOPICS for word in WORDS]
        model = finetune_without_labels(
            texts,
            base,
            query_embed_models=[other],
            model_output_path=tmp_path / "adapter",
            store=tmp_path / "store.sqlite3",
            show_progress=False,
        )
        report = model.metadata.training["alignment"]
        assert report["passages"] == len(texts)
        assert report["kept"]["mean"] > 0.5
        passages = np.array([base.get_text_embedding(text) for text in texts])
        query = model.get_query_embedding(texts[7])
        assert np.argmax(passages @ query) == 7

    def test_what_is_refused(self, finetuned, subtests):
        other = CountingEmbedding(model_name="other")
        both = [CountingEmbedding(), other]
        for options, message in (
            ({"query_embed_models": both}, "one model embeds the queries"),
            ({"query_embed_models": [other], "passage_power": 0.1}, "are of whitening"),
            ({"query_embed_models": [other], "corpus": vectors(PASSAGES)}, "holds vectors"),
            (
                {"query_embed_models": [other], "query_log": vectors(QUERIES)},
                "query_log holds vectors",
            ),
        ):
            with subtests.test(message), pytest.raises(InvalidOptionError, match=message):
                finetuned(**options)
