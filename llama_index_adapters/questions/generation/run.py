"""One call that generates questions: what is asked, what is kept, what comes out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.settings import Settings

from llama_index_adapters.checks import as_path, require_one_of, require_whole
from llama_index_adapters.errors import (
    GenerationError,
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
)
from llama_index_adapters.files.cache import cache_directory
from llama_index_adapters.files.text import is_encodable
from llama_index_adapters.questions.generation.answer import parse_questions
from llama_index_adapters.questions.generation.journal import Entry, Journal, text_digest
from llama_index_adapters.questions.generation.prompt import check_template, question_prompt
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    QuestionMappings,
    read_mappings,
)
from llama_index_adapters.services.errors import Failure
from llama_index_adapters.services.identity.identity import identity_of
from llama_index_adapters.services.progress import progress_bar

logger = logging.getLogger(__name__)

OnFailure = Literal["continue", "fail"]


@dataclass(frozen=True)
class Passage:
    """A node as it goes into the corpus and into the prompt.

    Attributes:
        node_id: the node's id.
        text: the passage of the corpus.
        prompt: what the language model is asked; "" when there is nothing to ask about.
        digests: of the passage, then of the node's other forms: questions about any of them are
            questions about this node, whatever an earlier call took for the corpus.
    """

    node_id: str
    text: str
    prompt: str
    digests: tuple[str, ...]


class _Ended(Exception):  # noqa: N818
    """The run ends here; its cause is the error that ended it."""


class GenerationRun:
    """The bookkeeping of one call, apart from how requests are made.

    Parameters are those of ``generate_qa_embedding_pairs``. :meth:`record` and :meth:`give_up`
    may be called from any thread.

    Raises:
        InvalidOptionError: for an option with an impossible value.
        InvalidDatasetError: for an empty list of nodes, or one id with two texts.
    """

    def __init__(
        self,
        *,
        nodes: Sequence[BaseNode],
        llm: LLM | None,
        template: str,
        num_questions: int,
        retry_limit: int,
        on_failure: OnFailure,
        save_every: int,
        output_path: Path | str | None,
        verbose: bool,
        num_workers: int,
        metadata_mode: MetadataMode,
        prompt_metadata_mode: MetadataMode,
        ask_about: Collection[str] | None = None,
    ) -> None:
        for name, value in (
            ("num_questions_per_chunk", num_questions),
            ("retry_limit", retry_limit),
            ("save_every", save_every),
            ("num_workers", num_workers),
        ):
            require_whole(value, name)
        require_one_of(on_failure, "on_failure", get_args(OnFailure))
        check_template(template)
        self._passages = _passages(
            nodes, template, num_questions, metadata_mode, prompt_metadata_mode
        )
        asked = _checked_ids(ask_about, {node.node_id for node in nodes})
        self._asked = asked & {passage.node_id for passage in self._passages}
        self.llm = Settings.llm if llm is None else llm
        if not isinstance(self.llm, LLM):
            raise InvalidOptionError(
                f"llm is of type {type(self.llm).__name__}; give a language model of LlamaIndex."
            )
        self.retry_limit = retry_limit
        self.num_workers = num_workers
        self._num_questions = num_questions
        self._on_failure = on_failure
        self._save_every = save_every
        self._verbose = verbose
        self._made_with = _digest([template, num_questions, identity_of(self.llm).digest])
        self._output_path = None if output_path is None else as_path(output_path, "output_path")
        self._lock = threading.Lock()
        self._answered = self._kept = self._short = self._failed = 0
        self._last_failure: Failure | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[list[Passage]]:
        """Open the journal and give the passages that have no question yet.

        Raises:
            InvalidFileError: when there is something else at ``output_path``.
            GenerationError: when the block was ended by :meth:`give_up`.
        """
        found = self._found_output()
        with Journal(self._journal_path()) as self._journal:
            if found is not None:
                self._adopt(found)
            pending = [
                passage
                for passage in self._passages
                if passage.prompt and passage.node_id in self._asked and not self._entry(passage)
            ]
            done = len(self._asked) - len(pending)
            with progress_bar(
                total=len(self._asked),
                initial=done,
                desc="Generating questions",
                unit="node",
                disable=not self._verbose,
            ) as self._bar:
                try:
                    yield pending
                except _Ended as ended:
                    raise GenerationError(f"{ended} {self._stored()}") from ended.__cause__
                except (KeyboardInterrupt, asyncio.CancelledError):
                    logger.warning("Interrupted. %s", self._stored())
                    raise

    def record(self, passage: Passage, answer: str) -> None:
        """Keep a language model's answer; its questions are on the disk when this returns."""
        questions = parse_questions(answer, self._num_questions)
        with self._lock:
            self._answered += 1
            self._short += len(questions) < self._num_questions
            self._bar.update()
            if not questions:
                return
            named = {_query_id(passage.node_id, question): question for question in questions}
            self._journal.append(Entry(passage.node_id, passage.digests[0], named, self._made_with))
            self._kept += 1
            if self._output_path and self._kept % self._save_every == 0:
                self._dataset().save_json(self._output_path)

    def give_up(self, passage: Passage, error: Exception) -> None:
        """Take note that no answer could be had about a passage.

        Args:
            passage: what was asked about.
            error: what the last attempt raised.
        """
        failure = Failure.of(error, self.llm, (passage.text, passage.prompt))
        if failure.refused:
            raise _Ended(
                f"The language model refused the credentials ({failure.text}). Check its key."
            ) from failure.cause
        if self._on_failure == "fail":
            attempts = 1 if failure.rejected else self.retry_limit
            raise _Ended(
                f"The node {passage.node_id!r} failed in {attempts} attempt"
                f"{'s' if attempts > 1 else ''} ({failure.text})."
            ) from failure.cause
        with self._lock:
            self._failed += 1
            self._last_failure = failure
            self._bar.update()

    def result(self) -> EmbeddingQAFinetuneDataset:
        """Return the questions about all passages, and write them to ``output_path``.

        Raises:
            GenerationError: when there is no question at all.
        """
        total = len(self._passages)
        if not any(map(self._entry, self._passages)):
            last = self._last_failure
            reason = f": {last.text}" if last else ""
            raise GenerationError(
                f"None of {total} nodes has a question: {self._failed} failed in up to "
                f"{self.retry_limit} attempts each, the answers about the others held none"
                f"{reason}. {self._stored()}"
            ) from (last.cause if last else None)
        if self._last_failure:
            logger.warning(
                "%d of %d nodes failed in up to %d attempts each (the last: %s). %s",
                self._failed,
                total,
                self.retry_limit,
                self._last_failure.text,
                self._stored(),
            )
        if self._short:
            logger.warning(
                "%d of %d answers held fewer than %d questions.",
                self._short,
                self._answered,
                self._num_questions,
            )
        dataset = self._dataset()
        if self._output_path:
            dataset.save_json(self._output_path)
        return dataset

    def _journal_path(self) -> Path:
        if self._output_path:
            return self._output_path.with_name(f"{self._output_path.name}.progress.jsonl")
        parts = sorted(
            (passage.node_id, passage.text, passage.prompt) for passage in self._passages
        )
        return cache_directory() / "questions" / f"{_digest([self._made_with, parts])}.jsonl"

    def _found_output(self) -> QuestionMappings | None:
        path = self._output_path
        if path is None or not path.exists():
            return None
        try:
            found = read_mappings(path)
        except InvalidFileError as error:
            raise InvalidFileError(
                f"{error} Questions cannot be added to it: give another output_path, "
                "or move the file away."
            ) from error
        if found.grades:
            raise InvalidFileError(
                f"{path} has grades, which would be lost when it is replaced: give another "
                "output_path."
            )
        return found

    def _adopt(self, found: QuestionMappings) -> None:
        """Put into the journal what the set at ``output_path`` has: it is going to be replaced."""
        questions: dict[str, dict[str, str]] = {}
        for query_id, text in found.queries.items():
            usable = text.strip() and is_encodable(text)
            for node_id in found.relevant_docs.get(query_id, ()) if usable else ():
                questions.setdefault(node_id, {})[query_id] = text
        for node_id, named in questions.items():
            digest = text_digest(found.corpus.get(node_id, ""))
            known = self._journal.find(node_id, [digest])
            if known is None or known.questions != named:
                self._journal.append(Entry(node_id, digest, named, ""))
        others = sum(
            entry is not None and entry.made_with not in ("", self._made_with)
            for entry in map(self._entry, self._passages)
        )
        if others:
            logger.warning(
                "%d nodes keep the questions that %s has for them, made with another prompt or "
                "model. To ask again, give another output_path.",
                others,
                self._journal.path,
            )

    def _entry(self, passage: Passage) -> Entry | None:
        return self._journal.find(passage.node_id, passage.digests)

    def _stored(self) -> str:
        """Say what is on the disk and how to go on from there."""
        stored = sum(self._entry(passage) is not None for passage in self._passages)
        same = "nodes and output_path" if self._output_path else "nodes, prompt and model"
        return (
            f"{stored} of {len(self._passages)} nodes have questions, kept in "
            f"{self._journal.path}; call again with the same {same} to ask only about the others."
        )

    def _dataset(self) -> EmbeddingQAFinetuneDataset:
        queries: dict[str, str] = {}
        relevant_docs: dict[str, list[str]] = {}
        for passage in self._passages:
            entry = self._entry(passage)
            for known_id, text in entry.questions.items() if entry else ():
                # Ids of files that others wrote need not be unique across files.
                is_free = queries.get(known_id, text) == text
                query_id = known_id if is_free else _query_id(passage.node_id, text)
                queries[query_id] = text
                relevant_docs.setdefault(query_id, []).append(passage.node_id)
        return EmbeddingQAFinetuneDataset(
            queries=queries,
            corpus={passage.node_id: passage.text for passage in self._passages},
            relevant_docs=relevant_docs,
        )


def _checked_ids(ids: object, known: set[str]) -> set[str]:
    if ids is None:
        return known
    if isinstance(ids, str) or not isinstance(ids, Collection) or not ids:
        raise InvalidOptionError(
            f"ask_about is of type {type(ids).__name__} or empty; give ids of nodes, or leave it "
            "out to ask about all of them."
        )
    unknown = [node_id for node_id in ids if node_id not in known]
    if unknown:
        raise InvalidOptionError(
            f"ask_about has {len(unknown)} ids that are of none of the nodes, such as "
            f"{unknown[0]!r}."
        )
    return set(ids)


def _passages(
    nodes: Sequence[BaseNode],
    template: str,
    num_questions: int,
    corpus_mode: MetadataMode,
    prompt_mode: MetadataMode,
) -> list[Passage]:
    if not isinstance(nodes, Iterable) or isinstance(nodes, BaseNode):
        raise InvalidDatasetError(
            f"nodes is of type {type(nodes).__name__}; expected a list of LlamaIndex nodes."
        )
    passages: dict[str, Passage] = {}
    without_text, broken = 0, []
    for row, node in enumerate(nodes):
        if not isinstance(node, BaseNode):
            raise InvalidDatasetError(
                f"nodes[{row}] is a {type(node).__name__}; expected LlamaIndex nodes such as "
                "TextNode."
            )
        text, asked = node.get_content(corpus_mode), node.get_content(prompt_mode)
        if not text.strip():
            without_text += 1
            continue
        if not is_encodable(text) or not is_encodable(asked):
            broken.append(node.node_id)
            continue
        forms = (text, *(node.get_content(mode) for mode in MetadataMode))
        passage = Passage(
            node_id=node.node_id,
            text=text,
            prompt=question_prompt(template, asked, num_questions) if asked.strip() else "",
            digests=tuple(dict.fromkeys(map(text_digest, forms))),
        )
        if passages.setdefault(node.node_id, passage) != passage:
            raise InvalidDatasetError(
                f"Two nodes with different texts have the id {node.node_id!r}; "
                "give every node an id of its own."
            )
    if not passages:
        raise InvalidDatasetError(
            f"There is nothing to ask about: {without_text + len(broken)} nodes, none of them with "
            f"text{' that can be encoded' if broken else ''}."
        )
    if without_text:
        logger.warning("%d nodes without text were left out.", without_text)
    if broken:
        logger.warning(
            "%d nodes were left out: their text holds half of a surrogate pair and cannot be "
            "encoded, the first of %r.",
            len(broken),
            broken[0],
        )
    return list(passages.values())


def _query_id(node_id: str, question: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([node_id, question])))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()
