"""Questions on the command line: files of every form, an index, parts, several adapters."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode

from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingQAFinetuneDataset,
    evaluate,
    split_by_passage,
    split_by_query,
    write_beir,
)
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter
from llama_index_adapters.cli import main, models
from llama_index_adapters.questions.labels import as_judgements
from tests.fakes import ScriptedLLM, WordsEmbedding, synonym_questions

WHOLE = synonym_questions(8)
LABELS = {text: {WHOLE.relevant_docs[name][0]: 2} for name, text in WHOLE.queries.items()}


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """A working directory of its own; the embedding model that every name opens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    model = WordsEmbedding()
    monkeypatch.setattr(models, "open_embed_model", lambda name: model)
    return model


@pytest.fixture
def run(capsys):
    """Run a command line that succeeds and says nothing on standard error; gives its output."""

    def run_words(line):
        status = main(line.split())
        shown, errors = capsys.readouterr()
        assert (status, errors) == (0, ""), errors
        return " ".join(shown.split())

    return run_words


@pytest.fixture
def refused(capsys):
    def run_words(line):
        assert main(line.split()) == 2
        return capsys.readouterr().err

    return run_words


def table(path, labels):
    rows = ["query,node_id,grade"]
    rows += [
        f"{text},{node},{grade}" for text, all_ in labels.items() for node, grade in all_.items()
    ]
    Path(path).write_text("\n".join(rows) + "\n")


@pytest.fixture(params=["persisted", "chroma"])
def index(request, tmp_path):
    """The folder of an index over the passages of the whole set."""
    nodes = [TextNode(text=text, id_=name) for name, text in WHOLE.corpus.items()]
    folder, store = tmp_path / request.param, None
    if request.param == "chroma":
        chromadb = pytest.importorskip("chromadb")
        from chromadb.config import Settings
        from llama_index.vector_stores.chroma import ChromaVectorStore

        client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        space = {"hnsw:space": "cosine"}
        store = ChromaVectorStore(
            chroma_collection=client.create_collection("nodes", metadata=space)
        )
    context = StorageContext.from_defaults(vector_store=store)
    built = VectorStoreIndex(nodes, storage_context=context, embed_model=WordsEmbedding())
    if store is None:
        built.storage_context.persist(folder)
    return folder


def test_from_an_index_and_labels_to_a_measured_adapter(run, base, index):
    table("labels.csv", LABELS)
    run("split labels.csv -o parts --by query --fractions 0.7,0.3")
    common = f"--index {index} --embed-model local --store s.sqlite3"
    shown = run(
        f"finetune parts/train.csv --test parts/test.csv --k 5 {common} "
        "-o adapter --adapter linear --json result.json"
    )
    assert "64 vectors of 64 dimensions from" in shown
    assert "about 64 passages, with words" in shown
    assert "nDCG@5" in shown
    result = json.loads(Path("result.json").read_text())
    assert result["metric"] == "ndcg@5"
    assert result["adapted"]["ndcg@5"] > result["base"]["ndcg@5"]
    assert result["texts_embedded"] == len(base.texts)
    passages = {*WHOLE.corpus.values()}  # three of them, to see whose vectors the index has
    assert len([text for text in base.texts if text in passages]) == 3

    shown = run(
        f"evaluate adapter parts/test.csv --k 5 {common} --json again.json --per-question q.csv"
    )
    again = json.loads(Path("again.json").read_text())
    assert again["adapted"] == result["adapted"]
    with Path("q.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["query"] for row in rows} == {*as_judgements("parts/test.csv").relevant}
    mean = sum(float(row["adapted_ndcg@5"]) for row in rows) / len(rows)
    assert mean == pytest.approx(result["adapted"]["ndcg@5"], abs=1e-5)


def test_a_set_is_split_as_python_does(run):
    WHOLE.save_json("set.json")
    for by, split in (("query", split_by_query), ("passage", split_by_passage)):
        shown = run(f"split set.json -o {by} --by {by} --seed 3")
        assert f"Divided set.json by {by} into {by}/train.json, {by}/val.json" in shown
        for name, part in zip(("train", "val", "test"), split(WHOLE, seed=3), strict=True):
            assert EmbeddingQAFinetuneDataset.from_json(f"{by}/{name}.json") == part


def test_a_table_is_split_without_losing_a_label(run, subtests):
    several = {"a, b": {"n1": 1, "n2": 3}, "c": {"n2": 1}, "d": {"n3": 1}, 'e "f"': {"n4": 2}}
    rows = [
        {"query": text, "node_id": node, "grade": grade}
        for text, graded in several.items()
        for node, grade in graded.items()
    ]
    Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for by in ("query", "passage"):
        with subtests.test(by):
            run(f"split labels.jsonl -o {by} --by {by} --fractions 0.5,0.5")
            parts = [as_judgements(f"{by}/{name}.csv").relevant for name in ("train", "test")]
            assert parts[0] | parts[1] == several
            assert not parts[0].keys() & parts[1].keys()
            if by == "passage":
                asked = [{node for graded in part.values() for node in graded} for part in parts]
                assert not asked[0] & asked[1]


def test_files_that_are_there_are_not_replaced(run, refused):
    WHOLE.save_json("set.json")
    run("split set.json -o parts --fractions 0.5,0.5")
    before = Path("parts/test.json").read_bytes()
    assert "parts has train.json and test.json already" in refused("split set.json -o parts")
    assert Path("parts/test.json").read_bytes() == before


def test_several_adapters_on_the_same_questions(run, tmp_path):
    train, test = split_by_passage(WHOLE, (0.7, 0.3), seed=1)
    train.save_json("train.json")
    test.save_json("test.json")
    run("finetune train.json --embed-model local -o trained --adapter linear --store s.sqlite3")
    save_adapter(tmp_path / "identity", IdentityAdapter(64))
    line = (
        "test.json --embed-model local --store s.sqlite3 --k 3 --json r.json --per-question q.csv"
    )
    shown = run(f"evaluate identity trained {line}")
    assert shown.index("trained 0.") < shown.index("identity 0.")  # the best first
    assert "nDCG@3" in shown
    assert "trained leads identity by 0." in shown
    assert "which is not certain" not in shown
    figures = json.loads(Path("r.json").read_text())["adapters"]
    assert [record["path"] for record in figures] == ["identity", "trained"]
    assert figures[0]["base"] == figures[0]["adapted"] == figures[1]["base"]
    with Path("q.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(test.queries)
    assert [row["query_id"] for row in rows[: len(test.queries)]] == [*test.queries]
    assert rows[0]["query"] == next(iter(test.queries.values()))
    assert {row["adapter"] for row in rows} == {"identity", "trained"}
    one = evaluate(
        AdapterEmbeddingModel(WordsEmbedding(), "trained"), test, k=3, store="s.sqlite3"
    ).comparison
    assert figures[1]["adapted"] == one.adapted


def test_a_folder_of_beir_is_read_by_its_split(run):
    train, test = split_by_query(WHOLE, (0.7, 0.3))
    write_beir({"train": train, "test": test}, "beir")
    shown = run(
        "finetune beir#train --test beir --embed-model local -o adapter --adapter linear "
        "--store s.sqlite3 --epochs 2"
    )
    assert f"Training on {len(train.queries)} questions about 64 passages" in shown
    shown = run("evaluate adapter beir#test --embed-model local --store s.sqlite3")
    assert "on the questions of beir#test: " in shown


def test_questions_are_asked_for_passages_that_nobody_asked_about(run, index, monkeypatch):
    llm = ScriptedLLM(lambda prompt: "1. What is it?\n2. Which is this?")
    monkeypatch.setattr(models, "open_llm", lambda name: llm)
    nodes = list(WHOLE.corpus)
    table("labels.csv", {f"question {node}": {node: 1} for node in nodes[:50]})
    line = f"generate --index {index} -o set.json --uncovered-by labels.csv"
    shown = run(f"{line} --limit 6 --dry-run")
    assert "64 passages; asking openai:gpt-5-mini for 2 questions about each of 6" in shown
    assert "At most 6 requests, about " in shown
    assert (llm.prompts, Path("set.json").exists()) == ([], False)

    run(f"{line} --limit 6 --seed 2")
    first = EmbeddingQAFinetuneDataset.from_json("set.json")
    asked = {node for ids in first.relevant_docs.values() for node in ids}
    assert len(asked) == len(llm.prompts) == 6
    assert asked <= {*nodes[50:]}
    assert first.corpus == WHOLE.corpus  # all are negatives
    run(f"{line} --limit 6 --seed 2")
    assert len(llm.prompts) == 6  # nothing is asked twice
    run(line)
    assert len(llm.prompts) == 14


def test_documents_are_drawn_by_seed(run, monkeypatch, subtests):
    llm = ScriptedLLM(lambda prompt: "1. What is it?\n2. Which is this?")
    monkeypatch.setattr(models, "open_llm", lambda name: llm)
    Path("docs").mkdir()
    for number in range(20):
        Path(f"docs/{number}.md").write_text(f"The colour of beast {number} is red.")
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(f"generate docs -o {name}.json --limit 5 --seed {seed}")
        found = EmbeddingQAFinetuneDataset.from_json(f"{name}.json")
        assert len(found.corpus) == 20
        drawn.append({node for ids in found.relevant_docs.values() for node in ids})
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1] != drawn[2]


def test_h_is_help_and_an_error_points_at_the_help_of_its_command(run, refused):
    assert run("evaluate -h") == run("evaluate --help")
    assert run("-h") == run("--help")
    assert "(help: llama-index-adapters finetune --help)" in refused("finetune set.json --epoch 3")
    assert "(help: llama-index-adapters --help)" in refused("nonsense")


def test_a_shell_completes_commands_and_options(monkeypatch, capsys, subtests):
    for words, expected in (
        (["eva"], ["evaluate"]),
        (["finetune", "--also"], ["--also-without-passages"]),
        (["evaluate", "--per"], ["--per-question"]),
    ):
        monkeypatch.setenv("_LLAMA_INDEX_ADAPTERS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["llama-index-adapters", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with subtests.test(words), pytest.raises(SystemExit):
            main([])
        assert capsys.readouterr().out.split() == expected
