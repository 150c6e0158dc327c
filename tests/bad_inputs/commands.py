"""Wrong command lines: exit status 2, one line on standard error, nothing written."""

from __future__ import annotations

import atexit
import io
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path
from unittest import mock

from llama_index_adapters import EmbeddingQAFinetuneDataset
from llama_index_adapters.adapters.disk.config import QueryModel
from llama_index_adapters.adapters.disk.metadata import AdapterMetadata
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.cli import main, models
from llama_index_adapters.errors import AdaptersError
from tests.bad_inputs.rows import GOOD, BadInput, Call, rows
from tests.fakes import CountingEmbedding, ScriptedLLM

KEYS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_API_BASE")
WRONG_SETS = {
    "empty.json": (b"", "empty.json is not JSON"),
    "truncated.json": (b'{"queries": {"q": "wh', "truncated.json is not JSON"),
    "bytes.json": (b'{"queries": {"q": "\xff"}}', "bytes.json is not UTF-8 text"),
    "list.json": (b"[]", "list.json holds a JSON list"),
    "missing.json": (b'{"queries": {}}', "missing.json: 2 values are missing"),
    "folder.json": (None, "folder.json is a directory"),
    "unknown.json": (
        b'{"queries": {"q": "a"}, "corpus": {"p": "b"}, "relevant_docs": {"q": ["x"]}}',
        "not in the corpus: 'x'",
    ),
    "no.json": (b"absent", "There is no file .*no.json"),
}


class RefusedCommandError(AdaptersError):
    """What a command said that ended with status 2."""


def table() -> Iterator[BadInput]:
    yield from _all()
    yield from _finetune()
    yield from _evaluate()
    yield from _split()
    yield from _report()
    yield from _align()
    yield from _generate()
    yield from _demo()


def _run(line: str, named: bool, directory: Path) -> None:
    """Run a command line; ``{d}`` in it is the directory. With ``named``, models open by name."""
    embed_model, llm = CountingEmbedding(), ScriptedLLM()
    said, shown = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        environment = {name: value for name, value in os.environ.items() if name not in KEYS}
        environment["XDG_CACHE_HOME"] = str(directory / "store.sqlite3-cache")
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        if not named:
            for opener, one in (("open_embed_model", embed_model), ("open_llm", llm)):
                stack.enter_context(mock.patch.object(models, opener, lambda _, m=one: m))
        stack.enter_context(redirect_stderr(said))
        stack.enter_context(redirect_stdout(shown))
        status = main(shlex.split(line.format(d=directory)))
    lines = said.getvalue().splitlines()
    assert status == 2, (status, shown.getvalue(), lines)
    assert len(lines) == 1, lines
    assert lines[0].startswith("llama-index-adapters: "), lines
    assert not embed_model.calls, "it was found after something was paid for"
    assert not llm.prompts, "it was found after something was paid for"
    raise RefusedCommandError(lines[0])


def _given(directory: Path) -> None:
    shutil.copytree(_everything(), directory, dirs_exist_ok=True)


@cache
def _everything() -> Path:
    """Make a folder of question sets, right and wrong, adapters and files of others."""
    made = tempfile.TemporaryDirectory()
    atexit.register(made.cleanup)
    directory = Path(made.name)
    EmbeddingQAFinetuneDataset(**GOOD).save_json(directory / "train.json")
    (directory / "labels.csv").write_text("query,node_id,grade\nwhy?,p,1\nhow?,s,2\n")
    for name, (data, _) in WRONG_SETS.items():
        if data is None:
            (directory / name).mkdir()
        elif data != b"absent":
            (directory / name).write_bytes(data)
    metadata = AdapterMetadata(query_models=(QueryModel(name="somebody's"),))
    save_adapter(directory / "adapter", LinearAdapter(8), metadata=metadata)
    save_adapter(directory / "of-any", LinearAdapter(8))
    save_adapter(directory / "broken", LinearAdapter(8))
    (directory / "broken" / "config.json").write_text('{"kind": ')
    for folder in ("mine", "nothing", "docs"):
        (directory / folder).mkdir()
    (directory / "mine" / "thesis.txt").write_text("years of work")
    (directory / "docs" / "text.md").write_text("The beast is red.")
    (directory / "file.txt").write_text("mine")
    (directory / "picture.bin").write_bytes(b"\xff\xd8\0")
    return directory


def _lines(command: str, *cases: tuple[str, str, str], named: bool = False) -> Iterator[BadInput]:
    for wrong, line, text in cases:
        call: Call = partial(_run, f"{command} {line}", named)
        entry = f"llama-index-adapters {command}".strip()
        yield from rows(entry, RefusedCommandError, (wrong, call, text), given=_given)


def _all() -> Iterator[BadInput]:
    yield from _lines(
        "",
        ("an unknown command", "nonsense", "nonsense"),
        ("an unknown option", "--verbos", "--verbos"),
        ("no file", "finetune", "TRAIN.json"),
        ("no model", "finetune {d}/train.json -o {d}/new", "--embed-model"),
        ("no output", "finetune {d}/train.json --embed-model local", "--output"),
        ("no documents", "generate -o {d}/set.json", "PATH"),
        ("no question set", "evaluate {d}/adapter", r"DIR\.\.\."),
    )


def _finetune() -> Iterator[BadInput]:
    rest = "--embed-model local -o {d}/new --store {d}/store.sqlite3"
    for name, (_, text) in WRONG_SETS.items():
        wrong = f"{{d}}/{name}"
        yield from _lines(
            "finetune",
            (f"{name} to train", f"{wrong} {rest}", text),
            (f"{name} to validate", f"{{d}}/train.json {rest} --val {wrong}", text),
            (f"{name} to test", f"{{d}}/train.json {rest} --test {wrong}", text),
        )
    for words, text in (
        ("--adapter linaer", "'linaer' is not one of .*Did you mean 'linear'"),
        ("--similarity cosin", "'cosin' is not one of .*Did you mean 'cosine'"),
        ("--epochs 0", "--epochs"),
        ("--epochs many", "--epochs"),
        ("--epoch 3", "--epoch"),
        ("--batch-size -1", "--batch-size"),
        ("--unseen-share 50", "--unseen-share"),
        ("--target-dim 0", "--target-dim"),
        ("--unseen-share 0.5 --bias", "unseen_share is given, but only the search"),
        ("--learning-rate 0", "learning_rate is 0.0"),
        ("--learning-rate nan", "learning_rate is nan"),
        ("--seed -1", "--seed"),
        ("--device abacus", "device is 'abacus'"),
        ("--json {d}/mine", "mine is a folder"),
        ("--json {d}/file.txt/result.json", "file.txt is a file"),
        ("--store {d}/mine", "mine is a folder"),
        ("--store {d}/no/store.sqlite3", "does not exist"),
        ("--store {d}/train.json", "not a readable embedding store"),
        ("-o {d}/file.txt", "file.txt is a file"),
        ("-o {d}/file.txt/adapter", "file.txt is a file"),
        ("-o {d}/mine", "thesis.txt"),
        ("--also-without-passages", "--also-without-passages needs --test TEST.json"),
        ("--k 5", "--k is how TEST.json is measured; name it"),
        ("--k 0 --test {d}/train.json", "--k"),
        ("--val {d}/labels.csv", "no passages. Name the index that has them: --index"),
        ("--index {d}/no", "no is no folder. Give a folder of"),
        ("--index {d}/docs", "holds no index that can be told"),
        ("--index {d}/docs --val {d}/no.csv", "There is no file .*no.csv"),
    ):
        yield from _lines("finetune", (words, f"{{d}}/train.json {rest} {words}", text))
    start = "{d}/train.json -o {d}/new --embed-model "
    yield from _lines(
        "finetune",
        ("a model misspelt", f"{start} locl", "'locl'; expected local, openai:NAME"),
        ("a model without a name", f"{start} openai:", "'openai:'; expected"),
        ("a name that OpenAI lacks", f"{start} openai:text-embedding-3-smal", "3-small'"),
        ("no key", f"{start} openai:text-embedding-3-small", "needs OPENAI_API_KEY"),
        named=True,
    )


def _evaluate() -> Iterator[BadInput]:
    line = "--embed-model local --store {d}/store.sqlite3"
    for name, (_, text) in WRONG_SETS.items():
        case = (f"{name} to test", f"{{d}}/adapter {{d}}/{name} {line}", text)
        yield from _lines("evaluate", case)
    yield from _lines(
        "evaluate",
        ("no adapter", f"{{d}}/no {{d}}/train.json {line}", "no is not there"),
        ("a file for an adapter", f"{{d}}/file.txt {{d}}/train.json {line}", "is a file"),
        ("an empty folder", f"{{d}}/nothing {{d}}/train.json {line}", "has no config.json"),
        ("a truncated config", f"{{d}}/broken {{d}}/train.json {line}", "is not valid JSON"),
        ("another model", f"{{d}}/adapter {{d}}/train.json {line}", 'trained on "somebody\'s"'),
        ("an unknown model", "{d}/adapter {d}/train.json", "cannot be opened by its name"),
        (
            "no other adapter",
            f"{{d}}/of-any {{d}}/train.json {line} --against {{d}}/no",
            "no is not there",
        ),
        ("a folder for figures", "{d}/adapter {d}/train.json --json {d}/mine", "a folder"),
        ("a negative seed", f"{{d}}/adapter {{d}}/train.json {line} --seed -1", "--seed"),
        ("another similarity", "{d}/adapter {d}/train.json --similarity l2", "is not one of"),
        ("no places", f"{{d}}/of-any {{d}}/train.json {line} --k 0", "--k"),
        ("one adapter twice", f"{{d}}/of-any {{d}}/of-any {{d}}/train.json {line}", "named twice"),
        (
            "several against one",
            f"{{d}}/of-any {{d}}/adapter {{d}}/train.json {line} --against {{d}}/broken",
            "--against compares one DIR",
        ),
        ("a folder for rows", "{d}/adapter {d}/train.json --per-question {d}/mine", "a folder"),
        ("labels without an index", f"{{d}}/of-any {{d}}/labels.csv {line}", "and no passages"),
        ("no index", f"{{d}}/of-any {{d}}/labels.csv {line} --index {{d}}/no", "no is no folder"),
    )


def _split() -> Iterator[BadInput]:
    for name, (_, text) in WRONG_SETS.items():
        yield from _lines("split", (name, f"{{d}}/{name} -o {{d}}/new", text))
    set_ = "{d}/train.json -o {d}/new"
    yield from _lines(
        "split",
        ("words for shares", f"{set_} --fractions all", "--fractions is 'all'; give two or three"),
        ("one share", f"{set_} --fractions 1", "--fractions is '1'"),
        ("four shares", f"{set_} --fractions .25,.25,.25,.25", "--fractions is"),
        ("shares above 1", f"{set_} --fractions .9,.9", "with the sum 1"),
        ("another way", f"{set_} --by pages", "'pages' is not one of query, passage"),
        ("a negative seed", f"{set_} --seed -1", "--seed"),
        ("too few questions", set_, "too few for 3 sides"),
        ("too few labels", "{d}/labels.csv -o {d}/new", "too few for 3 sides"),
        ("a file for a folder", "{d}/train.json -o {d}/file.txt", "file.txt is a file"),
    )


def _report() -> Iterator[BadInput]:
    line = "{d}/train.json --embed-model local --store {d}/store.sqlite3"
    yield from _lines(
        "report",
        ("no adapter", f"{{d}}/no {line} -o {{d}}/new.html", "no is not there"),
        ("no page to write", f"{{d}}/adapter {line}", "--output"),
        ("a folder for a page", f"{{d}}/adapter {line} -o {{d}}/mine", "a folder"),
        (
            "no other adapter",
            f"{{d}}/of-any {{d}}/no {line} -o {{d}}/new.html",
            "no is not there",
        ),
        ("one adapter twice", f"{{d}}/of-any {{d}}/of-any {line} -o {{d}}/new.html", "named twice"),
        ("no question set", "{d}/adapter {d}/no.json -o {d}/new.html", "no.json"),
    )


def _align() -> Iterator[BadInput]:
    line = "--query-embed-model local -o {d}/new --store {d}/store.sqlite3"
    yield from _lines(
        "align",
        ("no such index", f"--index {{d}}/no {line}", "no is no folder. Give a folder of"),
        ("a file for an index", f"--index {{d}}/file.txt {line}", "file.txt is no folder"),
        ("a folder of documents", f"--index {{d}}/docs {line}", "holds no index that can be told"),
        ("no index", line, "--index"),
        ("a share above one", f"--index {{d}}/docs {line} --keep-at-least 2", "--keep-at-least"),
        ("no such log", f"--index {{d}}/docs {line} --query-log {{d}}/no.txt", "no.txt"),
    )


def _generate() -> Iterator[BadInput]:
    docs = "{d}/docs -o {d}/set.json"
    yield from _lines(
        "generate",
        ("no such file", "{d}/no -o {d}/set.json", "There is no file or folder .*no"),
        ("an empty folder", "{d}/nothing -o {d}/set.json", "has no file with text"),
        ("a picture", "{d}/picture.bin -o {d}/set.json", "is not UTF-8 text, and no reader"),
        ("an empty file", "{d}/empty.json -o {d}/set.json", "no text was found"),
        ("a folder to write", "{d}/docs -o {d}/mine", "mine is a folder"),
        ("a file for a folder", "{d}/docs -o {d}/file.txt/set.json", "file.txt is a file"),
        ("a file of others", "{d}/docs -o {d}/file.txt", "Questions cannot be added to it"),
        ("no questions", f"{docs} --questions 0", "--questions"),
        ("no workers", f"{docs} --workers 0", "--workers"),
        ("passages of none", f"{docs} --chunk-size 0", "--chunk-size"),
        ("nothing to read", "-o {d}/set.json", "give either PATH... or --index"),
        ("documents and an index", f"{docs} --index {{d}}/docs", "give either PATH... or --index"),
        ("no such index", "--index {d}/no -o {d}/set.json", "no is no folder"),
        ("a limit of none", f"{docs} --limit 0", "--limit"),
        ("no such labels", f"{docs} --uncovered-by {{d}}/no.csv", "There is no file .*no.csv"),
    )
    yield from _lines(
        "generate",
        ("another model", f"{docs} --llm claude", "'claude'; expected openai:NAME"),
        ("no key", docs, "needs OPENAI_API_KEY"),
        named=True,
    )


def _demo() -> Iterator[BadInput]:
    yield from _lines(
        "demo",
        ("too few questions", "--pairs 3 -o {d}/new", "--pairs"),
        ("a negative seed", "--seed -1 -o {d}/new", "--seed"),
        ("a file to write to", "-o {d}/file.txt", "file.txt is a file"),
        ("a folder as store", "--store {d}/mine -o {d}/new", "mine is a folder"),
        ("an unknown option", "--pair 30", "--pair"),
    )
