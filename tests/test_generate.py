from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tenacity
from llama_index.core import Settings
from llama_index.core.indices.utils import embed_nodes
from llama_index.core.schema import MetadataMode, TextNode

from llama_index_adapters.errors import (
    GenerationError,
    InvalidDatasetError,
    InvalidFileError,
    InvalidOptionError,
)
from llama_index_adapters.questions.generation import run
from llama_index_adapters.questions.generation.generate import (
    agenerate_qa_embedding_pairs,
    generate_qa_embedding_pairs,
)
from llama_index_adapters.questions.generation.journal import text_digest
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.services import retries
from tests.fakes import CountingEmbedding, ScriptedLLM

PROMPT = "{context_str}"  # a scripted model is asked exactly the passage
NAMES = ["alpha", "beta", "gamma", "delta"]


NO_LUCK = RuntimeError("no luck")


def nodes_of(*names):
    return [TextNode(id_=f"n-{name}", text=name) for name in names]


class HTTPError(Exception):
    def __init__(self, status_code):
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


def failing(*names, error=NO_LUCK):
    """Answer as usual, but raise for these passages."""

    def answer(prompt):
        if prompt in names:
            raise error
        return f"What is {prompt}?\nWhy {prompt}?"

    return answer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(retries, "RETRY_WAIT", tenacity.wait_none())
    monkeypatch.setattr(run, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(params=["threads", "async"])
def generate_pairs(request):
    """The function in both of its ways to make several requests; :func:`pairs` makes one."""

    def call(nodes, llm, **options):
        options = {"qa_generate_prompt_tmpl": PROMPT, "verbose": False, **options}
        options.setdefault("num_workers", 2)
        if request.param == "threads":
            return generate_qa_embedding_pairs(nodes, llm, **options)
        return asyncio.run(agenerate_qa_embedding_pairs(nodes, llm, **options))

    return call


def pairs(nodes, llm, **options):
    options = {"qa_generate_prompt_tmpl": PROMPT, "verbose": False, **options}
    return generate_qa_embedding_pairs(nodes, llm, **options)


def asked_about(dataset):
    return {ids[0] for ids in dataset.relevant_docs.values()}


# What comes out


def test_each_node_gets_its_questions_in_order(generate_pairs):
    llm = ScriptedLLM()
    dataset = generate_pairs(nodes_of(*NAMES), llm)
    assert sorted(llm.prompts) == sorted(NAMES)
    assert dataset.corpus == {f"n-{name}": name for name in NAMES}
    assert dataset.query_docid_pairs == [
        (question, [f"n-{name}"])
        for name in NAMES
        for question in (f"What is {name}?", f"Why {name}?")
    ]


def test_the_parameters_stand_in_llamaindexs_order():
    expected = [
        "nodes",
        "llm",
        "qa_generate_prompt_tmpl",
        "num_questions_per_chunk",
        "retry_limit",
        "on_failure",
        "save_every",
        "output_path",
        "verbose",
    ]
    signature = inspect.signature(generate_qa_embedding_pairs)
    assert list(signature.parameters)[:9] == expected
    assert signature == inspect.signature(agenerate_qa_embedding_pairs)


def test_the_settings_model_is_the_default(monkeypatch):
    llm = ScriptedLLM(lambda prompt: "What is it?\nWhy is it so?")
    monkeypatch.setattr(Settings, "_llm", llm)
    dataset = generate_qa_embedding_pairs(nodes_of("alpha"), verbose=False)
    assert len(dataset.queries) == 2
    assert "alpha" in llm.prompts[0]
    assert "Write 2 questions" in llm.prompts[0]


def test_no_more_questions_than_asked_for_and_braces_in_a_passage():
    llm = ScriptedLLM(lambda prompt: "What?\nwhat?\nWhy?\nWho?\nWhere?")
    node = TextNode(text='{"a": {0}}')
    template = "{num_questions_per_chunk} about {context_str}"
    dataset = pairs([node], llm, qa_generate_prompt_tmpl=template, num_questions_per_chunk=3)
    assert llm.prompts == ['3 about {"a": {0}}']
    assert list(dataset.queries.values()) == ["What?", "Why?", "Who?"]


def test_same_inputs_give_same_bytes_whatever_the_order_of_answers(tmp_path):
    last = threading.Event()

    def first_waits_for_last(prompt):
        if prompt == NAMES[0]:
            assert last.wait(20)
        if prompt == NAMES[-1]:
            last.set()
        return f"What is {prompt}?"

    one, two = tmp_path / "one.json", tmp_path / "two.json"
    pairs(nodes_of(*NAMES), ScriptedLLM(first_waits_for_last), output_path=one, num_workers=4)
    pairs(nodes_of(*NAMES), ScriptedLLM(lambda p: f"What is {p}?"), output_path=two)
    assert one.read_bytes() == two.read_bytes()


def test_the_passage_is_the_text_that_an_index_embeds():
    node = TextNode(
        text="It lasts two years.",
        metadata={"title": "Warranty", "path": "/x"},
        excluded_embed_metadata_keys=["path"],
    )
    llm, embedding = ScriptedLLM(), CountingEmbedding()
    embed_nodes([node], embedding)
    dataset = pairs([node], llm)
    assert list(dataset.corpus.values()) == embedding.texts
    assert embedding.texts == ["title: Warranty\n\nIt lasts two years."]
    assert llm.prompts == ["It lasts two years."]


def test_both_forms_of_a_node_can_be_chosen():
    node = TextNode(text="Two years.", metadata={"title": "Warranty"})
    llm = ScriptedLLM()
    dataset = pairs(
        [node], llm, metadata_mode=MetadataMode.NONE, prompt_metadata_mode=MetadataMode.LLM
    )
    assert list(dataset.corpus.values()) == ["Two years."]
    assert llm.prompts == ["title: Warranty\n\nTwo years."]


def test_nodes_without_text_are_left_out_and_repeated_nodes_asked_once(caplog):
    llm = ScriptedLLM()
    dataset = pairs([*nodes_of("alpha", "alpha"), TextNode(text=" \n")], llm)
    assert llm.prompts == ["alpha"]
    assert list(dataset.corpus) == ["n-alpha"]
    assert "1 nodes without text were left out" in caplog.text


def test_a_node_of_metadata_alone_is_in_the_corpus_but_not_asked_about():
    llm = ScriptedLLM()
    bare = TextNode(id_="bare", text="", metadata={"title": "Warranty"})
    dataset = pairs([*nodes_of("alpha"), bare], llm)
    assert llm.prompts == ["alpha"]
    assert dataset.corpus["bare"] == "title: Warranty"


# Concurrency


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_requests_as_workers_are_under_way(workers):
    names = [f"p{number}" for number in range(12)]
    llm = ScriptedLLM(together=workers)
    pairs(nodes_of(*names), llm, num_workers=workers)
    assert llm.most_at_a_time == workers


async def test_as_many_async_requests_as_workers_are_under_way():
    names = [f"p{number}" for number in range(12)]
    llm = ScriptedLLM(together=3)
    await agenerate_qa_embedding_pairs(nodes_of(*names), llm, verbose=False, num_workers=3)
    assert llm.most_at_a_time == 3


async def test_the_sync_function_works_inside_a_running_loop():
    llm = ScriptedLLM(together=2)
    dataset = pairs(nodes_of(*NAMES), llm, num_workers=2)
    assert asked_about(dataset) == {f"n-{name}" for name in NAMES}


# Failures


def test_a_failing_request_is_repeated(generate_pairs):
    errors = [RuntimeError("one"), RuntimeError("two")]

    def answer(prompt):
        if errors:
            raise errors.pop()
        return "What?"

    llm = ScriptedLLM(answer)
    dataset = generate_pairs(nodes_of("alpha"), llm, retry_limit=3)
    assert llm.prompts == ["alpha"] * 3
    assert list(dataset.queries.values()) == ["What?"]


def test_failed_nodes_are_counted_and_tried_again_by_the_next_call(generate_pairs, caplog):
    nodes = nodes_of(*NAMES)
    llm = ScriptedLLM(failing("beta", "delta"))
    dataset = generate_pairs(nodes, llm, retry_limit=2)
    assert sorted(llm.prompts) == sorted([*NAMES, "beta", "delta"])
    assert asked_about(dataset) == {"n-alpha", "n-gamma"}
    assert "2 of 4 nodes failed in up to 2 attempts each (the last: RuntimeError: no luck)." in (
        caplog.text
    )
    again = ScriptedLLM()
    dataset = generate_pairs(nodes, again)
    assert sorted(again.prompts) == ["beta", "delta"]
    assert [ids[0] for ids in dataset.relevant_docs.values()] == [
        f"n-{name}" for name in NAMES for _ in range(2)
    ]


def test_a_node_whose_answer_held_no_question_is_tried_again(generate_pairs, caplog):
    nodes = nodes_of("alpha", "beta")
    first = ScriptedLLM(lambda prompt: "Sure:" if prompt == "beta" else "What?\nWhy?")
    assert asked_about(generate_pairs(nodes, first)) == {"n-alpha"}
    assert "1 of 2 answers held fewer than 2 questions" in caplog.text
    again = ScriptedLLM()
    assert asked_about(generate_pairs(nodes, again)) == {"n-alpha", "n-beta"}
    assert again.prompts == ["beta"]


def test_fail_says_what_is_stored_where_and_how_to_go_on(generate_pairs, tmp_path):
    path = tmp_path / "set.json"
    llm = ScriptedLLM(failing("gamma"))
    with pytest.raises(GenerationError, match=r"failed in 3 attempts \(RuntimeError: no luck") as e:
        generate_pairs(nodes_of(*NAMES), llm, on_failure="fail", output_path=path)
    assert isinstance(e.value.__cause__, RuntimeError)
    journal = tmp_path / "set.json.progress.jsonl"
    stored = len(journal.read_text().splitlines())
    assert stored >= 1
    assert f"{stored} of 4 nodes have questions, kept in {journal}" in str(e.value)
    assert "call again with the same nodes and output_path to ask only about" in str(e.value)
    again = ScriptedLLM()
    generate_pairs(nodes_of(*NAMES), again, output_path=path)
    assert len(again.prompts) == 4 - stored


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_end_the_call_at_once(generate_pairs, status):
    names = [f"p{number}" for number in range(20)]
    llm = ScriptedLLM(failing(*names, error=HTTPError(status)))
    with pytest.raises(GenerationError, match=f"refused the credentials .*HTTP {status}") as caught:
        generate_pairs(nodes_of(*names), llm)
    assert len(llm.prompts) <= 2
    assert "0 of 20 nodes have questions" in str(caught.value)


def test_other_http_errors_are_repeated(generate_pairs):
    llm = ScriptedLLM(failing("alpha", error=HTTPError(429)))
    generate_pairs(nodes_of("alpha", "beta"), llm)
    assert sorted(llm.prompts) == ["alpha"] * 3 + ["beta"]


def test_when_every_node_fails_continue_raises_too(generate_pairs):
    llm = ScriptedLLM(failing(*NAMES))
    with pytest.raises(GenerationError, match=r"None of 4 nodes has a question: 4 failed.*no luck"):
        generate_pairs(nodes_of(*NAMES), llm)


def test_what_is_under_way_when_another_request_fails_is_kept(tmp_path):
    """It is paid for. The failing request ends the run while the other is not yet answered."""
    other_is_asked, failed = threading.Event(), threading.Event()

    def answer(prompt):
        if prompt == "alpha":
            assert other_is_asked.wait(20)
            failed.set()
            raise HTTPError(401)
        other_is_asked.set()
        assert failed.wait(20)
        return "What?"

    with pytest.raises(GenerationError, match="1 of 2 nodes have questions"):
        pairs(nodes_of("alpha", "beta"), ScriptedLLM(answer), num_workers=2)


def test_waiting_for_the_next_attempt_ends_when_the_run_ends(monkeypatch):
    monkeypatch.setattr(retries, "RETRY_WAIT", tenacity.wait_fixed(3600))
    beta_failed = threading.Event()

    def answer(prompt):
        if prompt == "beta":
            beta_failed.set()
            raise RuntimeError("later")
        assert beta_failed.wait(20)
        raise HTTPError(401)

    llm = ScriptedLLM(answer)
    with pytest.raises(GenerationError, match="credentials"):
        pairs(nodes_of("alpha", "beta"), llm, num_workers=2)
    assert sorted(llm.prompts) == ["alpha", "beta"]


async def test_async_waiting_for_the_next_attempt_ends_when_the_run_ends(monkeypatch):
    monkeypatch.setattr(retries, "RETRY_WAIT", tenacity.wait_fixed(3600))
    llm = ScriptedLLM(
        lambda prompt: (_ for _ in ()).throw(
            RuntimeError("later") if prompt == "alpha" else HTTPError(401)
        )
    )
    with pytest.raises(GenerationError, match="credentials"):
        await agenerate_qa_embedding_pairs(
            nodes_of("alpha", "beta"),
            llm,
            PROMPT,
            verbose=False,
            num_workers=2,
        )
    assert llm.prompts == ["alpha", "beta"]


# Progress


def test_a_second_call_asks_nothing_and_gives_the_same(generate_pairs):
    first = generate_pairs(nodes_of(*NAMES), ScriptedLLM())
    llm = ScriptedLLM()
    assert generate_pairs(nodes_of(*NAMES), llm) == first
    assert llm.prompts == []


def test_an_interrupted_call_keeps_what_was_answered(generate_pairs):
    llm = ScriptedLLM(failing("gamma", error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        generate_pairs(nodes_of(*NAMES), llm)
    assert {"alpha", "beta"} <= set(llm.answered)
    again = ScriptedLLM()
    generate_pairs(nodes_of(*NAMES), again)
    assert sorted(again.prompts) == sorted(set(NAMES) - set(llm.answered))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_from_the_keyboard_loses_no_answer(workers, request):
    # Processes of pytest-xdist ignore the keyboard.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def answer(prompt):
        if prompt == "p1":
            os.kill(os.getpid(), signal.SIGINT)
        return f"What is {prompt}?"

    nodes = nodes_of(*(f"p{number}" for number in range(200)))
    llm, again = ScriptedLLM(answer), ScriptedLLM()
    with pytest.raises(KeyboardInterrupt):
        pairs(nodes, llm, num_workers=workers)
    assert llm.answered == llm.prompts
    assert "p1" in llm.answered
    assert len(llm.answered) < 200
    assert len(asked_about(pairs(nodes, again))) == 200
    assert not set(again.prompts) & set(llm.answered)


def test_an_interruption_is_logged_with_the_place(caplog, cache):
    with pytest.raises(KeyboardInterrupt):
        pairs(nodes_of("alpha", "beta"), ScriptedLLM(failing("beta", error=KeyboardInterrupt())))
    assert "Interrupted. 1 of 2 nodes have questions, kept in" in caplog.text
    assert str(cache / "questions") in caplog.text


async def start(llm):
    """Begin an async call with two workers, up to where both requests are under way."""
    call = agenerate_qa_embedding_pairs(nodes_of(*NAMES), llm, PROMPT, verbose=False, num_workers=2)
    task = asyncio.ensure_future(call)
    while len(llm.prompts) < 2:
        await asyncio.sleep(0)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_cancelled_call_keeps_what_is_under_way_and_asks_no_more():
    llm = ScriptedLLM(together=9)
    task = await start(llm)
    llm.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.answered == ["alpha", "beta"]
    again = ScriptedLLM()
    await agenerate_qa_embedding_pairs(nodes_of(*NAMES), again, PROMPT, verbose=False)
    assert again.prompts == ["gamma", "delta"]


async def test_a_call_that_is_cancelled_twice_ends_at_once():
    llm = ScriptedLLM(together=9)
    task = await start(llm)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.answered == []


PROGRAM = """
import os, signal, sys, threading
import llama_index_adapters.questions.generation.generate as generate
from tests.fakes import ScriptedLLM
from tests.test_generate import PROMPT, nodes_of

output, log, names, workers = sys.argv[1], sys.argv[2], sys.argv[3].split(), int(sys.argv[4])
lock, count = threading.Lock(), 0

def answer(prompt):
    global count
    with lock:
        count += 1
        if count == len(names) - 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return f"What is {prompt}?"

record = generate.GenerationRun.record
def recorded(run, passage, text):
    record(run, passage, text)
    with lock, open(log, "a") as file:
        file.write(passage.text + chr(10))
generate.GenerationRun.record = recorded
generate.generate_qa_embedding_pairs(
    nodes_of(*names), ScriptedLLM(answer), PROMPT, output_path=output, save_every=2,
    num_workers=workers, verbose=False,
)
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_process_loses_nothing_that_was_answered(tmp_path, workers):
    names = [f"p{number}" for number in range(8)]
    output, log = tmp_path / "set.json", tmp_path / "answered"
    arguments = [str(output), str(log), " ".join(names), str(workers)]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    answered = log.read_text().split()
    assert len(answered) >= 3
    assert EmbeddingQAFinetuneDataset.from_json(output).queries  # written whole, by save_every

    llm = ScriptedLLM()
    dataset = pairs(nodes_of(*names), llm, output_path=output)
    assert not set(llm.prompts) & set(answered)
    assert len(llm.prompts) == len(set(llm.prompts))
    assert asked_about(dataset) == {f"n-{name}" for name in names}
    assert [dataset.queries[q] for q in dataset.queries if "p0" in dataset.queries[q]] == [
        "What is p0?"
    ]


def test_a_journal_torn_anywhere_is_read_up_to_there(tmp_path, caplog):
    whole = tmp_path / "whole.json"
    expected = pairs(nodes_of(*NAMES), ScriptedLLM(), output_path=whole)
    content = (tmp_path / "whole.json.progress.jsonl").read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    sizes = {*range(0, len(content), 23), *ends, *(end - 1 for end in ends), len(content)}
    for size in sorted(sizes):
        output = tmp_path / f"torn{size}.json"
        Path(f"{output}.progress.jsonl").write_bytes(content[:size])
        llm = ScriptedLLM()
        assert pairs(nodes_of(*NAMES), llm, output_path=output) == expected
        assert llm.prompts == NAMES[sum(end <= size for end in ends) :]
        llm = ScriptedLLM()
        pairs(nodes_of(*NAMES), llm, output_path=output)
        assert llm.prompts == []
    assert "unreadable lines" in caplog.text


def test_calls_that_differ_do_not_share_progress(cache):
    base = {"nodes": nodes_of("alpha"), "llm": ScriptedLLM()}
    for changes in (
        {},
        {"nodes": nodes_of("alpha", "beta")},
        {"nodes": [TextNode(id_="n-alpha", text="other")]},
        {"nodes": [TextNode(id_="other", text="alpha")]},
        {"qa_generate_prompt_tmpl": "Ask: {context_str}"},
        {"num_questions_per_chunk": 1},
        {"llm": ScriptedLLM(model="other")},
        {"llm": ScriptedLLM(temperature=0.5)},
        {"metadata_mode": MetadataMode.EMBED, "nodes": [TextNode(id_="n-alpha", text="alpha ")]},
    ):
        llm = ScriptedLLM(model=changes.get("llm", base["llm"]).model)
        llm = changes.get("llm", llm)
        before = len(llm.prompts)
        pairs(**{**base, "llm": llm, **changes})
        assert len(llm.prompts) - before == len(changes.get("nodes", base["nodes"]))
    assert len(list((cache / "questions").iterdir())) == 9


def test_a_key_and_the_order_of_nodes_do_not_change_the_place(cache):
    pairs(nodes_of("alpha", "beta"), ScriptedLLM(api_key="one"))
    llm = ScriptedLLM(api_key="two")
    dataset = pairs(nodes_of("beta", "alpha"), llm)
    assert llm.prompts == []
    assert list(dataset.corpus) == ["n-beta", "n-alpha"]
    for path in (cache / "questions").iterdir():
        assert "one" not in path.read_text()


# With an output_path


def test_the_file_is_the_result_and_holds_only_the_nodes_asked_for(generate_pairs, tmp_path):
    path = tmp_path / "deep" / "set.json"
    generate_pairs(nodes_of("alpha", "beta"), ScriptedLLM(), output_path=path)
    llm = ScriptedLLM()
    dataset = generate_pairs(nodes_of("beta", "gamma"), llm, output_path=str(path))
    assert llm.prompts == ["gamma"]
    assert list(dataset.corpus) == ["n-beta", "n-gamma"]
    assert EmbeddingQAFinetuneDataset.from_json(path) == dataset

    llm = ScriptedLLM()  # what the file no longer holds is not lost
    generate_pairs(nodes_of("alpha"), llm, output_path=path)
    assert llm.prompts == []


def test_a_changed_text_is_asked_about_again(tmp_path):
    path = tmp_path / "set.json"
    pairs(nodes_of("alpha", "beta"), ScriptedLLM(), output_path=path)
    llm = ScriptedLLM()
    changed = [TextNode(id_="n-alpha", text="alpha, revised"), *nodes_of("beta")]
    dataset = pairs(changed, llm, output_path=path)
    assert llm.prompts == ["alpha, revised"]
    assert "What is alpha?" not in dataset.queries.values()
    assert "What is alpha, revised?" in dataset.queries.values()


def upstream_file(path, **changes):
    content = {
        "queries": {"u1": "Old one?", "u2": "Old two?", "u3": "Old three?"},
        "corpus": {"n-alpha": "alpha", "n-beta": "beta", "n-gamma": "before", "n-empty": ""},
        "relevant_docs": {"u1": ["n-alpha"], "u2": ["n-alpha", "n-beta"], "u3": ["n-gamma"]},
        "mode": "text",
    }
    path.write_text(json.dumps({**content, **changes}, indent=4))


def test_a_file_of_llamaindex_is_continued_with_its_ids(generate_pairs, tmp_path):
    path = tmp_path / "qa_finetune_dataset.json"
    upstream_file(path)
    llm = ScriptedLLM()
    nodes = nodes_of(*NAMES)
    nodes[1].metadata = {"title": "B"}  # LlamaIndex kept the text alone
    dataset = generate_pairs(nodes, llm, output_path=path)
    assert sorted(llm.prompts) == ["delta", "gamma"]
    assert dataset.queries["u1"] == "Old one?"
    assert dataset.relevant_docs["u2"] == ["n-alpha", "n-beta"]
    assert "u3" not in dataset.queries
    assert dataset.corpus["n-beta"] == "title: B\n\nbeta"


def test_an_edited_file_is_taken_as_edited(tmp_path):
    path = tmp_path / "set.json"
    pairs(nodes_of("alpha", "beta"), ScriptedLLM(), output_path=path)
    content = json.loads(path.read_text())
    dropped, kept, *_ = content["queries"]
    del content["queries"][dropped], content["relevant_docs"][dropped]
    content["queries"][kept] = "Better?"
    path.write_text(json.dumps(content))
    llm = ScriptedLLM()
    dataset = pairs(nodes_of("alpha", "beta", "gamma"), llm, output_path=path)
    assert llm.prompts == ["gamma"]
    assert dataset.queries[kept] == "Better?"
    assert dropped not in dataset.queries


def test_ids_that_two_files_used_twice_are_told_apart(tmp_path):
    path = tmp_path / "set.json"
    for name, question in (("alpha", "First?"), ("beta", "Second?")):
        upstream_file(
            path,
            queries={"u": question},
            corpus={f"n-{name}": name},
            relevant_docs={"u": [f"n-{name}"]},
        )
        dataset = pairs(nodes_of("alpha", "beta"), ScriptedLLM(), output_path=path)
    assert {dataset.queries[q]: ids for q, ids in dataset.relevant_docs.items()} == {
        "First?": ["n-alpha"],
        "Second?": ["n-beta"],
    }


def test_questions_of_another_prompt_are_kept_with_a_warning(tmp_path, caplog):
    path = tmp_path / "set.json"
    pairs(nodes_of("alpha"), ScriptedLLM(), output_path=path)
    llm = ScriptedLLM(model="other")
    pairs(nodes_of("alpha"), llm, output_path=path)
    assert llm.prompts == []
    assert "1 nodes keep the questions that" in caplog.text
    assert "To ask again, give another output_path" in caplog.text


def test_save_every_writes_the_set_so_far(tmp_path):
    path, sizes = tmp_path / "set.json", []

    def answer(prompt):
        sizes.append(len(json.loads(path.read_text())["queries"]) if path.exists() else 0)
        return "What?"

    names = [f"p{number}" for number in range(6)]
    pairs(nodes_of(*names), ScriptedLLM(answer), output_path=path, save_every=2)
    assert sizes == [0, 0, 2, 2, 4, 4]


@pytest.mark.parametrize("content", ["not json", "[]", '{"queries": {}}'])
def test_another_file_at_the_place_is_not_overwritten(tmp_path, content):
    path = tmp_path / "set.json"
    path.write_text(content)
    llm = ScriptedLLM()
    with pytest.raises(InvalidFileError, match=r"set\.json.* give another output_path"):
        pairs(nodes_of("alpha"), llm, output_path=path)
    assert path.read_text() == content
    assert llm.prompts == []


def test_a_directory_at_the_place_is_refused_before_anything_is_asked(tmp_path):
    llm = ScriptedLLM()
    with pytest.raises(InvalidFileError, match="is a directory"):
        pairs(nodes_of("alpha"), llm, output_path=tmp_path)
    assert llm.prompts == []


# Options


def test_impossible_options_are_refused_before_anything_is_asked(subtests):
    for options, message in (
        ({"on_failure": "contine"}, r"use one of continue, fail\. Did you mean 'continue'\?"),
        ({"retry_limit": 0}, "retry_limit is 0; give a whole number from 1 on"),
        ({"num_questions_per_chunk": 0}, "num_questions_per_chunk is 0"),
        ({"save_every": 0}, "save_every is 0"),
        ({"num_workers": 1.5}, r"num_workers is 1\.5"),
        ({"qa_generate_prompt_tmpl": "Ask."}, r"has no \{context_str\}"),
    ):
        with subtests.test(options=options, message=message):
            llm = ScriptedLLM()
            with pytest.raises(InvalidOptionError, match=message):
                pairs(nodes_of("alpha"), llm, **options)
            assert llm.prompts == []


def test_nodes_that_cannot_be_asked_about_are_refused():
    llm = ScriptedLLM()
    with pytest.raises(InvalidDatasetError, match="nothing to ask about: 0 nodes"):
        pairs([], llm)
    with pytest.raises(InvalidDatasetError, match="1 nodes, none of them with text"):
        pairs([TextNode(text="")], llm)
    with pytest.raises(InvalidDatasetError, match=r"nodes\[1\] is a str; expected LlamaIndex no"):
        pairs([*nodes_of("alpha"), "beta"], llm)
    with pytest.raises(InvalidDatasetError, match="different texts have the id 'x'"):
        pairs([TextNode(id_="x", text="one"), TextNode(id_="x", text="two")], llm)
    assert llm.prompts == []


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose_shows_a_progress_bar_and_nothing_is_printed(capsys, verbose):
    pairs(nodes_of(*NAMES), ScriptedLLM(), verbose=verbose)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("Generating questions" in err and "4/4" in err) == verbose


def test_a_node_with_half_an_emoji_is_left_out_by_name(caplog):
    nodes = [*nodes_of("alpha"), TextNode(id_="cut", text="half \ud83d")]
    llm = ScriptedLLM()
    dataset = pairs(nodes, llm)
    assert list(dataset.corpus) == [nodes[0].node_id]
    assert "1 nodes were left out" in caplog.text
    assert "cannot be encoded, the first of 'cut'" in caplog.text
    assert len(llm.prompts) == 1
    with pytest.raises(InvalidDatasetError, match="1 nodes, none of them with text that can be en"):
        pairs(nodes[1:], llm)


def test_texts_have_digests_whatever_is_in_them():
    assert text_digest("\ud800") != text_digest("\ud801")
