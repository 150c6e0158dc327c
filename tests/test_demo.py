from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from llama_index_adapters.cli import main, models
from llama_index_adapters.demo import run as demo
from llama_index_adapters.evaluation.comparison import compare
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.retrieval.ranking import top_k
from llama_index_adapters.serving.model import AdapterEmbeddingModel
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.local import local_embedding
from tests.fakes import WordsEmbedding, synonym_questions

METRICS = {"hit_rate@10", "mrr@10", "ndcg@10", "recall@10"}


@pytest.fixture
def synonyms(monkeypatch):
    """Questions of which an adapter is known to learn something."""
    monkeypatch.setattr(demo, "documentation_dataset", lambda **_: synonym_questions())


def run(folder, base=None, **options):
    return demo.run_demo(
        folder / "out",
        base or WordsEmbedding(),
        store=folder / "store.sqlite3",
        show_progress=False,
        adapter="linear",
        **{"n_pairs": 120, **options},
    )


def parts_in(folder):
    return {
        name: EmbeddingQAFinetuneDataset.from_json(folder / "out" / "data" / f"{name}.json")
        for name in ("train", "val", "test")
    }


def test_parts_share_no_answers_and_training_sees_its_own_passages_only(synonyms, tmp_path):
    run(tmp_path)
    parts = parts_in(tmp_path)
    answers = {
        name: {doc for docs in part.relevant_docs.values() for doc in docs}
        for name, part in parts.items()
    }
    assert {name: len(part.queries) for name, part in parts.items()} == {
        "train": 86,
        "val": 29,
        "test": 29,
    }
    assert not answers["train"] & answers["val"]
    assert not answers["train"] & answers["test"]
    assert not answers["val"] & answers["test"]
    assert set(parts["train"].corpus) == answers["train"]
    assert parts["val"].corpus == parts["test"].corpus == synonym_questions().corpus


def test_the_result_is_measured_on_the_test_questions(synonyms, tmp_path):
    base = WordsEmbedding()
    result = run(tmp_path, base)

    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record == result.record
    assert set(record["base"]) & set(record["adapted"]) >= METRICS
    assert set(record["seconds"]) == {"embed", "train", "evaluate"}
    assert record["measured_on"] == "test"
    assert record["texts_embedded"] == 288 + 3  # the probe embeds three twice
    assert record["adapter"] == "linear"
    assert record["adapted"]["ndcg@10"] > record["base"]["ndcg@10"] + 0.1

    data = Embedder(base, tmp_path / "store.sqlite3").dataset(parts_in(tmp_path)["test"]).data
    saved = AdapterEmbeddingModel(base, tmp_path / "out" / "adapter")
    ranked = top_k(saved.transform_queries(data.queries), data.passages, 10).passages
    hits = [
        bool(set(row) & set(wanted)) for row, wanted in zip(ranked, data.relevance, strict=True)
    ]
    assert record["adapted"]["hit_rate@10"] == pytest.approx(np.mean(hits))


def searched(result):
    return [search.question for search in result.searches]


def test_a_second_run_embeds_nothing_but_the_live_searches(synonyms, tmp_path):
    run(tmp_path)
    again = WordsEmbedding()
    result = run(tmp_path, again)
    assert result.record["texts_embedded"] == 0
    assert {kind for kind, _ in again.calls} == {"query"}
    assert sorted(again.texts) == sorted(2 * searched(result))


def test_an_index_of_stored_vectors_embeds_nothing(tmp_path):
    questions, base = synonym_questions(4), WordsEmbedding()
    data = Embedder(base, tmp_path / "store.sqlite3", show_progress=False).dataset(questions).data
    before = len(base.calls)
    index = demo.index_of(questions, data, base)
    assert len(base.calls) == before
    found = index.as_retriever(similarity_top_k=1).retrieve("colour2 animal3")
    assert (found[0].node.node_id, found[0].node.text) == ("p2.3", "colour2 animal3")


def test_searches_go_through_the_index_and_agree_with_the_arrays(synonyms, tmp_path):
    result = run(tmp_path)
    test = parts_in(tmp_path)["test"]
    base = WordsEmbedding()
    data = Embedder(base, tmp_path / "store.sqlite3").dataset(test).data
    adapted = AdapterEmbeddingModel(base, tmp_path / "out" / "adapter")
    rows = {test.queries[query]: row for row, query in enumerate(data.query_ids)}
    assert len(result.searches) >= 2
    for search in result.searches:
        query = data.queries[[rows[search.question]]]
        for found, vectors in (
            (search.base, query),
            (search.adapted, adapted.transform_queries(query)),
        ):
            ranked = top_k(vectors, data.passages, demo.RETRIEVED).passages[0]
            assert list(found) == [data.passage_ids[row] for row in ranked]


def comparison_of(*changes):
    base = np.full(len(changes), 0.5)
    return compare({"ndcg@10": base}, {"ndcg@10": base + np.array(changes)}, n_resamples=10)


def test_questions_are_chosen_by_their_change_with_a_loss_among_them():
    questions = synonym_questions(3)
    ids = list(questions.queries)
    comparison = comparison_of(0.0, 0.1, -0.1, 0.4, 0.2, -0.5, 0.0, 0.3, 0.05)
    assert demo.telling_questions(comparison, questions) == [
        ("the largest gain", ids[3]),
        ("the middle of all changes", ids[1]),
        ("the largest loss", ids[5]),
    ]


def test_fewer_are_chosen_when_fewer_changed():
    for changes, expected in (
        ([0.0, 0.0, 0.0, 0.0], []),
        ([0.0, 0.2, 0.0, 0.0], ["the largest gain"]),
        ([0.0, 0.0, -0.2, 0.0], ["the middle of all changes"]),
        ([0.1, 0.0, -0.2, 0.0], ["the largest gain", "the middle of all changes"]),
        ([-0.1, 0.0, -0.2, -0.3], ["the middle of all changes", "the largest loss"]),
    ):
        chosen = demo.telling_questions(comparison_of(*changes), synonym_questions(2))
        assert [why for why, _ in chosen] == expected, changes
        assert len({query for _, query in chosen}) == len(chosen), changes


def test_the_place_of_an_answer():
    search = demo.Search("", "", wanted="b", base=("a", "b"), adapted=("a", "c"))
    assert (search.rank(search.base), search.rank(search.adapted)) == (2, None)


def test_the_command_shows_before_and_after_in_80_columns(synonyms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(models, "open_embed_model", lambda name: WordsEmbedding())
    monkeypatch.setattr(demo, "run_demo", partial(demo.run_demo, adapter="linear"))

    assert main(["demo", "--pairs", "144", "--store", "store.sqlite3"]) == 0

    output = capsys.readouterr()
    assert "nDCG@10" in output.out
    assert "95% interval" in output.out
    assert "The largest gain: tint" in output.out
    assert "* colour" not in output.out  # passages are shown by their ids
    assert "* p" in output.out
    assert 'AdapterEmbeddingModel(local_embedding(), "demo-output/adapter")' in output.out
    assert max(map(len, output.out.splitlines())) <= 80
    assert (tmp_path / "demo-output" / "result.json").is_file()


def test_finetune_on_the_files_gives_the_same_figures_and_embeds_nothing(
    synonyms, tmp_path, monkeypatch, capsys
):
    expected = run(tmp_path).record
    base = WordsEmbedding()
    monkeypatch.setattr(models, "open_embed_model", lambda name: base)
    data = tmp_path / "out" / "data"
    command = ["finetune", str(data / "train.json"), "--val", str(data / "val.json")]
    command += ["--test", str(data / "test.json"), "--embed-model", "local", "--adapter", "linear"]
    command += ["--store", str(tmp_path / "store.sqlite3"), "-o", str(tmp_path / "adapter")]
    command += ["--json", str(tmp_path / "result.json")]
    assert main(command) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["texts_embedded"], base.calls) == (0, [])
    assert {key: record[key] for key in ("base", "adapted", "gains")} == {
        key: expected[key] for key in ("base", "adapted", "gains")
    }


@pytest.mark.slow
@pytest.mark.local_model
def test_with_the_real_model_and_documentation(tmp_path):
    result = run(tmp_path, local_embedding(), n_pairs=40)
    assert result.record["base"]["ndcg@10"] > 0.5
    assert result.record["adapted"]["ndcg@10"] > 0.5
    assert result.record["texts_embedded"] >= 80
