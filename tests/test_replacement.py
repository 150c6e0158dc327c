"""The adapter in use against one that was trained further on what has changed."""

from __future__ import annotations

import pytest

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    EmbeddingQAFinetuneDataset,
    compare_adapters,
    evaluate,
    merge_datasets,
    sample_queries,
    split_by_query,
)
from llama_index_adapters.errors import InvalidOptionError, ModelMismatchError
from tests.fakes import CountingEmbedding, WordsEmbedding, synonym_questions

TRAIN, TEST = split_by_query(synonym_questions(10), (0.7, 0.3))
OPTIONS = {"adapter": "linear", "learning_rate": 1e-2, "show_progress": False}


def renamed(dataset, month):
    """The same passages, asked about with words that were not used before."""
    return EmbeddingQAFinetuneDataset(
        queries={f"{month} {k}": v.replace("tint", month) for k, v in dataset.queries.items()},
        corpus=dataset.corpus,
        relevant_docs={f"{month} {k}": v for k, v in dataset.relevant_docs.items()},
    )


MAY_TRAIN, MAY_TEST = renamed(TRAIN, "may"), renamed(TEST, "may")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The adapter in use, ``april``, and one trained from it on May's questions, ``may``."""
    folder = tmp_path_factory.mktemp("months")
    store = folder / "store.sqlite3"
    EmbeddingAdapterFinetuneEngine(
        TRAIN, WordsEmbedding(), model_output_path=folder / "april", store=store, **OPTIONS
    ).finetune()
    base = WordsEmbedding()
    result = EmbeddingAdapterFinetuneEngine.from_model_path(
        merge_datasets(MAY_TRAIN, sample_queries(TRAIN, 40)),
        base,
        folder / "april",
        model_output_path=folder / "may",
        store=store,
        learning_rate=1e-2,
        show_progress=False,
    ).finetune()
    # The passages are stored already; only the new questions are embedded.
    assert result.texts_embedded == len(base.texts) == len(MAY_TRAIN.queries)
    return folder


def models(folder, base=None):
    base = base or WordsEmbedding()
    return [AdapterEmbeddingModel(base, folder / month) for month in ("april", "may")]


def compared(folder, in_use, candidate, questions):
    return compare_adapters(
        in_use, candidate, questions, store=folder / "store.sqlite3", show_progress=False
    )


def test_new_questions_say_switch(folder):
    april, may = models(folder)
    found = compared(folder, april, may, MAY_TEST)
    assert found.switch
    assert found.comparison.gains["ndcg@10"].low > 0.1
    assert found.advice.startswith("Switch to the candidate: it gains +0.")
    assert str(found).endswith(found.advice)
    assert "in use" in str(found)
    assert "candidate" in str(found).splitlines()[0]


def test_old_questions_are_not_forgotten(folder):
    """May's adapter also saw a sample of the old questions."""
    april, may = models(folder)
    found = compared(folder, april, may, TEST)
    assert found.comparison.gains["ndcg@10"].mean > -0.1


def test_the_way_back_says_keep(folder):
    april, may = models(folder)
    found = compared(folder, may, april, MAY_TEST)
    assert not found.switch
    assert found.advice.startswith("Keep the adapter in use: the candidate is worse")


def test_the_same_adapter_is_no_reason_to_switch(folder):
    april, _ = models(folder)
    found = compared(folder, april, april, TEST)
    assert not found.switch
    assert "the difference is not certain (95% interval +0.0000 to +0.0000)" in found.advice


def test_figures_are_those_of_evaluating_each(folder):
    april, may = models(folder)
    found = compared(folder, april, may, TEST).comparison
    store = folder / "store.sqlite3"
    for model, figures in ((april, found.base), (may, found.adapted)):
        alone = evaluate(model, TEST, store=store, show_progress=False)
        assert alone.comparison.adapted == pytest.approx(figures)


def test_two_base_models_are_refused(folder, tmp_path):
    april, _ = models(folder)
    other = AdapterEmbeddingModel(
        CountingEmbedding(dimension=64), folder / "may", check_model_name=False
    )
    with pytest.raises(ModelMismatchError, match="serves words and the candidate counting"):
        compared(folder, april, other, TEST)


def test_a_model_without_an_adapter_is_refused(folder):
    april, _ = models(folder)
    with pytest.raises(InvalidOptionError, match="candidate is a WordsEmbedding, which has no"):
        compared(folder, april, WordsEmbedding(), TEST)
