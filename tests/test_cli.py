from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode

import llama_index_adapters
from llama_index_adapters import AdapterEmbeddingModel
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.families import ADAPTERS
from llama_index_adapters.adapters.learned.linear import IdentityAdapter
from llama_index_adapters.cli import main, models
from llama_index_adapters.cli.output import counted, took
from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.questions.split import split_by_passage
from llama_index_adapters.retrieval.ranking import SIMILARITIES
from llama_index_adapters.vectors import local
from tests.fakes import CountingEmbedding, ScriptedLLM, WordsEmbedding, synonym_questions

COMMANDS = ("demo", "generate", "split", "finetune", "evaluate", "report", "align")
METRICS = {"hit_rate@10", "mrr@10", "ndcg@10", "recall@10"}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory with question sets, without keys, and with a cache of its own."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    parts = split_by_passage(synonym_questions(), (0.6, 0.2, 0.2))
    for name, part in zip(("train", "val", "test"), parts, strict=True):
        part.save_json(f"{name}.json")
    return tmp_path


@pytest.fixture
def base(monkeypatch):
    """The embedding model that every name opens."""
    model = WordsEmbedding()
    monkeypatch.setattr(models, "open_embed_model", lambda name: model)
    return model


@pytest.fixture
def run(capsys):
    """Run a command line; gives its status and what it wrote."""

    def run_words(line, *more):
        status = main([*line.split(), *more])
        return status, *capsys.readouterr()

    return run_words


def finetune(words="", *, adapter="linear"):
    line = "finetune train.json --embed-model local -o adapter --store s.sqlite3"
    return f"{line} --adapter {adapter} {words}"


def only_line(errors):
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("llama-index-adapters: ")
    return lines[0]


def refused(result):
    """What a command says that stops at a wrong file or option."""
    status, shown, errors = result
    assert (status, shown) == (2, ""), errors
    return only_line(errors)


# Help


def test_help_teaches_in_80_columns(run, subtests):
    for words in ("", "--help", *(f"{name} --help" for name in COMMANDS)):
        with subtests.test(words=words):
            status, shown, errors = run(words)
            assert (status, errors) == (0, "")
            assert "Usage: llama-index-adapters" in shown
            # An example to copy, in a line of its own.
            assert "\n    llama-index-adapters " in shown
            assert max(map(len, shown.splitlines())) <= 80


def test_help_lists_every_command(run):
    shown = run("--help")[1]
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_help_shows_what_a_file_looks_like(run, subtests):
    for command in ("generate", "finetune"):
        with subtests.test(command=command):
            shown = run(f"{command} --help")[1]
            assert '    {"queries":       {"q1": "How long is the warranty?"},\n' in shown
            assert "LlamaIndex's JSON" in shown


def test_help_of_finetune_lists_choices_and_the_engine_s_defaults(run):
    shown = run("finetune --help")[1]
    assert "|".join(ADAPTERS) in shown
    assert "|".join(SIMILARITIES) in shown
    parameters = inspect.signature(EmbeddingAdapterFinetuneEngine.__init__).parameters
    options = " ".join(shown.split())
    for name in ("adapter", "similarity", "epochs", "batch_size", "seed"):
        described = options.partition(f"--{name.replace('_', '-')} ")[2].partition(" --")[0]
        assert f"[default: {parameters[name].default}" in described


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from llama_index_adapters.cli import main\n"
        "status = main(['finetune', '--help'])\n"
        "heavy = {'torch', 'llama_index.core', 'transformers', 'scipy'} & set(sys.modules)\n"
        "sys.exit(status or ' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version(run):
    assert run("--version")[:2] == (0, f"llama-index-adapters {llama_index_adapters.__version__}\n")


# The whole way


def test_finetune_then_evaluate(run, base):
    status, shown, errors = run(finetune("--val val.json --test test.json --json out/result.json"))
    assert (status, errors) == (0, "")
    assert "test questions (test.json)" in shown
    assert "95% interval" in shown
    assert "Adapter (linear) written to adapter, these figures to out/result.json." in shown
    assert "from llama_index_adapters import AdapterEmbeddingModel, local_embedding" in shown
    assert 'embed_model = AdapterEmbeddingModel(local_embedding(), "adapter")' in shown
    assert max(map(len, shown.splitlines())) <= 80

    result = json.loads(Path("out/result.json").read_text())
    assert set(result["base"]) & set(result["adapted"]) >= METRICS
    assert result["adapted"]["ndcg@10"] > result["base"]["ndcg@10"] + 0.1
    assert f"{result['adapted']['ndcg@10']:.4f}" in shown
    assert (result["adapter"], result["measured_on"]) == ("linear", "test")
    assert set(result["seconds"]) == {"embed", "train", "evaluate"}
    assert result["texts_embedded"] == len(base.texts)

    asked = len(base.texts)
    again = "evaluate adapter test.json --embed-model local --store s.sqlite3 --json again.json"
    status, shown, errors = run(again)
    assert (status, errors) == (0, "")
    evaluated = json.loads(Path("again.json").read_text())
    for key in ("base", "adapted", "gains", "adapter", "embed_model"):
        assert evaluated[key] == result[key]
    assert (evaluated["texts_embedded"], len(base.texts)) == (0, asked)
    assert f"{result['adapted']['ndcg@10']:.4f}" in shown


def test_finetune_then_report(run, base):
    status, _, errors = run(finetune())
    assert (status, errors) == (0, "")
    line = "report adapter test.json --embed-model local --store s.sqlite3 -o page.html --no-texts"
    status, shown, errors = run(line)
    assert (status, errors) == (0, "")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "The report is in page.html." in shown
    assert shown.splitlines()[0][:60] in page
    texts = json.loads(Path("test.json").read_text())["queries"].values()
    assert not any(text in page for text in texts)


def test_a_narrow_terminal_cuts_no_number(run, base, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, shown, _ = run(finetune("--test test.json"))
    assert status == 0
    assert "…" not in shown
    assert "95% interval" in shown


def test_without_a_test_set_the_figures_are_of_validation(run, base):
    assert run(finetune("--val val.json --json result.json"))[0] == 0
    result = json.loads(Path("result.json").read_text())
    assert result["measured_on"] == "validation"
    status, shown, _ = run(finetune("--json result.json"))
    assert status == 0
    assert "validation questions (held out of train.json)" in shown


def test_training_never_sees_the_test_questions(run, base, place):
    weights = []
    for words in ("", "--test test.json"):
        assert run(finetune(words))[0] == 0
        weights.append((place / "adapter" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_second_run_embeds_nothing(run, base):
    assert run(finetune("--test test.json"))[0] == 0
    asked = len(base.texts)
    status, shown, _ = run(finetune("--test test.json"))
    assert status == 0
    assert "Embedded 0 texts" in shown
    assert len(base.texts) == asked


def test_options_reach_the_training(run, base, place):
    words = "--epochs 3 --batch-size 9 --learning-rate 0.01 --seed 5"
    assert run(finetune(words, adapter="two-layer"))[0] == 0
    config = json.loads((place / "adapter" / "config.json").read_text())
    assert config["queries"]["kind"] == "two-layer"
    chosen = {name: config["training"][name] for name in ("epochs", "batch_size", "seed")}
    assert chosen == {"epochs": 3, "batch_size": 9, "seed": 5}
    assert config["training"]["learning_rate"] == 0.01


def test_the_adapter_is_searched_for_unless_an_option_says_how_to_train(
    run, base, monkeypatch, subtests
):
    def stop(engine):
        raise InvalidOptionError(f"asked for {engine.adapter}")

    monkeypatch.setattr(EmbeddingAdapterFinetuneEngine, "finetune", stop)
    for words, adapter in (
        ("", "auto"),
        ("--epochs 9", "auto"),
        ("--unseen-share 0.5", "auto"),
        ("--learning-rate 0.1", "linear"),
        ("--bias", "linear"),
    ):
        with subtests.test(words):
            status, _, errors = run(finetune(words, adapter="auto"))
            assert status == 2
            assert f"asked for {adapter}" in only_line(errors)


def test_a_search_says_what_it_chose_and_on_which_questions(run, base):
    words = "--val val.json --epochs 1"
    status, shown, errors = run(finetune(words, adapter="auto"))
    assert (status, errors) == (0, "")
    assert re.search(r"Chosen of \d+ adapters: \w+", shown)
    assert "validation questions (val.json and held out of train.json)" in shown


def test_a_second_training_only_when_it_is_asked_for(run, base, monkeypatch):
    """The passages of the test set are known to the search; what that brings costs as much."""
    targets = []
    finetune_once = EmbeddingAdapterFinetuneEngine.finetune

    def counted_finetune(engine):
        targets.append(list(engine._data.unlabelled))
        return finetune_once(engine)

    monkeypatch.setattr(EmbeddingAdapterFinetuneEngine, "finetune", counted_finetune)
    line = "--test test.json --epochs 1 --json result.json"
    status, shown, _ = run(finetune(line, adapter="auto"))
    assert (status, targets) == (0, [["target_corpus"]])
    assert "knew the passages of test.json" in shown
    result = json.loads(Path("result.json").read_text())
    assert result["target_corpus"] is True
    assert "without_target_corpus" not in result

    targets.clear()
    status, shown, _ = run(finetune(f"{line} --also-without-passages", adapter="auto"))
    assert (status, targets) == (0, [["target_corpus"], []])
    again = json.loads(Path("result.json").read_text())
    assert again["adapted"] == result["adapted"]
    without = again["without_target_corpus"]["ndcg@10"]
    assert f"Without them the adapted nDCG@10 is {without:.4f}." in " ".join(shown.split())

    targets.clear()
    status, shown, _ = run(finetune("--test test.json --epochs 1 --also-without-passages"))
    assert (status, targets) == (0, [[]])
    assert "did not use the passages of test.json: nothing to do without" in shown


def test_without_a_gain_the_identity_is_named(run, monkeypatch):
    monkeypatch.setattr(models, "open_embed_model", lambda name: CountingEmbedding())
    status, shown, _ = run(finetune("--epochs 1 --learning-rate 1e-9"))
    assert status == 0
    assert "Training gained nothing" in shown
    assert "Adapter (identity)" in shown


def test_generate_then_finetune(run, monkeypatch, base, place):
    (place / "docs").mkdir()
    for number in range(12):
        (place / "docs" / f"{number}.md").write_text(f"The colour of beast {number} is red.")
    llm = ScriptedLLM(lambda prompt: "1. What colour is it?\n2. Which beast is this?")
    monkeypatch.setattr(models, "open_llm", lambda name: llm)

    status, shown, errors = run("generate docs -o set.json --workers 2")
    assert (status, errors) == (0, "")
    assert "12 passages; asking openai:gpt-5-mini for 2 questions about each" in shown
    assert "24 questions about 12 passages written to set.json" in shown
    assert "  llama-index-adapters finetune set.json --embed-model local -o adapter" in shown
    content = json.loads((place / "set.json").read_text())
    assert set(content) == {"queries", "corpus", "relevant_docs", "mode"}

    assert run("generate docs -o set.json")[0] == 0
    assert len(llm.prompts) == 12  # everything was there


# What goes wrong; more of it is in tests/bad_inputs/commands.py


def test_fewer_dimensions_say_how_an_index_is_copied(run, base):
    status, shown, _ = run(f"{finetune(adapter='auto')} --target-dim 4")
    assert status == 0
    assert "dimensions to 4" in " ".join(shown.split())
    assert "rewrite_index(index, embed_model, empty_vector_store)" in shown


def test_a_wrong_command_line(run):
    assert "nonsense" in refused(run("nonsense"))
    assert "TRAIN.json" in refused(run("finetune"))
    assert "--embed-model" in refused(run("finetune train.json -o adapter"))
    assert "--output" in refused(run("finetune train.json --embed-model local"))
    assert "--epoch" in refused(run(finetune("--epoch 3")))
    assert "--epochs" in refused(run(finetune("--epochs 0")))
    assert "--epochs" in refused(run(finetune("--epochs many")))
    assert "PATH" in refused(run("generate -o set.json"))


def test_a_directory_that_holds_other_things_is_not_replaced(run, base, place):
    (place / "adapter").mkdir()
    (place / "adapter" / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(run(finetune()))
    assert base.calls == []


def test_evaluate_against_the_adapter_in_use(run, base):
    run(finetune())
    save_adapter(Path("in-use"), IdentityAdapter(64))
    line = "evaluate {} test.json --against {} --embed-model local --store s.sqlite3 --json r.json"
    status, shown, errors = run(line.format("adapter", "in-use"))
    assert (status, errors) == (0, "")
    assert "in-use (in use) and adapter (candidate) on the questions of test.json" in shown
    assert "Switch to the candidate: it gains +0." in shown
    record = json.loads(Path("r.json").read_text())
    assert (record["switch"], record["path"], record["against"]) == (True, "adapter", "in-use")

    status, shown, _ = run(line.format("in-use", "adapter"))
    assert (status, json.loads(Path("r.json").read_text())["switch"]) == (0, False)
    assert "Keep the adapter in use: the candidate is worse" in shown


def test_evaluate_says_what_copies_cost_and_merges_them(run, base):
    save_adapter(Path("in-use"), IdentityAdapter(64))
    content = json.loads(Path("test.json").read_text())
    copied = {f"again {name}": text for name, text in content["corpus"].items()}
    Path("twice.json").write_text(json.dumps({**content, "corpus": content["corpus"] | copied}))
    line = "evaluate in-use twice.json --embed-model local --store s.sqlite3 --json r.json"
    for merge in (False, True):
        status, shown, errors = run(f"{line} --merge-copies" if merge else line)
        assert (status, errors) == (0, "")
        assert f"{len(copied)} passages are copies of others" in shown
        assert json.loads(Path("r.json").read_text())["copies"]["merged"] == merge


def test_evaluate_with_another_base_model(run, base, monkeypatch):
    assert run(finetune())[0] == 0
    assert "words, cannot be opened" in refused(run("evaluate adapter test.json"))
    monkeypatch.setattr(models, "open_embed_model", lambda name: CountingEmbedding())
    line = refused(run("evaluate adapter test.json --embed-model local"))
    assert "trained on 'words', but the base model is 'counting'" in line


def test_a_wrong_name_of_an_embedding_model(run, subtests):
    for name in ("locl", "openai", "openai:", "opnai:ada", "huggingface:", "x:y"):
        with subtests.test(name=name):
            line = refused(run(f"finetune train.json -o adapter --embed-model {name}"))
            assert f"--embed-model is {name!r}; expected local, openai:NAME" in line


def test_a_name_that_openai_does_not_have(run, monkeypatch):
    wrong = "finetune train.json -o adapter --embed-model openai:text-embedding-3-smal"
    assert "Did you mean 'text-embedding-3-small'?" in refused(run(wrong))
    monkeypatch.setenv("OPENAI_API_BASE", "http://localhost:1/v1")  # it may have any name
    assert models.open_embed_model("openai:mine").model_name == "mine"


def test_no_key_for_openai(run):
    shown = run("finetune train.json -o adapter --embed-model openai:text-embedding-3-small")
    assert shown[0] == 2
    assert "needs OPENAI_API_KEY, which is not set. Run: export" in only_line(shown[2])
    line = refused(run("generate train.json -o set.json"))
    assert "--llm openai:gpt-5-mini needs OPENAI_API_KEY" in line


def test_a_wrong_language_model(run, monkeypatch):
    assert "expected openai:NAME" in refused(run("generate train.json -o s.json --llm claude"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    line = refused(run("generate train.json -o s.json --llm openai:gpt-5-minus"))
    assert "'openai:gpt-5-minus', which LlamaIndex's OpenAI integration does not know" in line


def test_a_missing_extra_is_answered_with_the_command(run, monkeypatch):
    pip = 'pip install "llama-index-adapters[local]"'
    monkeypatch.setattr(local, "_is_installed", lambda module: False)
    assert pip in refused(run(finetune()))
    assert pip in refused(run("demo"))
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.huggingface", None)
    line = refused(run("finetune train.json -o adapter --embed-model huggingface:BAAI/bge"))
    assert "huggingface:BAAI/bge needs llama-index-embeddings-huggingface" in line
    assert pip in line


@pytest.mark.local_model
def test_a_huggingface_model_that_is_not_there(run, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = refused(run("finetune train.json -o adapter --embed-model huggingface:./nowhere"))
    assert "--embed-model huggingface:./nowhere cannot be loaded" in line


def test_a_service_that_fails(run, monkeypatch):
    def fail(texts, vectors):
        raise RuntimeError("Error code: 401\n{'message': 'Incorrect API key provided'}")

    model = CountingEmbedding(answer=fail)
    monkeypatch.setattr(models, "open_embed_model", lambda name: model)
    status, _, errors = run(finetune())
    assert status == 2
    assert "Incorrect API key provided" in only_line(errors)


def test_an_error_of_this_program_is_one_line_too(run, monkeypatch):
    def fail(name):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(models, "open_embed_model", fail)
    status, _, errors = run(finetune())
    assert status == 1
    assert "unexpected ZeroDivisionError: by zero" in only_line(errors)
    status, _, errors = run(f"--debug {finetune()}")
    assert status == 1
    assert "Traceback" in errors


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "open_embed_model", interrupt)
    status, shown, errors = run(finetune())
    assert (status, shown) == (130, "")
    assert "Interrupted. What was embedded or answered is stored" in only_line(errors)


def test_logging_is_afterwards_as_before(run, base):
    own, root = logging.getLogger("llama_index_adapters"), logging.getLogger()
    before = (own.level, list(root.handlers), list(warnings.filters))
    run(f"--debug {finetune('--epochs 1')}")
    run("finetune none.json --embed-model local -o adapter")
    assert (own.level, list(root.handlers), list(warnings.filters)) == before


# Names


def test_the_base_model_of_an_adapter_is_found_by_its_name(subtests):
    for label, name in (
        ("sentence-transformers/all-MiniLM-L6-v2", "local"),
        ("text-embedding-3-small", "openai:text-embedding-3-small"),
        ("BAAI/bge-small-en-v1.5", "huggingface:BAAI/bge-small-en-v1.5"),
    ):
        with subtests.test(label=label, name=name):
            assert models.name_of_base_model(label) == name


def test_a_base_model_without_a_telling_name_has_to_be_named(subtests):
    for label in (None, "my-folder"):
        with (
            subtests.test(label=label),
            pytest.raises(InvalidOptionError, match="Say which it is: --embed-model"),
        ):
            models.name_of_base_model(label)


def test_code_that_opens_a_model(subtests):
    for name, code in (
        ("local", "local_embedding()"),
        ("openai:text-embedding-3-large", 'OpenAIEmbedding(model="text-embedding-3-large")'),
        ("huggingface:a/b", 'HuggingFaceEmbedding("a/b")'),
    ):
        with subtests.test(name=name, code=code):
            line, expression = models.code_for(name)
            assert expression == code
            assert line.startswith("from ")
            assert line.endswith(f"import {code.partition('(')[0]}")


def test_words_for_numbers():
    assert [counted(1, "text"), counted(1234, "text")] == ["1 text", "1,234 texts"]
    assert [took(0.44), took(59.6), took(125)] == ["0.4 s", "1 min 0 s", "2 min 5 s"]


# Several models


class TestQueryModels:
    @pytest.fixture
    def named(self, monkeypatch):
        models_of = {"local": WordsEmbedding(), "openai:other": WordsEmbedding(model_name="o/ther")}
        models_of["huggingface:o/ther"] = models_of["openai:other"]
        monkeypatch.setattr(models, "open_embed_model", lambda name: models_of[name])
        monkeypatch.setattr(models, "name_of_base_model", lambda label: "local")
        return models_of

    def test_from_training_to_the_lines_to_copy(self, run, named):
        two = "--query-embed-model local --query-embed-model openai:other"
        status, shown, errors = run(finetune(f"{two} --epochs 2 --json r.json"))
        assert (status, errors) == (0, "")
        assert "with words and o/ther" in shown
        assert "query_embed_models=[base, other])" in shown
        assert "other = OpenAIEmbedding" in shown
        assert json.loads(Path("r.json").read_text())["query_embed_models"] == ["words", "o/ther"]
        assert (
            len(
                AdapterEmbeddingModel(
                    named["local"],
                    "adapter",
                    query_embed_models=[named["local"], named["openai:other"]],
                ).get_query_embedding("a")
            )
            == 64
        )
        status, shown, errors = run("evaluate adapter test.json --store s.sqlite3")
        assert (status, errors) == (0, "")
        assert "Base and adapted (linear)" in shown


class TestAlign:
    TEXTS = tuple(f"{topic} {word}" for topic in range(8) for word in ("a b", "c d", "e f", "g h"))

    @pytest.fixture(params=["persisted", "chroma", "lancedb", "qdrant"])
    def index(self, request, place):
        """The folder of an index that a model made which is gone."""
        nodes = [TextNode(text=text, id_=str(uuid5(NAMESPACE_URL, text))) for text in self.TEXTS]
        folder = place / request.param
        store = None
        if request.param == "chroma":
            chromadb = pytest.importorskip("chromadb")
            from chromadb.config import Settings
            from llama_index.vector_stores.chroma import ChromaVectorStore

            client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
            store = ChromaVectorStore(chroma_collection=client.create_collection("nodes"))
        elif request.param == "lancedb":
            pytest.importorskip("lancedb")
            from llama_index.vector_stores.lancedb import LanceDBVectorStore

            store = LanceDBVectorStore(uri=str(folder), table_name="t")
        elif request.param == "qdrant":
            client = pytest.importorskip("qdrant_client").QdrantClient(path=str(folder))
            from llama_index.vector_stores.qdrant import QdrantVectorStore

            store = QdrantVectorStore(client=client, collection_name="c")
        context = StorageContext.from_defaults(vector_store=store)
        built = VectorStoreIndex(nodes, storage_context=context, embed_model=WordsEmbedding())
        if request.param == "persisted":
            built.storage_context.persist(folder)
        if request.param == "qdrant":
            client.close()
        return folder

    def test_from_a_folder_to_an_adapter(self, run, index, monkeypatch):
        other = WordsEmbedding(model_name="other", dimension=48)
        monkeypatch.setattr(models, "open_embed_model", lambda name: other)
        line = f"align --index {index} --query-embed-model local -o adapter --store s.sqlite3"
        status, shown, errors = run(f"{line} --dry-run")
        assert (status, errors) == (0, "")
        assert (
            "other will be asked for 32 passages of 32 and 0 queries: at most 4 requests" in shown
        )
        assert not other.calls
        status, shown, errors = run(f"{line} --keep-at-least .999999 --json r.json")
        assert (status, errors) == (3, "")
        assert "of the new model's own ranking is kept" in shown
        assert "Less than the 100.0% of --keep-at-least is kept." in shown
        assert json.loads(Path("r.json").read_text())["alignment"]["passages"] == 32
        model = AdapterEmbeddingModel(None, "adapter", query_embed_models=[other])
        assert len(model.get_query_embedding("3 a b")) == 64
        assert run(f"{line} --keep-at-least 0")[0] == 0
