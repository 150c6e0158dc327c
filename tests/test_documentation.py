from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from llama_index_adapters.demo import documentation
from llama_index_adapters.demo.documentation import (
    Entry,
    distinct,
    documentation_dataset,
    question_and_passage,
)
from llama_index_adapters.demo.modules import module_questions
from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset

DETAILS = (
    "The path is followed to its end before anything happens, so a loop of links is found\n"
    "early. Errors of the operating system reach the caller unless told otherwise."
)


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def plain_entries(count: int) -> list[Entry]:
    """Return entries that pass every rule and share no run of words."""
    return [
        Entry(
            f"library.item{row}",
            "(size)",
            f"Measure{row} the depth{row} of some lake{row}.\n\n"
            + " ".join(f"detail{row}x{column}" for column in range(20)),
        )
        for row in range(count)
    ]


def test_summary_becomes_the_question_and_the_rest_the_passage() -> None:
    entry = Entry(
        "shutil.rmtree",
        "(path, ignore_errors=False)",
        "Recursively delete a\n    :class:`~os.directory` ``tree``.  It is final.\n\n    "
        + DETAILS.replace("\n", "\n    "),
    )
    pair = question_and_passage(entry)
    assert pair is not None
    question, passage = pair
    assert question == "Recursively delete a os.directory tree"
    assert passage.startswith("shutil: (path, ignore_errors=False)\n\nIt is final.\n\nThe path is")
    assert "rmtree" not in passage


def test_call_form_at_the_top_is_the_signature_and_not_the_question() -> None:
    for form in (
        "walk(top, *, depth=(0, 9)) -> iterator # noqa\n\n",
        "os.walk(top, *, depth=(0,\n     9)) -> iterator\n",
    ):
        text = f"{form}Visit every folder below one.\n\n{DETAILS}"
        pair = question_and_passage(Entry("os.walk", "", text))
        assert pair is not None
        assert pair[0] == "Visit every folder below one"
        assert pair[1].startswith("os: (top, *, depth=(0, 9)) -> iterator\n\nThe path")


UNFAIR = (
    ("os.walk", "Return every walk below a folder.", DETAILS),
    ("os.Walk", "Return every walk below a folder.", DETAILS),
    ("os.walk", "Return what os.walk_all returns below.", DETAILS),
    ("mail.add_header", "Add a header to the message.", DETAILS + " See add_header."),
    ("shapes.average", "Give the averages of all rows.", DETAILS + " >>> average([1])"),
    ("os.walk", "Visit every folder below one.", DETAILS + " Visit every folder below one."),
    ("os.walk", "Visit every folder.", DETAILS),
    ("os.walk", "Visit every folder below one.", "Short."),
    ("os.walk", "Visit the folders of Málaga now.", DETAILS),
    ("os.walk", "Visit the following folders and files:", DETAILS),
    ("os.walk", "Visit folders where \\text{depth} = 3 holds.", DETAILS),
    ("os.walk", "Alias for the function that visits folders.", DETAILS),
    ("os.walk", "In-place version of visiting folders again.", DETAILS),
    ("os.walk", "Visit every folder (deprecated since 3.2).", DETAILS),
    ("os.walk", "Visit every folder below one.", ".. deprecated:: 3.2\n\n" + DETAILS),
    ("os.DeprecatedWalk", "Visit every folder below one.", DETAILS),
    ("os.walk", "Warning: this visits every folder below one.", DETAILS),
    ("os.walk", "Return a boolean value.", DETAILS),
    ("os.walk", "Visit " + "and visit " * 20 + "every folder.", DETAILS),
)


def test_unfair_entries_are_refused(subtests: pytest.Subtests) -> None:
    fair = Entry("os.scan", "", f"Visit every folder below one.\n\n{DETAILS}")
    assert question_and_passage(fair) is not None
    for name, summary, details in UNFAIR:
        with subtests.test(name, summary=summary):
            assert question_and_passage(Entry(name, "", f"{summary}\n\n{details}")) is None


def test_ordinary_phrase_stays_when_the_passage_does_not_say_it() -> None:
    entry = Entry("mail.add_header", "(key)", f"Add a header to the message.\n\n{DETAILS}")
    assert question_and_passage(entry) is not None


def test_links_with_the_questions_of_others_are_left_out_of_the_passage() -> None:
    text = (
        f"Visit every folder below one.\n\n{DETAILS}\n\nSee Also\n--------\n"
        "scan : List the entries of one folder.\n\nglob : Find names by a pattern.\n\n"
        "Examples\n--------\n>>> 1\n"
    )
    pair = question_and_passage(Entry("os.walk", "", text))
    assert pair is not None
    assert pair[1].endswith("told otherwise.\n\nExamples\n--------\n>>> 1")
    last = question_and_passage(Entry("os.walk", "", text.partition("\n\nExamples")[0]))
    assert last is not None
    assert last[1].endswith("told otherwise.")


def test_long_passages_are_cut_between_words() -> None:
    text = "Visit every folder below one.\n\n" + "longword " * 400
    pair = question_and_passage(Entry("os.walk", "", text))
    assert pair is not None
    assert 1480 < len(pair[1]) <= 1500
    assert pair[1].endswith("longword")


def test_copies_stand_once_and_ambiguous_questions_not_at_all() -> None:
    first, second, third = plain_entries(3)
    alias = Entry("library.alias", "(size)", first.documentation)
    variant = Entry(
        "library.variant", "(other)", first.documentation.replace("Measure0", "Estimate")
    )
    start = " ".join(f"shared{row} beginning{row}" for row in range(50))
    long, long_copy = (
        Entry(
            f"library.{name}",
            "",
            f"Weigh this{name} on some scale.\n\n{start} "
            + " ".join(f"{name[0]}{row}" for row in range(100)),
        )
        for name in ("gold", "lead")
    )
    same_question = Entry(
        "library.rival",
        "",
        f"{second.documentation.partition(chr(10))[0]}\n\n{DETAILS}",
    )
    pairs = distinct([first, alias, variant, second, same_question, third, long, long_copy])
    assert list(pairs) == ["library.item0", "library.item2", "library.gold"]


def test_selection_depends_on_the_seed_and_not_on_the_order_of_entries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entries = plain_entries(40)
    monkeypatch.setattr(documentation, "_entries", lambda show_progress: iter(entries))
    twenty = documentation_dataset(n_pairs=20)
    monkeypatch.setattr(documentation, "_entries", lambda show_progress: reversed(entries))
    ten = documentation_dataset(n_pairs=10)
    assert list(ten.corpus) == list(twenty.corpus)[:10]
    assert list(documentation_dataset(n_pairs=10, seed=1).corpus) != list(ten.corpus)
    assert not caplog.records
    everything = documentation_dataset(n_pairs=50)
    assert len(everything.corpus) == 40
    assert "50 documentation pairs were asked for, 40 exist" in caplog.text


def test_sources_are_parsed_without_import_and_missing_libraries_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def define(name: str, summary: str, detail: str) -> str:
        return f'def {name}(a: int, b=2) -> str:\n    """{summary}\n\n    {detail * 30}\n    """\n'

    public = (
        "raise RuntimeError('imported')\n"
        "class Walker:\n"
        + "".join(
            f"    {line}\n"
            for line in define("stroll", "Go slowly along this road.", "slow ").splitlines()
        )
        + define("_hidden", "Go where nobody ever looks.", "hidden ")
    )
    (tmp_path / "roads.py").write_text(public.replace("(a: int", "(self, a: int"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(
        define("sprint", "Go quickly along this road.", "quick ")
    )
    (tmp_path / "broken.py").write_text("def (")
    for place in ("test/inside.py", "_private/inside.py", "_private.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(define("other", "Go nowhere and be quiet.", f"{place} "))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(documentation, "NAMESPACES", ("numpy.linalg", "torch.Tensor"))
    for library in ("numpy", "torch"):
        monkeypatch.setitem(sys.modules, library, None)
    with caplog.at_level(logging.INFO):
        dataset = documentation_dataset(n_pairs=2)
    assert sorted(dataset.corpus) == ["package.sprint", "roads.Walker.stroll"]
    assert dataset.corpus["roads.Walker.stroll"].startswith(
        "roads.Walker: (a: int, b=2) -> str\n\nslow slow"
    )
    assert dataset.queries["find package.sprint"] == "Go quickly along this road"
    assert "numpy is not installed: its documentation is left out" in caplog.text
    assert "torch is not installed: its documentation is left out" in caplog.text
    assert "torch.Tensor cannot be imported and is left out" in caplog.text
    assert "broken.py cannot be read and is left out" in caplog.text


def test_c_functions_are_read_by_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "_source_roots", lambda: iter(()))
    monkeypatch.setattr(documentation, "NAMESPACES", ("itertools", "numpy", "torch.Tensor"))
    corpus = documentation_dataset().corpus
    assert {"itertools.groupby", "numpy.arange", "torch.Tensor.record_stream"} <= corpus.keys()
    assert corpus["numpy.arange"].startswith("numpy: (")


def test_impossible_requests_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidOptionError, match="n_pairs is 0; give a whole number from 1 on"):
        documentation_dataset(n_pairs=0)
    monkeypatch.setattr(documentation, "_entries", lambda show_progress: iter(()))
    with pytest.raises(InvalidDatasetError, match="stripped of its docstrings"):
        documentation_dataset()


PROGRAM = """
import sys
{first}
from llama_index_adapters.demo import documentation
{limit}
documentation.documentation_dataset().save_json(sys.argv[1])
"""
# Two packages of source and two namespaces instead of all that is installed.
LIMIT = """
import email, json
from pathlib import Path
roots = [(module.__name__, Path(module.__file__).parent) for module in (email, json)]
documentation._source_roots = lambda: iter(roots)
documentation.NAMESPACES = ("itertools", "numpy.linalg", "numpy.fft")
"""


def two_runs(folder: Path, limit: str = "") -> list[bytes]:
    """Build a set in two processes that hash and import differently."""
    runs = []
    for hash_seed, first in (("1", ""), ("2", "import decimal, xml.dom.minidom")):
        path = folder / f"{hash_seed}.json"
        program = PROGRAM.format(first=first, limit=limit)
        command = [sys.executable, "-W", "error", "-c", program, str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        runs.append((path, subprocess.Popen(command, env=environment, cwd=folder)))
    for _, process in runs:
        assert process.wait() == 0
    return [path.read_bytes() for path, _ in runs]


def check_fair(dataset: EmbeddingQAFinetuneDataset) -> None:
    assert dataset.relevant_docs == {f"find {name}": [name] for name in dataset.corpus}
    questions = [words(dataset.queries[f"find {name}"]) for name in dataset.corpus]
    assert len(set(questions)) == len(set(dataset.corpus.values())) == len(questions)
    for (name, passage), question in zip(dataset.corpus.items(), questions, strict=True):
        assert 4 <= len(question.split()) <= 40
        assert 120 <= len(passage) <= 1500
        assert question not in words(passage)
        short_name = name.rpartition(".")[2].lower()
        assert short_name not in question.split()
        assert short_name not in re.findall(r"\w+", dataset.queries[f"find {name}"].lower())
        assert not re.search(r"^\S+: \(.* at 0x", passage)


def test_two_processes_build_the_same_bytes_and_a_fair_set(tmp_path: Path) -> None:
    one, other = two_runs(tmp_path, LIMIT)
    assert one == other
    dataset = EmbeddingQAFinetuneDataset.from_json(tmp_path / "1.json")
    assert len(dataset.corpus) > 20
    libraries = {name.partition(".")[0] for name in dataset.corpus}
    assert libraries == {"email", "itertools", "json", "numpy"}
    check_fair(dataset)


@pytest.mark.slow
def test_so_does_the_real_one(tmp_path: Path) -> None:
    one, other = two_runs(tmp_path)
    assert one == other
    dataset = EmbeddingQAFinetuneDataset.from_json(tmp_path / "1.json")
    assert 2000 < len(dataset.corpus) <= 3000
    libraries = {name.partition(".")[0] for name in dataset.corpus}
    assert {"numpy", "torch", "os", "email"} <= libraries
    check_fair(dataset)


def test_questions_about_modules_are_answered_by_the_module_they_stand_in():
    questions = module_questions()
    assert len(questions.queries) > 400
    assert len(questions.corpus) < 300
    assert questions.queries["ftplib.FTP.set_debuglevel"] == "Set the debugging level"
    assert questions.corpus["ftplib"].startswith("An FTP client class")
    for name, answers in questions.relevant_docs.items():
        (module,) = answers
        assert name.startswith(f"{module}.")
        assert module in questions.corpus
        assert questions.queries[name] not in questions.corpus[module]
