"""A question set: queries, the passages that answer them, and the corpus to search."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from llama_index.core.bridge.pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from llama_index_adapters.checks import as_path
from llama_index_adapters.display.html import cut, facts, table
from llama_index_adapters.errors import InvalidDatasetError, InvalidFileError
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.files.text import is_encodable, parse_json, read_text

_EXPECTED = (
    "expected queries {query id: text}, corpus {passage id: text} and "
    "relevant_docs {query id: [passage ids]}"
)
_CUT = "with half of a surrogate pair in the text, which no model can encode"
_CUT_ADVICE = "Leave them out, or mend the text."
_SHOWN = 3
Grades = dict[str, dict[str, int]]
# A whole number: pydantic would take "2" and True for one otherwise.
Grade = Annotated[int, Field(strict=True, ge=1)]
_SHOWN_IN_NOTEBOOK = 5
_Self = TypeVar("_Self", bound="EmbeddingQAFinetuneDataset")


class QuestionSet(Protocol):
    """What a question set has: LlamaIndex's three mappings, under LlamaIndex's names."""

    @property
    def queries(self) -> Mapping[str, str]:
        """The text of each query, by query id."""

    @property
    def corpus(self) -> Mapping[str, str]:
        """The text of each passage, by passage id."""

    @property
    def relevant_docs(self) -> Mapping[str, Collection[str]]:
        """The ids of the passages that answer each query, by query id."""


# What is taken wherever texts of questions are: an object with the mappings, or a mapping of them.
Questions = QuestionSet | Mapping[str, Any]


class QuestionMappings(BaseModel):
    """The three mappings of LlamaIndex's question-set JSON, checked for their types alone.

    Attributes:
        queries: the text of each query, by query id.
        corpus: the text of each passage, by passage id.
        relevant_docs: the ids of the passages that answer each query, by query id.
        mode: LlamaIndex's name for the kind of passages.
        grades: how well they do, where that was judged: ``{query id: {passage id: grade}}``.
    """

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, list[str]]
    mode: str = "text"
    grades: dict[str, dict[str, Grade]] = Field(default_factory=dict)

    @field_validator("relevant_docs", mode="before")
    @classmethod
    def _order_sets(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            key: sorted(ids, key=str) if isinstance(ids, (set, frozenset)) else ids
            for key, ids in value.items()
        }

    @field_validator("relevant_docs")
    @classmethod
    def _drop_repeated_ids(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        return {query_id: list(dict.fromkeys(ids)) for query_id, ids in value.items()}

    @field_validator("grades")
    @classmethod
    def _drop_ones(cls, value: Grades) -> Grades:
        above = {
            query_id: {passage: grade for passage, grade in graded.items() if grade > 1}
            for query_id, graded in value.items()
        }
        return {query_id: graded for query_id, graded in above.items() if graded}


class EmbeddingQAFinetuneDataset(QuestionMappings):
    """A question set in which queries, corpus and relevance fit together.

    The names and the JSON are LlamaIndex's, but for ``grades``, which LlamaIndex passes over. A
    query may have several relevant passages; all of them are kept, each once, in the order given.

    Attributes:
        queries: the text of each query, by query id.
        corpus: the text of each passage, by passage id.
        relevant_docs: the ids of the passages that answer each query, by query id; at least one.
        mode: LlamaIndex's name for the kind of passages.
        grades: how well a passage answers, ``{query id: {passage id: grade}}``; a relevant passage
            that is not there has grade 1, and what is given as 1 is left out. nDCG gains the grade,
            as trec_eval does, and training weighs a passage by it.

    Raises:
        InvalidDatasetError: for a wrong type, unknown ids, a query without a relevant passage,
            an empty text, a text that cannot be encoded (with half of an emoji) or an empty set.
            The message names the first offenders and their number.

    Example:
        >>> dataset = EmbeddingQAFinetuneDataset(
        ...     queries={"q1": "How long is the warranty?"},
        ...     corpus={"n1": "The warranty lasts two years."},
        ...     relevant_docs={"q1": ["n1"]},
        ... )
        >>> dataset.query_docid_pairs
        [('How long is the warranty?', ['n1'])]
    """

    model_config = ConfigDict(extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _dataset_error(error) from None

    @classmethod
    def model_validate(cls: type[_Self], obj: Any, **options: Any) -> _Self:
        """Validate as pydantic does, but raise :class:`InvalidDatasetError`."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise _dataset_error(error) from None

    @classmethod
    def model_validate_json(
        cls: type[_Self], json_data: str | bytes | bytearray, **options: Any
    ) -> _Self:
        """Validate JSON text as pydantic does, but raise :class:`InvalidDatasetError`.

        A key that occurs twice in one object is refused; pydantic would take the last.
        """
        if not isinstance(json_data, str | bytes | bytearray):
            return cls.model_validate(json_data, **options)
        try:
            content = _parsed(json_data, "The JSON text", _EXPECTED)
        except InvalidFileError as error:
            raise InvalidDatasetError(str(error)) from error.__cause__
        return cls.model_validate(content, **options)

    @model_validator(mode="after")
    def _fit_together(self: _Self) -> _Self:
        problems = _problems(self)
        if problems:
            raise InvalidDatasetError(" ".join(problems))
        return self

    @property
    def query_docid_pairs(self) -> list[tuple[str, list[str]]]:
        """The text of each query with the ids of its relevant passages."""
        return [(text, self.relevant_docs[query_id]) for query_id, text in self.queries.items()]

    def __repr__(self) -> str:
        """Say how much there is, without the texts."""
        return (
            f"{type(self).__name__}({len(self.queries):,} queries, {len(self.corpus):,} passages)"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the counts and the first questions with their passages, for a notebook."""
        first = list(self.query_docid_pairs)[:_SHOWN_IN_NOTEBOOK]
        rows = [(cut(text), cut(self.corpus[ids[0]])) for text, ids in first]
        title = facts(
            type(self).__name__,
            {
                "queries": len(self.queries),
                "passages": len(self.corpus),
                "relevant passages a query": f"{self._mean_relevant():.2f}",
            },
        )
        return title + table(("query", "a relevant passage"), rows)

    def _mean_relevant(self) -> float:
        return sum(map(len, self.relevant_docs.values())) / len(self.relevant_docs)

    def save_json(self, path: Path | str) -> None:
        """Write LlamaIndex's JSON: the whole file or, on failure, nothing.

        The key ``grades`` is there when any passage was graded.

        Raises:
            InvalidFileError: when ``path`` is a directory.
        """
        content = self.model_dump(exclude=None if self.grades else {"grades"})
        write_text(as_path(path, "path"), json.dumps(content, indent=4))

    @classmethod
    def from_json(cls: type[_Self], path: Path | str) -> _Self:
        """Read LlamaIndex's JSON.

        Raises:
            MissingFileError: when there is no such file.
            InvalidFileError: for a directory, or a file that is not UTF-8, not JSON, or has
                another shape.
            InvalidDatasetError: when the contents do not fit together.
        """
        mappings = read_mappings(path)
        try:
            return cls(**mappings.model_dump())
        except InvalidDatasetError as error:
            raise InvalidDatasetError(f"{path}: {error}") from error


def read_mappings(path: Path | str) -> QuestionMappings:
    """Read the mappings of a question-set file without asking whether they fit together.

    Raises:
        MissingFileError: when there is no such file.
        InvalidFileError: for a directory, or a file that is not UTF-8, not JSON, or has
            another shape.
    """
    expected = f"{_EXPECTED} in one JSON file"
    content = _parsed(read_text(path, expected), str(path), expected)
    if not isinstance(content, dict):
        raise InvalidFileError(f"{path} holds a JSON {type(content).__name__}; {_EXPECTED}.")
    try:
        return QuestionMappings(**content)
    except ValidationError as error:
        raise InvalidFileError(f"{path}: {_shape_problems(error)}") from None  # it has the texts


def _parsed(text: str | bytes | bytearray, where: str, expected: str) -> Any:
    # In another file than a question set the keys may be texts, which no message repeats.
    names = ("queries", "corpus", "relevant_docs")
    quoted = [f'"{name}"' for name in names]
    content = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return parse_json(text, where, expected, keys_are_ids=all(name in content for name in quoted))


def as_dataset(data: object) -> EmbeddingQAFinetuneDataset:
    """Return a checked copy of any question set.

    Args:
        data: an object with the attributes ``queries``, ``corpus`` and ``relevant_docs``, such as
            LlamaIndex's own dataset, or a mapping with those keys. ``mode`` defaults to "text".

    Raises:
        InvalidDatasetError: when one of the three is not there, or they do not fit together.
    """
    fields = ("queries", "corpus", "relevant_docs", "mode", "grades")
    found: dict[str, Any]
    if isinstance(data, Mapping):
        found = {name: data[name] for name in fields if name in data}
    else:
        found = {name: getattr(data, name) for name in fields if hasattr(data, name)}
    missing = [name for name in fields[:3] if name not in found]
    if missing:
        hint = (
            " Read a file with EmbeddingQAFinetuneDataset.from_json(path)."
            if isinstance(data, (str, Path))
            else ""
        )
        raise InvalidDatasetError(
            f"A {type(data).__name__} without {', '.join(missing)} is not a question set; "
            f"{_EXPECTED}, as attributes or as keys.{hint}"
        )
    return EmbeddingQAFinetuneDataset(**found)


def with_shared_relevance(dataset: EmbeddingQAFinetuneDataset) -> EmbeddingQAFinetuneDataset:
    """Merge queries of the same text into one that has the relevant passages of all.

    Training needs this: a passage that answers one of two identical queries must not count as a
    negative for the other. The first id of a text is kept, and of a passage the best grade.
    """
    first_ids: dict[str, str] = {}
    relevant_docs: dict[str, list[str]] = {}
    grades: Grades = {}
    for query_id, text in dataset.queries.items():
        first_id = first_ids.setdefault(text, query_id)
        relevant_docs.setdefault(first_id, []).extend(dataset.relevant_docs[query_id])
        add_grades(grades, {first_id: dataset.grades.get(query_id, {})})
    return EmbeddingQAFinetuneDataset(
        queries={query_id: text for text, query_id in first_ids.items()},
        corpus=dataset.corpus,
        relevant_docs=relevant_docs,
        mode=dataset.mode,
        grades=grades,
    )


def add_grades(grades: Grades, more: Mapping[str, Mapping[str, int]]) -> None:
    """Add grades to others; of two for the same passage and query the better one is kept."""
    for query_id, of_query in more.items():
        for passage, grade in of_query.items():
            kept = grades.setdefault(query_id, {})
            kept[passage] = max(kept.get(passage, 1), grade)


def _problems(mappings: QuestionMappings) -> list[str]:
    """Say everything that does not fit together, one sentence or two for each kind."""
    queries, corpus, relevant_docs = mappings.queries, mappings.corpus, mappings.relevant_docs
    if not queries or not corpus:
        what = "queries" if not queries else "passages in the corpus"
        return [f"The question set is empty: it has no {what}; at least one is needed."]
    unknown_passages = dict.fromkeys(
        passage for ids in relevant_docs.values() for passage in ids if passage not in corpus
    )
    offenders: list[tuple[str, str, Iterable[str], str]] = [
        (
            "query id|query ids",
            "in relevant_docs not in queries",
            (query_id for query_id in relevant_docs if query_id not in queries),
            "Add the texts or remove the ids.",
        ),
        (
            "passage id|passage ids",
            "in relevant_docs not in the corpus",
            unknown_passages,
            "Add the texts or remove the ids.",
        ),
        (
            "passage id|passage ids",
            "in grades not among relevant_docs of the same query",
            _graded_elsewhere(mappings),
            "Add them to relevant_docs, or leave their grades out.",
        ),
        (
            "query|queries",
            "without a relevant passage",
            (query_id for query_id in queries if not relevant_docs.get(query_id)),
            "Give each at least one in relevant_docs, or leave the query out.",
        ),
        (
            "query|queries",
            "with an empty text",
            (query_id for query_id, text in queries.items() if not text.strip()),
            "Leave them out.",
        ),
        (
            "passage|passages",
            "with an empty text",
            (passage for passage, text in corpus.items() if not text.strip()),
            "Leave them out.",
        ),
        (
            "query|queries",
            _CUT,
            (query_id for query_id, text in queries.items() if not is_encodable(text)),
            _CUT_ADVICE,
        ),
        (
            "passage|passages",
            _CUT,
            (passage for passage, text in corpus.items() if not is_encodable(text)),
            _CUT_ADVICE,
        ),
    ]
    sentences = []
    for nouns, fault, ids, advice in offenders:
        names = list(ids)
        if names:
            noun = nouns.split("|")[len(names) > 1]
            sentences.append(f"{len(names)} {noun} {fault}: {_first(names)}. {advice}")
    return sentences


def _graded_elsewhere(mappings: QuestionMappings) -> Iterable[str]:
    for query_id, of_query in mappings.grades.items():
        relevant = set(mappings.relevant_docs.get(query_id, ()))
        yield from (passage for passage in of_query if passage not in relevant)


def _first(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    rest = len(names) - _SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _shape_problems(error: ValidationError) -> str:
    """Say what has a wrong type, in one line."""
    problems = [
        f"{problem['loc'][0] if problem['loc'] else 'the set'}"
        f"{''.join(f'[{part!r}]' for part in problem['loc'][1:])}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)[:_SHOWN]
    ]
    count = error.error_count()
    noun = "1 value is" if count == 1 else f"{count} values are"
    more = f"; and {count - _SHOWN} more" if count > _SHOWN else ""
    return f"{noun} missing or of a wrong type ({'; '.join(problems)}{more}); {_EXPECTED}."


def _dataset_error(error: ValidationError) -> InvalidDatasetError:
    """Return our error for pydantic's, which must not be its cause: that one shows the texts."""
    for problem in error.errors(include_url=False):
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, InvalidDatasetError):
            return cause
    return InvalidDatasetError(_shape_problems(error))
