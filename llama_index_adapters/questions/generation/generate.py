"""Questions about passages, written by a language model: a training set for free text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import tenacity
from llama_index.core.llms import LLM, CompletionResponse
from llama_index.core.schema import BaseNode, MetadataMode

from llama_index_adapters.questions.generation.prompt import DEFAULT_QA_GENERATE_PROMPT_TMPL
from llama_index_adapters.questions.generation.run import GenerationRun, OnFailure, Passage
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.services.clients import before_each_request
from llama_index_adapters.services.errors import REFUSED, REJECTED, status_of
from llama_index_adapters.services.retries import retry_policy
from llama_index_adapters.services.threads import (
    GRACE_SECONDS,
    GivenUp,
    Stop,
    StoppedError,
    work_in_threads,
)

__all__ = [
    "DEFAULT_QA_GENERATE_PROMPT_TMPL",
    "agenerate_qa_embedding_pairs",
    "generate_qa_embedding_pairs",
]


def generate_qa_embedding_pairs(
    nodes: Sequence[BaseNode],
    llm: LLM | None = None,
    qa_generate_prompt_tmpl: str | None = None,
    num_questions_per_chunk: int = 2,
    retry_limit: int = 3,
    on_failure: OnFailure = "continue",
    save_every: int = 500,
    output_path: Path | str | None = None,
    verbose: bool = True,
    *,
    num_workers: int = 1,
    metadata_mode: MetadataMode = MetadataMode.EMBED,
    prompt_metadata_mode: MetadataMode = MetadataMode.NONE,
    ask_about: Collection[str] | None = None,
) -> EmbeddingQAFinetuneDataset:
    """Ask a language model for questions about each node, and return them with their passages.

    Every answer is on the disk before the next one is waited for: in a journal beside
    ``output_path``, or in the user's cache directory under a name made of the nodes, the prompt
    and the model. Calling again after an interruption, a crash or a failure asks only about the
    nodes that have no question yet, or whose text has changed. A file that LlamaIndex's function
    of this name has left at ``output_path`` is continued in the same way.

    Args:
        nodes: the passages; a node without text is left out, and so is, with a warning that names
            it, one whose text cannot be encoded (with half of an emoji).
        llm: the language model; LlamaIndex's ``Settings.llm`` when not given.
        qa_generate_prompt_tmpl: the prompt, with ``{context_str}`` for the passage and, if
            wanted, ``{num_questions_per_chunk}``;
            :data:`DEFAULT_QA_GENERATE_PROMPT_TMPL` of this module when left out.
        num_questions_per_chunk: how many questions to ask for, and to keep at most, per node.
        retry_limit: how many times to ask about a node before giving it up. Waits in between
            grow, or are as long as the server's ``retry-after`` says. What the server rejects
            (HTTP 400, 413, 422) is given up at once; a refusal of the credentials (HTTP 401 or
            403) ends the call.
        on_failure: what to do about a node that was given up: "continue" with the others, or
            "fail".
        save_every: after how many answers to write the set so far to ``output_path``.
        output_path: where to write the set, in LlamaIndex's JSON. It holds the nodes of this
            call; what an earlier call generated for others stays in the journal,
            ``<output_path>.progress.jsonl``.
        verbose: show a progress bar.
        num_workers: how many requests to have under way at a time, in as many threads beside
            the caller's; the order of the result does not depend on it. Works inside a running
            event loop.
        metadata_mode: which form of a node becomes the passage. The default is the one that
            ``VectorStoreIndex`` embeds (metadata and text), so that training sees the vectors
            that are stored; LlamaIndex's own function leaves the metadata out (``NONE``).
        prompt_metadata_mode: which form of a node the language model reads; by default the text
            without metadata, which often holds paths and dates that nobody asks about.
        ask_about: ids of the nodes to ask about, where that is not all of them; the others are
            passages of the corpus, and keep the questions that earlier calls got about them.

    Returns:
        The questions in the order of the nodes, with ids made of node id and question; the corpus
        has every node, also those without a question.

    Raises:
        GenerationError: when a node fails and ``on_failure`` is "fail", when the credentials are
            refused, or when no node has a question in the end.
        InvalidOptionError: for an option with an impossible value.
        InvalidDatasetError: for an empty list of nodes, or one id with two texts.
        InvalidFileError: when ``output_path`` is there but is not a question set.
    """
    run = GenerationRun(
        nodes=nodes,
        llm=llm,
        template=_prompt(qa_generate_prompt_tmpl),
        num_questions=num_questions_per_chunk,
        retry_limit=retry_limit,
        on_failure=on_failure,
        save_every=save_every,
        output_path=output_path,
        verbose=verbose,
        num_workers=num_workers,
        metadata_mode=metadata_mode,
        prompt_metadata_mode=prompt_metadata_mode,
        ask_about=ask_about,
    )
    with run.open() as pending:
        _ask_in_threads(run, pending)
    return run.result()


async def agenerate_qa_embedding_pairs(
    nodes: Sequence[BaseNode],
    llm: LLM | None = None,
    qa_generate_prompt_tmpl: str | None = None,
    num_questions_per_chunk: int = 2,
    retry_limit: int = 3,
    on_failure: OnFailure = "continue",
    save_every: int = 500,
    output_path: Path | str | None = None,
    verbose: bool = True,
    *,
    num_workers: int = 1,
    metadata_mode: MetadataMode = MetadataMode.EMBED,
    prompt_metadata_mode: MetadataMode = MetadataMode.NONE,
    ask_about: Collection[str] | None = None,
) -> EmbeddingQAFinetuneDataset:
    """Do what :func:`generate_qa_embedding_pairs` does, through the model's async call.

    Arguments, result and errors are the same, and the two continue each other's work;
    ``num_workers`` requests are under way at a time in the running event loop.
    """
    run = GenerationRun(
        nodes=nodes,
        llm=llm,
        template=_prompt(qa_generate_prompt_tmpl),
        num_questions=num_questions_per_chunk,
        retry_limit=retry_limit,
        on_failure=on_failure,
        save_every=save_every,
        output_path=output_path,
        verbose=verbose,
        num_workers=num_workers,
        metadata_mode=metadata_mode,
        prompt_metadata_mode=prompt_metadata_mode,
        ask_about=ask_about,
    )
    with run.open() as pending:
        await _ask_in_tasks(run, pending)
    return run.result()


def _prompt(template: str | None) -> str:
    return DEFAULT_QA_GENERATE_PROMPT_TMPL if template is None else template


def _ask_in_threads(run: GenerationRun, pending: Sequence[Passage]) -> None:
    """Ask about every passage, ``run.num_workers`` at a time in as many threads."""
    stop = Stop()

    def ask(passage: Passage) -> None:
        retrying = tenacity.Retrying(sleep=stop.pause, **_policy(run.retry_limit))
        try:
            response: CompletionResponse = retrying(
                lambda: stop.ask(lambda: run.llm.complete(passage.prompt))
            )
        except StoppedError:
            return
        except Exception as error:
            run.give_up(passage, error)
        else:
            run.record(passage, response.text)

    failures: list[BaseException] = []
    with (
        before_each_request([run.llm], lambda _: stop.refuse_next()),
        contextlib.closing(work_in_threads(ask, pending, run.num_workers, stop)) as ended,
    ):
        for done in ended:
            error = done.exception()
            if error is not None and not isinstance(error, StoppedError):
                failures.append(error)
    if failures:
        raise failures[0]


# A notebook's interrupt is a callback that does not wake its event loop: a loop that slept on
# would notice it when the next answer comes.
_AWAKE_SECONDS = 0.25


async def _ask_in_tasks(run: GenerationRun, pending: Sequence[Passage]) -> None:
    """Ask about every passage, ``run.num_workers`` at a time in the running event loop."""
    stop = asyncio.Event()

    async def pause(seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
            raise StoppedError

    async def ask(passage: Passage) -> None:
        retrying = tenacity.AsyncRetrying(sleep=pause, **_policy(run.retry_limit))
        try:
            response: CompletionResponse = await retrying(run.llm.acomplete, passage.prompt)
        except (StoppedError, GivenUp):
            return
        except Exception as error:
            run.give_up(passage, error)
        else:
            run.record(passage, response.text)

    async def refuse_next(_: object) -> None:
        if stop.is_set() and asyncio.current_task() in workers:
            raise GivenUp

    queue = iter(pending)

    async def work() -> None:
        try:
            for passage in queue:
                await ask(passage)
                if stop.is_set():
                    return
        except BaseException:
            stop.set()
            raise

    workers: list[asyncio.Future[None]] = []
    with before_each_request([run.llm], refuse_next, "_get_aclient"):
        workers += [asyncio.ensure_future(work()) for _ in range(run.num_workers)]
        try:
            # Requests under way are paid for: their answers are waited for and kept when another
            # request has failed, and for a moment when the caller has cancelled this task (once;
            # twice ends it).
            under_way = set(workers)
            while under_way:
                _, under_way = await asyncio.wait(under_way, timeout=_AWAKE_SECONDS)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait(workers, timeout=GRACE_SECONDS)
            raise
        finally:
            for worker in workers:
                worker.cancel()
    for worker in workers:
        worker.result()


def _policy(retry_limit: int) -> dict[str, Any]:
    return retry_policy(retry_limit, _may_pass, "A request for questions")


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Exception) and status_of(error) not in REFUSED | REJECTED
