"""Wrong question sets, logs, splits and nodes to ask about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.schema import TextNode

from llama_index_adapters import (
    EmbeddingQAFinetuneDataset,
    agenerate_qa_embedding_pairs,
    generate_qa_embedding_pairs,
    merge_datasets,
    read_beir,
    read_feedback,
    read_grades,
    read_qrels,
    read_queries,
    sample_queries,
    split_by_passage,
    split_by_query,
    write_beir,
    write_qrels,
)
from llama_index_adapters.errors import (
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
    MissingFileError,
    UnwritableFileError,
)
from tests.bad_inputs.rows import GOOD, BadInput, Call, holds, rows
from tests.fakes import ScriptedLLM, synonym_questions

ROW = '{"query": "q", "node_id": "a", "clicked": 1}\n'
NOT_A_SET = "without queries, corpus, relevant_docs is not a question set"


def table() -> Iterator[BadInput]:
    yield from _sets()
    yield from _files()
    yield from _parts()
    yield from _logs()
    yield from _grades()
    yield from _trec()
    yield from _generation()


def _set(**changes: Any) -> Call:
    return lambda _: EmbeddingQAFinetuneDataset(**{**GOOD, **changes})


def _sets() -> Iterator[BadInput]:
    yield from rows(
        "EmbeddingQAFinetuneDataset",
        InvalidDatasetError,
        ("nothing", _set(queries={}, corpus={}, relevant_docs={}), "is empty: it has no quer"),
        ("an empty corpus", _set(corpus={}), "no passages in the corpus"),
        ("a list", _set(queries=["why?"]), "queries: Input should be a valid dict"),
        ("numbers for texts", _set(queries={"q": 1}), r"queries\['q'\]: Input should be a valid"),
        ("None for texts", _set(corpus={"p": None}), r"corpus\['p'\]: Input should be a valid"),
        ("bytes that are not UTF-8", _set(queries={"q": b"\xff"}), "missing or of a wrong type"),
        ("an unknown passage", _set(relevant_docs={"q": ["x"], "r": ["s"]}), "corpus: 'x'"),
        (
            "an unknown query",
            _set(relevant_docs={**GOOD["relevant_docs"], "x": ["p"]}),
            "not in queries: 'x'",
        ),
        ("a query without relevance", _set(relevant_docs={"q": ["p"]}), "without a relevant pass"),
        ("one id for a list", _set(relevant_docs={"q": "p"}), "Input should be a valid list"),
        ("an empty text", _set(corpus={"p": " ", "s": "two"}), "with an empty text: 'p'"),
        ("an unknown field", _set(corpsu={}), "corpsu"),
        ("half an emoji", _set(queries={"q": "\ud83d", "r": "how?"}), "half of a surrogate pair"),
    )
    good = EmbeddingQAFinetuneDataset(**GOOD)
    name = "EmbeddingQAFinetuneDataset.save_json"
    yield from rows(name, InvalidFileError, ("a directory", good.save_json, "is a directory"))
    yield from rows(
        name,
        UnwritableFileError,
        ("a file for a folder", lambda d: good.save_json(d / "file/set.json"), "cannot be written"),
        given=holds("file", "mine"),
    )


def _files() -> Iterator[BadInput]:
    name = "EmbeddingQAFinetuneDataset.from_json"
    for wrong, data, text in (
        ("an empty file", b"", "is not JSON"),
        ("truncated JSON", b'{"queries": {"q": "wh', "is not JSON"),
        ("a file that is not UTF-8", b'{"queries": {"q": "\xff"}}', "is not UTF-8 text"),
        ("UTF-16", "{}".encode("utf-16"), "is not UTF-8 text"),
        ("a JSON list", b"[]", "holds a JSON list"),
        ("a number of too many digits", b"9" * 5000, "is not JSON"),
        ("ten thousand brackets", b"[" * 10_000, "is not JSON"),
        ("missing keys", b"{}", "3 values are missing"),
    ):
        yield from rows(
            name,
            InvalidFileError,
            (wrong, lambda d: EmbeddingQAFinetuneDataset.from_json(d / "set.json"), text),
            given=holds("set.json", data),
        )
    read = EmbeddingQAFinetuneDataset.from_json
    yield from rows(name, InvalidFileError, ("a directory", read, "is a directory"))
    missing = "There is no file .*; expected queries"
    yield from rows(name, MissingFileError, ("no file", lambda d: read(d / "no"), missing))
    none: Any = None
    yield from rows(name, InvalidOptionError, ("None", lambda _: read(none), "path is None"))


def _parts() -> Iterator[BadInput]:
    good: Any = EmbeddingQAFinetuneDataset(**GOOD)
    for split in (split_by_query, split_by_passage):
        for wrong, fractions in (
            ("a negative share", (1.5, -0.5)),
            ("no share", ()),
            ("shares above 1", (0.8, 0.8)),
            ("NaN", (float("nan"), 0.5)),
            ("words", "ab"),
            ("None", None),
        ):
            call = partial(split, synonym_questions(3), fractions)
            text = "expected two or more positive numbers"
            yield from rows(
                split.__name__, InvalidOptionError, (wrong, lambda _, c=call: c(), text)
            )
        for seed in (-1, "one", 1.5, 2**63):
            call = partial(split, good, (0.5, 0.5), seed=seed)
            case = (f"seed={seed!r}", lambda _, c=call: c(), "seed is .*; give a whole number")
            yield from rows(split.__name__, InvalidOptionError, case)
        yield from rows(
            split.__name__,
            InvalidDatasetError,
            ("a path", lambda _, s=split: s("a.json"), NOT_A_SET),
            ("too many sides", lambda _, s=split: s(good, (0.4, 0.3, 0.3)), "too few for 3 sides"),
        )
    other = {**GOOD, "queries": {"q": "another", "r": "how?"}}
    name = "merge_datasets"
    yield from rows(name, InvalidOptionError, ("nothing", lambda _: merge_datasets(), "no dataset"))
    yield from rows(
        name,
        InvalidDatasetError,
        ("a path", lambda _: merge_datasets("a.json"), NOT_A_SET),
        ("a list of sets", lambda _: merge_datasets([GOOD, GOOD]), "A list without queries"),
        ("one id with two texts", lambda _: merge_datasets(GOOD, other), "query id 'q' stands for"),
    )
    name = "sample_queries"
    yield from rows(name, InvalidDatasetError, ("None", lambda _: sample_queries(None, 1), "None"))
    for wrong, options, text in (
        ("n=0", {"n": 0}, "n is 0; give a whole number from 1 on"),
        ("n=-1", {"n": -1}, "n is -1"),
        ("n=1.5", {"n": 1.5}, "n is 1.5"),
        ("n='2'", {"n": "2"}, "n is '2'"),
        ("a negative seed", {"n": 1, "seed": -1}, "seed is -1"),
        ("a word as seed", {"n": 1, "seed": "x"}, "seed is 'x'"),
    ):
        call = partial(sample_queries, GOOD, **options)
        yield from rows(name, InvalidOptionError, (wrong, lambda _, c=call: c(), text))


def _logs() -> Iterator[BadInput]:
    feedback: Any = read_feedback
    queries: Any = read_queries
    broken = (
        ("an empty file", "log.jsonl", b"", InvalidDatasetError, "None of the 0 rows|no queries"),
        ("truncated JSON", "log.jsonl", b'{"query":', InvalidFileError, "line 1 is not JSON"),
        ("a list a line", "log.jsonl", b"[]", InvalidFileError, "line 1 is not a JSON object"),
        ("too many digits", "log.jsonl", b"9" * 5000, InvalidFileError, "line 1 is not JSON"),
        ("brackets", "log.jsonl", b"[" * 10_000, InvalidFileError, "line 1 is not JSON"),
        ("other bytes", "log.jsonl", b'{"query": "\xff"}', InvalidFileError, "is not UTF-8 text"),
        ("UTF-16", "log.csv", "query\nq\n".encode("utf-16"), InvalidFileError, "is not UTF-8 text"),
        ("an open quote", "log.csv", b'query\n"q', InvalidFileError, "is not CSV"),
        ("text behind a quote", "log.csv", b'query\n"q"q', InvalidFileError, "is not CSV"),
        ("a key twice", "log.jsonl", b'{"query": "", "query": "q"}', InvalidFileError, "twice in"),
        ("a column twice", "log.csv", b"query,query\n", InvalidFileError, "names a column twice"),
        ("a table", "log.xlsx", b"", InvalidOptionError, r"ends in '.xlsx'; expected a log in"),
    )
    for read in (feedback, queries):
        for wrong, name, data, error, text in broken:
            call = partial(lambda r, n, d: r(d / n), read, name)
            yield from rows(read.__name__, error, (wrong, call, text), given=holds(name, data))
        yield from rows(
            read.__name__,
            InvalidFileError,
            ("a directory", lambda d, r=read: r(d / "logs.csv"), "is a directory; expected"),
            given=lambda d: (d / "logs.csv").mkdir(),
        )
        yield from rows(
            read.__name__,
            InvalidFileError,
            ("a file for a folder", lambda d, r=read: r(d / "file/log.csv"), "cannot be read"),
            given=holds("file", ""),
        )
        yield from rows(
            read.__name__,
            MissingFileError,
            ("no file", lambda d, r=read: r(d / "no.csv"), "There is no file .*no.csv; expected"),
        )
        yield from rows(
            read.__name__, InvalidOptionError, ("None", lambda _, r=read: r(None), "path is None")
        )
    for wrong, data, options, error, text in (
        ("no verdict", '{"query": "q", "node_id": "a"}', {}, InvalidFileError, "no 'feedback'"),
        ("no node", '{"query": "q", "clicked": 1}', {}, InvalidFileError, "no 'node_id'"),
        ("another column", ROW, {"query": "text"}, InvalidFileError, "line 1 has no 'text'"),
        ("an empty query", ROW.replace('"q"', '" "'), {}, InvalidFileError, "is an empty text"),
        ("a number as node", ROW.replace('"a"', "3"), {}, InvalidFileError, "node id of type int"),
        ("an unknown value", ROW.replace("1", "7"), {}, InvalidFileError, "clicked is 7, which"),
        ("NaN", ROW.replace("1", "NaN"), {}, InvalidFileError, "clicked is nan, which"),
        ("nothing relevant", ROW.replace("1", "0"), {}, InvalidDatasetError, "None of the 1 rows"),
        ("one word", ROW, {"relevant": "1"}, InvalidOptionError, "relevant is '1'; give a list"),
        ("one number", ROW, {"relevant": 1}, InvalidOptionError, "relevant is 1; give a list"),
    ):
        call = partial(lambda o, d: feedback(d / "log.jsonl", **o), options)
        yield from rows("read_feedback", error, (wrong, call, text), given=holds("log.jsonl", data))
    for wrong, name, data, error, text in (
        ("a text of no lines", "log.txt", b" \n", InvalidDatasetError, "has no queries"),
        ("bytes for text", "log.txt", b"\xff", InvalidFileError, "is not UTF-8 text"),
        ("no column", "log.csv", b"text\nq\n", InvalidFileError, "line 2 has no text 'query'"),
    ):
        call = partial(lambda n, d: queries(d / n), name)
        yield from rows("read_queries", error, (wrong, call, text), given=holds(name, data))


def _grades() -> Iterator[BadInput]:
    read: Any = read_grades
    row = '{"query": "q", "node_id": "a", "grade": 2}\n'
    for wrong, data, error, text in (
        ("no grade", row.replace("grade", "stars"), InvalidFileError, "line 1 has no 'grade'"),
        ("half a grade", row.replace("2", "2.5"), InvalidFileError, "grade is 2.5; expected a wh"),
        ("a word", row.replace("2", '"good"'), InvalidFileError, "grade is 'good'; expected"),
        ("ten digits", row.replace("2", "2" * 10), InvalidFileError, "expected a whole number"),
        ("infinity", row.replace("2", "Infinity"), InvalidFileError, "grade is inf; expected"),
        ("an empty query", row.replace('"q"', '" "'), InvalidFileError, "is an empty text"),
        ("nothing relevant", row.replace("2", "0"), InvalidDatasetError, "None of the 1 rows"),
        ("truncated JSON", row[:20], InvalidFileError, "line 1 is not JSON"),
    ):
        call = partial(lambda d: read(d / "log.jsonl"))
        yield from rows("read_grades", error, (wrong, call, text), given=holds("log.jsonl", data))
    missing = "There is no file .*no.csv; expected"
    yield from rows(
        "read_grades", MissingFileError, ("no file", lambda d: read(d / "no.csv"), missing)
    )
    yield from rows(
        "read_grades", InvalidOptionError, ("None", lambda _: read(None), "path is None")
    )


def _trec() -> Iterator[BadInput]:
    for wrong, data, error, text in (
        ("three fields", "q 0 d\n", InvalidFileError, "line 1 has 3 fields; expected TREC qrels"),
        ("a grade in words", "q 0 d good\n", InvalidFileError, "line 1 has a grade that is no wh"),
        ("half a grade", "q 0 d 1.5\n", InvalidFileError, "line 1 has a grade that is no whole"),
        ("a judgement twice", "q 0 d 1\nq 0 d 2\n", InvalidFileError, "'q' a second time"),
        ("nothing relevant", "q 0 d 0\n", InvalidDatasetError, "none of them has a document"),
        ("nothing", "", InvalidDatasetError, "has 0 queries"),
        ("other bytes", b"\xff", InvalidFileError, "is not UTF-8 text"),
    ):
        call = partial(lambda d: read_qrels(d / "q"))
        yield from rows("read_qrels", error, (wrong, call, text), given=holds("q", data))
    no_file = ("no file", lambda d: read_qrels(d / "no"), "There is no file")
    yield from rows("read_qrels", MissingFileError, no_file)

    spaced = {**GOOD, "corpus": {"p": "one", "s t": "two"}, "relevant_docs": {"q": ["s t"]}}
    spaced["queries"] = {"q": "why?"}
    yield from rows(
        "write_qrels",
        InvalidDatasetError,
        ("an id with a space", lambda d: write_qrels(spaced, d / "q"), "'s t' is empty or has wh"),
        ("no set", lambda d: write_qrels([], d / "q"), "A list without queries"),
    )
    yield from rows(
        "write_qrels",
        InvalidFileError,
        ("a directory", lambda d: write_qrels(GOOD, d), "is a directory"),
    )
    for wrong, name, data, text in (
        ("no object", "corpus.jsonl", "[]", "corpus.jsonl, line 1 is no JSON object"),
        ("no text", "corpus.jsonl", '{"_id": "p"}', "line 1 is no JSON object with a text for _id"),
        ("a number as id", "queries.jsonl", '{"_id": 1, "text": "why?"}', "is no JSON object"),
        ("truncated JSON", "queries.jsonl", '{"_id": ', "line 1 is not JSON"),
        ("an id twice", "queries.jsonl", '{"_id": "q", "text": "x"}\n' * 2, "line 2 has an _id"),
        ("two columns", "qrels/test.tsv", "q\tp\nq\tp\n", "line 2 has 2 fields"),
        ("no grade", "qrels/test.tsv", "q\tp\t1\nq\ts\tgood\n", "line 2 has a grade that is no"),
    ):
        call = partial(lambda d: read_beir(d))
        given = partial(_beir_with, name, data)
        yield from rows("read_beir", InvalidFileError, (wrong, call, text), given=given)
    given = partial(_beir_with, "qrels/test.tsv", "q\tx\t1\n")
    unknown = ("an unknown passage", lambda d: read_beir(d), "not in the corpus: 'x'")
    yield from rows("read_beir", InvalidDatasetError, unknown, given=given)
    yield from rows(
        "read_beir", MissingFileError, ("no folder", lambda d: read_beir(d / "no"), "no file")
    )
    for split in ("", "../up", "a/b", None, 3):
        case = (f"split={split!r}", partial(lambda s, d: read_beir(d, s), split), "split is ")
        yield from rows("read_beir", InvalidOptionError, case)

    tab = {**GOOD, "queries": {"q\t": "why?"}, "relevant_docs": {"q\t": ["p"]}}
    for wrong, splits, error, text in (
        ("no split", {}, InvalidOptionError, "give the question sets by name"),
        ("one set", [GOOD], InvalidOptionError, "give the question sets by name"),
        ("a path as split", {"../up": GOOD}, InvalidOptionError, "split is "),
        ("a tab in an id", {"test": tab}, InvalidDatasetError, "has a tab or a line break in it"),
    ):
        call = partial(lambda s, d: write_beir(s, d / "new"), splits)
        yield from rows("write_beir", error, (wrong, call, text))
    yield from rows(
        "write_beir",
        InvalidFileError,
        ("a full folder", lambda d: write_beir({"test": GOOD}, d), "has something in it already"),
        ("a file", lambda d: write_beir({"test": GOOD}, d / "mine"), "is a file"),
        given=holds("mine", "years of work"),
    )


def _beir_with(name: str, data: str, directory: Path) -> None:
    write_beir({"test": GOOD}, directory / "made")
    for path in [*(directory / "made").rglob("*")]:
        if path.is_file():
            target = directory / path.relative_to(directory / "made")
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    (directory / name).write_text(data)


def _generated(way: Callable[..., Any], nodes: Any, options: dict[str, Any], d: Path) -> object:
    defaults = {"llm": ScriptedLLM(), "verbose": False, "output_path": d / "set.json"}
    found = way(nodes, **{**defaults, **options})
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


def _generation() -> Iterator[BadInput]:
    node = TextNode(id_="n", text="text")
    twice = [node, TextNode(id_="n", text="other")]
    for way in (generate_qa_embedding_pairs, agenerate_qa_embedding_pairs):
        for wrong, nodes, options, error, text in (
            ("no nodes", [], {}, InvalidDatasetError, "nothing to ask about"),
            ("None", None, {}, InvalidDatasetError, "nodes is of type NoneType"),
            ("one node", node, {}, InvalidDatasetError, "nodes is of type TextNode"),
            ("texts for nodes", ["text"], {}, InvalidDatasetError, r"nodes\[0\] is a str"),
            ("empty nodes", [TextNode(text=" ")], {}, InvalidDatasetError, "none of them with te"),
            ("duplicate ids", twice, {}, InvalidDatasetError, "have the id 'n'"),
            ("a name as model", [node], {"llm": "gpt"}, InvalidOptionError, "llm is of type str"),
            ("no questions", [node], {"num_questions_per_chunk": 0}, InvalidOptionError, "from 1"),
            ("workers=-1", [node], {"num_workers": -1}, InvalidOptionError, "num_workers is -1"),
            ("retries as text", [node], {"retry_limit": "3"}, InvalidOptionError, "is '3'"),
            ("save_every=0", [node], {"save_every": 0}, InvalidOptionError, "save_every is 0"),
            ("another word", [node], {"on_failure": "stop"}, InvalidOptionError, "is 'stop'"),
            ("no id", [node], {"ask_about": []}, InvalidOptionError, "ask_about is of type list"),
            ("one id", [node], {"ask_about": "n"}, InvalidOptionError, "ask_about is of type str"),
            ("an id of none", [node], {"ask_about": ["x"]}, InvalidOptionError, "such as 'x'"),
            ("no passage", [node], _prompt("{x}"), InvalidOptionError, "nothing is known for"),
            ("an open brace", [node], _prompt("{"), InvalidOptionError, "is not a template"),
            ("a number as prompt", [node], _prompt(3), InvalidOptionError, "is not a template"),
            ("a number as path", [node], {"output_path": 3}, InvalidOptionError, "output_path is"),
            (
                *("a file for a folder", [node], {"output_path": "/dev/null/set.json"}),
                *(UnwritableFileError, "where questions are kept, cannot be written"),
            ),
        ):
            call = partial(_generated, way, nodes, options)
            yield from rows(way.__name__, error, (wrong, call, text))
        call = partial(_generated, way, [node], {})
        yield from rows(
            way.__name__,
            InvalidFileError,
            ("another file's path", call, "Questions cannot be added to it"),
            given=holds("set.json", "[]"),
        )
        graded = json.dumps({**GOOD, "grades": {"q": {"p": 2}}})
        yield from rows(
            way.__name__,
            InvalidFileError,
            ("a graded set", call, "has grades, which would be lost"),
            given=holds("set.json", graded),
        )


def _prompt(template: Any) -> dict[str, Any]:
    return {"qa_generate_prompt_tmpl": template}
