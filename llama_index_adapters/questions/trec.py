"""TREC qrels and BEIR folders: question sets as the benchmarks of retrieval keep them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidDatasetError, InvalidFileError, InvalidOptionError
from llama_index_adapters.files.atomic import replace_directory, write_text
from llama_index_adapters.files.text import lines_of, parse_json, read_text
from llama_index_adapters.questions.combine import merge_datasets
from llama_index_adapters.questions.logs import kind_of
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    Questions,
    as_dataset,
)
from llama_index_adapters.questions.views import AnyQuestions, relevance_of
from llama_index_adapters.retrieval.vector_dataset import VectorDataset

logger = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]
_QRELS = "expected TREC qrels, a line for each judgement: query id, 0, document id, grade"
_BEIR = "expected a folder of BEIR: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
_BEIR_QRELS = "expected a line for each judgement: query id, corpus id and score, with tabs between"
_GRADE = re.compile(r"[+-]?[0-9]{1,9}")
_SPLIT = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"\s")


def read_qrels(path: str | PathLike[str]) -> Qrels:
    """Read TREC qrels, as trec_eval does: ``query-id iteration document-id grade`` a line.

    Returns:
        ``{query id: {document id: grade}}`` in the order of the file. A document with a grade below
        1 does not answer, and is left out.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a line of another form, or two for one document and query.
        InvalidDatasetError: when no document answers any query.
    """
    path = as_path(path, "path")
    judged: Qrels = {}
    for number, line in enumerate(lines_of(read_text(path, _QRELS)), start=1):
        fields = line.split()
        if fields:
            if len(fields) != 4:
                raise InvalidFileError(f"{path}, line {number} has {len(fields)} fields; {_QRELS}.")
            _judge(judged, fields[0], fields[2], fields[3], f"{path}, line {number}")
    return _answered(judged, str(path))


def write_qrels(dataset: AnyQuestions, path: str | PathLike[str]) -> None:
    """Write which passages answer which queries of a set as TREC qrels.

    Raises:
        InvalidDatasetError: for an id with white space in it, which qrels cannot have.
        InvalidFileError: when ``path`` is a directory.
    """
    lines = []
    for query_id, node_id, grade in _judgements(dataset):
        for name in (query_id, node_id):
            if not name or _SPACE.search(name):
                raise InvalidDatasetError(
                    f"The id {name!r} is empty or has white space in it, which would be two "
                    "fields in qrels. Give it another, or write a BEIR folder."
                )
        lines.append(f"{query_id} 0 {node_id} {grade}\n")
    write_text(as_path(path, "path"), "".join(lines))


def read_beir(folder: str | PathLike[str], split: str = "test") -> EmbeddingQAFinetuneDataset:
    """Read a question set from a folder as BEIR has them (Thakur et al., arXiv:2104.08663).

    A passage is its title and its text with a space between, as BEIR's own models embed it.
    Passages without either are left out with a warning, where no query needs them. Only queries
    with an answer in the split are kept.

    Args:
        folder: has ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``,
            ``text``) and ``qrels/SPLIT.tsv`` (query id, corpus id, score).
        split: which of the qrels: ``"train"``, ``"dev"`` or ``"test"``, most often.

    Raises:
        InvalidOptionError: for a split that no file can be named after.
        MissingFileError: when a file is not there.
        InvalidFileError: for a line of another form.
        InvalidDatasetError: when the parts do not fit together.
    """
    folder = as_path(folder, "folder")
    qrels = folder / "qrels" / f"{_checked_split(split)}.tsv"
    answers = _beir_answers(qrels)
    corpus = dict(_texts(folder / "corpus.jsonl"))
    queries = {name: text for name, text in _texts(folder / "queries.jsonl") if name in answers}
    needed = {node_id for graded in answers.values() for node_id in graded}
    empty = [name for name, text in corpus.items() if not text.strip() and name not in needed]
    if empty:
        logger.warning(
            "%d passages of %s have neither title nor text; they are left out.", len(empty), folder
        )
    for name in empty:
        del corpus[name]
    return EmbeddingQAFinetuneDataset(
        queries=queries,
        corpus=corpus,
        relevant_docs={query_id: list(graded) for query_id, graded in answers.items()},
        grades=answers,
    )


def write_beir(splits: Mapping[str, Questions], folder: str | PathLike[str]) -> None:
    """Write question sets as one folder of BEIR, with a file of qrels for each.

    Args:
        splits: the sets by the name of their split, such as ``{"train": train, "test": test}``.
            Their passages and queries become one corpus and one list of queries.
        folder: a folder that is empty or not there yet.

    Raises:
        InvalidOptionError: for a split that no file can be named after, or none.
        InvalidDatasetError: when an id stands for different texts in two splits, or has a tab or
            a line break in it.
        InvalidFileError: when the folder has something in it, or is a file.
    """
    folder = as_path(folder, "folder")
    if not isinstance(splits, Mapping) or not splits:
        raise InvalidOptionError(
            f"splits is {kind_of(splits)}; give the question sets by name: {{'test': dataset}}."
        )
    parts = {_checked_split(name): as_dataset(part) for name, part in splits.items()}
    whole = merge_datasets(*parts.values())
    for name in (*whole.queries, *whole.corpus):
        if not name or set(name) & set("\t\r\n"):
            raise InvalidDatasetError(
                f"The id {name!r} is empty or has a tab or a line break in it, which a table of "
                "qrels cannot have."
            )
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidFileError(f"{folder} has something in it already. Name a new folder.")
    with replace_directory(folder) as new:
        _write_lines(new / "corpus.jsonl", _records(whole.corpus, title=""))
        _write_lines(new / "queries.jsonl", _records(whole.queries))
        (new / "qrels").mkdir()
        for name, part in parts.items():
            rows = ("\t".join(map(str, row)) for row in _judgements(part))
            _write_lines(new / "qrels" / f"{name}.tsv", ("query-id\tcorpus-id\tscore", *rows))


def _judge(judged: Qrels, query_id: str, node_id: str, grade: str, where: str) -> None:
    if not _GRADE.fullmatch(grade):
        raise InvalidFileError(
            f"{where} has a grade that is no whole number of at most nine digits."
        )
    graded = judged.setdefault(query_id, {})
    if node_id in graded:
        raise InvalidFileError(
            f"{where} judges {node_id!r} for the query {query_id!r} a second time."
        )
    graded[node_id] = int(grade)


def _answered(judged: Qrels, where: str) -> Qrels:
    answers: Qrels = {}
    for query_id, graded in judged.items():
        positive = {node_id: grade for node_id, grade in graded.items() if grade > 0}
        if positive:
            answers[query_id] = positive
    if not answers:
        raise InvalidDatasetError(
            f"{where} has {len(judged)} queries, and none of them has a document with a grade "
            "from 1 on."
        )
    if len(answers) < len(judged):
        logger.warning(
            "%d of %d queries of %s have no document with a grade from 1 on; they are left out.",
            len(judged) - len(answers),
            len(judged),
            where,
        )
    return answers


def _beir_answers(path: Path) -> Qrels:
    judged: Qrels = {}
    for number, line in enumerate(lines_of(read_text(path, _BEIR)), start=1):
        fields = [field.strip() for field in line.split("\t")]
        if not line.strip() or (number == 1 and not _GRADE.fullmatch(fields[-1])):
            continue  # the names of the columns
        if len(fields) != 3:
            raise InvalidFileError(
                f"{path}, line {number} has {len(fields)} fields; {_BEIR_QRELS}."
            )
        query_id, node_id, grade = fields
        _judge(judged, query_id, node_id, grade, f"{path}, line {number}")
    return _answered(judged, str(path))


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield id and text of each line, the title before the text."""
    seen: set[str] = set()
    for number, line in enumerate(lines_of(read_text(path, _BEIR)), start=1):
        if not line.strip(" \t\r"):
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where, "expected a JSON object a line")
        row = row if isinstance(row, dict) else {}
        name, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not (isinstance(name, str) and isinstance(title, str) and isinstance(text, str)):
            raise InvalidFileError(f"{where} is no JSON object with a text for _id and for text.")
        if name in seen:
            raise InvalidFileError(f"{where} has an _id that an earlier line has.")
        seen.add(name)
        yield name, f"{title} {text}".strip() if title else text


def _judgements(dataset: AnyQuestions) -> Iterator[tuple[str, str, int]]:
    """Yield query id, passage id and grade of everything that is relevant."""
    if isinstance(dataset, VectorDataset):
        relevance, queries, passages = dataset.relevance, dataset.query_ids, dataset.passage_ids
    else:
        texts = as_dataset(dataset)
        relevance = relevance_of(texts)
        queries, passages = tuple(texts.queries), tuple(texts.corpus)
    judged = zip(relevance.queries, relevance.passages, relevance.gains, strict=True)
    for query, passage, grade in judged:
        yield queries[query], passages[passage], int(grade)


def _records(texts: Mapping[str, str], **more: str) -> Iterator[str]:
    for name, text in texts.items():
        record: dict[str, Any] = {"_id": name, **more, "text": text}
        yield json.dumps(record, ensure_ascii=False)


def _write_lines(path: Path, lines: Any) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _checked_split(split: object) -> str:
    if not isinstance(split, str) or not _SPLIT.fullmatch(split):
        raise InvalidOptionError(
            f"split is {kind_of(split)}; give the name of a file of qrels without .tsv, such as "
            "'test'."
        )
    return split
