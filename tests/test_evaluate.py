from __future__ import annotations

import numpy as np
import pytest

import llama_index_adapters
from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    compare_adapters,
    evaluate,
    finetune_without_labels,
    split_by_query,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError, ModelMismatchError
from llama_index_adapters.evaluation.comparison import compare_queries
from llama_index_adapters.evaluation.result_file import STAGES, result_record
from llama_index_adapters.vectors.embed import Embedder
from tests.fakes import CountingEmbedding, WordsEmbedding, synonym_questions

QUESTIONS = synonym_questions(5)


def adapted_model(path, base, *, seed=0):
    """A random linear map: good or bad, but not the identity."""
    import torch

    adapter = LinearAdapter(base.dimension, base.dimension, True)
    torch.manual_seed(seed)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    save_adapter(path, adapter)
    return AdapterEmbeddingModel(base, path)


def test_base_and_adapted_are_those_of_the_same_vectors(tmp_path):
    base = WordsEmbedding()
    model = adapted_model(tmp_path / "adapter", base)
    store = tmp_path / "store.sqlite3"

    result = evaluate(model, QUESTIONS, store=store, similarity="dot_product", show_progress=False)

    data = Embedder(WordsEmbedding(), store).dataset(QUESTIONS, similarity="dot_product").data
    one_by_one = np.array([model.get_query_embedding(q) for q in QUESTIONS.queries.values()])
    expected = compare_queries(data, one_by_one)
    assert result.comparison.base == expected.base
    assert result.comparison.adapted == pytest.approx(expected.adapted)
    assert result.comparison.adapted != result.comparison.base
    assert str(result) == str(result.comparison)


def test_every_text_is_embedded_once_and_never_again(tmp_path):
    base = CountingEmbedding()
    model = adapted_model(tmp_path / "adapter", base)
    store = tmp_path / "store.sqlite3"

    first = evaluate(model, QUESTIONS, store=store, show_progress=False)
    asked = len(base.texts)
    second = evaluate(model, QUESTIONS, store=store, show_progress=False)

    assert first.texts_embedded == asked >= 50
    assert (second.texts_embedded, len(base.texts)) == (0, asked)
    assert second.comparison.to_dict() == first.comparison.to_dict()
    assert set(first.seconds) == {"embed", "evaluate"}


def test_questions_about_passages_that_training_asked_about_are_told_from_others(tmp_path):
    base, store = WordsEmbedding(), tmp_path / "store.sqlite3"
    train, test = split_by_query(QUESTIONS, (0.5, 0.5), seed=0)
    engine = EmbeddingAdapterFinetuneEngine(
        train, base, model_output_path=tmp_path / "a", store=store, show_progress=False
    )
    finetuned = engine.finetune()
    again = EmbeddingQAFinetuneDataset(
        queries=test.queries | {"again": "other words"},
        corpus=QUESTIONS.corpus,
        relevant_docs=test.relevant_docs | {"again": next(iter(train.relevant_docs.values()))},
    )

    model = AdapterEmbeddingModel(base, tmp_path / "a")
    comparison = evaluate(model, again, store=store, show_progress=False).comparison

    assert comparison.seen.queries == 1
    assert comparison.unseen.queries == len(test.queries)
    gain = comparison.unseen.gains["ndcg@10"]
    assert f"{gain.mean:+.4f}" in str(comparison)
    card = (tmp_path / "a" / "README.md").read_text()
    held_out = finetuned.comparison
    assert f"| passages that training asked about | {held_out.seen.queries} |" in card
    assert f"{held_out.unseen.gains['ndcg@10'].mean:+.4f}" in card

    # Continued: what the first training asked about is still known.
    EmbeddingAdapterFinetuneEngine.from_model_path(
        test,
        base,
        tmp_path / "a",
        model_output_path=tmp_path / "b",
        store=store,
        epochs=1,
        show_progress=False,
    ).finetune()
    continued = AdapterEmbeddingModel(base, tmp_path / "b")
    comparison = evaluate(continued, QUESTIONS, store=store, show_progress=False).comparison
    assert (comparison.seen.queries, comparison.unseen.queries) == (len(QUESTIONS.queries), 0)
    both = compare_adapters(model, continued, test, store=store, show_progress=False).comparison
    assert (both.seen.queries, both.unseen.queries) == (len(test.queries), 0)


def test_an_adapter_that_does_not_say_what_was_asked_about_leaves_it_unknown(tmp_path):
    base, store = WordsEmbedding(), tmp_path / "store.sqlite3"
    unknown = adapted_model(tmp_path / "adapter", base)
    asked_about_none = finetune_without_labels(
        list(QUESTIONS.corpus.values()),
        base,
        model_output_path=tmp_path / "b",
        store=store,
        show_progress=False,
    )
    known = evaluate(asked_about_none, QUESTIONS, store=store, show_progress=False).comparison
    assert (known.seen.queries, known.unseen.queries) == (0, len(QUESTIONS.queries))
    for comparison in (
        evaluate(unknown, QUESTIONS, store=store, show_progress=False).comparison,
        compare_adapters(
            unknown, asked_about_none, QUESTIONS, store=store, show_progress=False
        ).comparison,
    ):
        assert comparison.seen is comparison.unseen is None


def test_a_question_that_occurs_twice_counts_twice(tmp_path):
    repeated = EmbeddingQAFinetuneDataset(
        queries={"a": "tint0 beast0", "b": "tint0 beast0", "c": "colour1 animal1"},
        corpus=QUESTIONS.corpus,
        relevant_docs={"a": ["p0.0"], "b": ["p4.4"], "c": ["p1.1"]},
    )
    model = adapted_model(tmp_path / "adapter", WordsEmbedding())
    result = evaluate(model, repeated, store=tmp_path / "store.sqlite3", show_progress=False)
    comparison = result.comparison
    assert comparison.wins + comparison.losses + comparison.ties == 3


def test_equal_texts_are_copies_and_may_be_merged(tmp_path):
    corpus = QUESTIONS.corpus
    twice = {
        "queries": {query: corpus[f"p{query[1:]}"] for query in QUESTIONS.queries},
        "corpus": corpus | {f"again {name}": text for name, text in corpus.items()},
        "relevant_docs": {query: [f"again p{query[1:]}"] for query in QUESTIONS.queries},
    }
    save_adapter(tmp_path / "adapter", IdentityAdapter(64))
    model = AdapterEmbeddingModel(WordsEmbedding(), tmp_path / "adapter")
    apart, merged = (
        evaluate(
            model,
            twice,
            store=tmp_path / "store.sqlite3",
            merge_copies=merge,
            show_progress=False,
        ).comparison
        for merge in (False, True)
    )
    assert apart.copies.passages == merged.copies.passages == 25
    assert apart.base["mrr@10"] == 0.5
    assert merged.base["mrr@10"] == 1
    assert apart.copies.base_cost["mrr@10"] == merged.copies.base_cost["mrr@10"] == 0.5


def test_an_identity_changes_nothing(tmp_path):
    save_adapter(tmp_path / "adapter", IdentityAdapter(64))
    model = AdapterEmbeddingModel(WordsEmbedding(), tmp_path / "adapter")
    result = evaluate(model, QUESTIONS, store=tmp_path / "store.sqlite3", show_progress=False)
    assert result.comparison.adapted == result.comparison.base
    assert result.comparison.ties == len(QUESTIONS.queries)


def test_the_seed_draws_the_intervals(tmp_path):
    model = adapted_model(tmp_path / "adapter", WordsEmbedding())
    words_of_passages = {
        "queries": {query: f"{text} colour{query[1]}" for query, text in QUESTIONS.queries.items()},
        "corpus": QUESTIONS.corpus,
        "relevant_docs": QUESTIONS.relevant_docs,
    }

    def gains(seed):
        result = evaluate(
            model,
            words_of_passages,
            store=tmp_path / "store.sqlite3",
            seed=seed,
            show_progress=False,
        )
        return result.comparison.gains

    assert gains(1) == gains(1)
    assert gains(1) != gains(2)


def test_a_model_without_an_adapter_is_refused():
    with pytest.raises(InvalidOptionError, match="WordsEmbedding, which has no adapter"):
        evaluate(WordsEmbedding(), QUESTIONS)


def test_an_adapter_for_other_dimensions_is_refused(tmp_path):
    save_adapter(tmp_path / "adapter", LinearAdapter(32, 32))
    model = AdapterEmbeddingModel(WordsEmbedding(), tmp_path / "adapter")
    with pytest.raises(ModelMismatchError, match="takes query vectors of 32 dimensions"):
        evaluate(model, QUESTIONS, store=tmp_path / "store.sqlite3", show_progress=False)


def test_what_is_no_question_set_is_refused(tmp_path):
    model = adapted_model(tmp_path / "adapter", WordsEmbedding())
    with pytest.raises(InvalidDatasetError, match="without queries, corpus, relevant_docs"):
        evaluate(model, object(), store=tmp_path / "store.sqlite3")


def test_the_record_has_every_stage_and_the_means(tmp_path):
    model = adapted_model(tmp_path / "adapter", WordsEmbedding())
    result = evaluate(model, QUESTIONS, store=tmp_path / "store.sqlite3", show_progress=False)
    record = result_record(
        result.comparison,
        measured_on="test",
        adapter="linear",
        path=tmp_path / "adapter",
        embed_model="words",
        seconds=result.seconds,
        texts_embedded=result.texts_embedded,
    )
    assert record["base"] == result.comparison.base
    assert record["adapted"] == result.comparison.adapted
    assert tuple(record["seconds"]) == STAGES == ("embed", "train", "evaluate")
    assert record["seconds"]["train"] == 0
    assert record["gains"]["ndcg@10"]["low"] <= record["gains"]["ndcg@10"]["high"]
    assert record["copies"]["passages"] == 0
    assert (record["measured_on"], record["path"]) == ("test", str(tmp_path / "adapter"))


def test_it_is_a_name_of_the_package():
    assert llama_index_adapters.evaluate is evaluate
    assert "evaluate" in llama_index_adapters.__all__
