# ruff: noqa: RUF001  questions are asked in many scripts

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.questions.generation.answer import parse_questions
from llama_index_adapters.questions.generation.prompt import (
    DEFAULT_QA_GENERATE_PROMPT_TMPL,
    check_template,
    question_prompt,
)
from tests.answers import ANSWERS, KEPT, LABELS

# What an answer may be made of, in any order.
PIECES = [
    *("What is A?", "sort dict", "It is so.", "什么是B？", "\ud83d", " ", "\n", "\n\n", ": "),
    *("<think>", "</think>", "<answer>", "</answer>", "<question>", "</question>"),
    *('["', '", "', '"]', '{"question": "', '"}', "['", "```json\n", "```", "|", "**"),
    *("1. ", "2. ", "- ", "Q1: ", "A1: ", "（1）", "Here are two questions:"),
]


def test_the_dress_of_a_question_is_taken_off(subtests):
    for line in (
        "What is A?",
        "1. What is A?",
        "12) What is A?",
        "1.What is A?",
        "1: What is A?",
        "3 - What is A?",
        "(1) What is A?",
        "(a) What is A?",
        "B) What is A?",
        "(ii) What is A?",
        "Q: What is A?",
        "Q1: What is A?",
        "q2. What is A?",
        "Question: What is A?",
        "Question 1: What is A?",
        "Question #2 - What is A?",
        "1. Question: What is A?",
        "- What is A?",
        "* What is A?",
        "+ What is A?",
        "•What is A?",
        "  \u2013 What is A?  ",
        "- 1. What is A?",
        "> 4. What is A?",
        "### What is A?",
        "**What is A?**",
        "**1. What is A?**",
        "**Question 1:** What is A?",
        "1. **Q1:** What is **A**?",
        "*What is A?*",
        '"What is A?"',
        '1. "What is A?"',
        '"What is A?",',
        '"1. What is A?",',
        "“What is A?”",
        "'What is A?'",
        "`What is A?`",
        "What   is\tA?",
    ):
        with subtests.test(line=line):
            assert parse_questions(line, 5) == ["What is A?"]


def test_what_belongs_to_a_question_stays(subtests):
    for question in (
        "2021 revenue of Lyft?",
        "3.5 inch drives hold how much?",
        "3.x releases end when?",
        "1:1 meetings take how long?",
        "401(k) plans match what?",
        "5 - 10 year bonds yield what?",
        "-5 degrees is how many Fahrenheit?",
        "100 metres is how far?",
        "Q4 revenue grew by how much?",
        "Q-learning: what is it?",
        "What is 2**3 + 4**2?",
        "How do *args and **kwargs differ?",
        "What does __init__ do?",
        "A or B?",
        "Is it \"A\" or 'B'?",
        '"A" or "B"?',
        "Sure, but is it safe?",
        "python sort dict by value",
        "Here comes the sun: who wrote it?",
    ):
        with subtests.test(question=question):
            assert parse_questions(question, 5) == [question]
            assert parse_questions(f"1. {question}", 5) == [question]


def test_what_is_no_question_is_left_out(subtests):
    for line in (
        "",
        "   ",
        "Here are two questions:",
        "Sure! Here are 2 questions based on the passage.",
        "**Questions**",
        "## Suggested questions",
        "Questions:",
        "Question 1",
        "Of course.",
        "Here are the questions you asked for",
        "---",
        "***",
        "```",
        "```json",
        "[",
        "A: It is a letter.",
        "Answer: It is a letter.",
        "Let me know if you need more!",
        "I hope these help.",
    ):
        with subtests.test(line=line):
            assert parse_questions(f"{line}\nWhat is A?\n{line}", 5) == ["What is A?"]


def test_the_questions_of_an_answer(subtests):
    for case, (answer, questions) in ANSWERS.items():
        with subtests.test(case):
            assert parse_questions(answer, 5) == questions


def test_a_label_is_known_by_its_shape(subtests):
    for label in LABELS:
        for question in ("What is A?", "什么是A？"):
            with subtests.test(label):
                assert parse_questions(label + question, 5) == [question]


def test_what_looks_like_a_label_and_is_none_stays(subtests):
    for question in KEPT:
        for answer in (question, f"1. {question}", f"{question}\nWhat is B?"):
            with subtests.test(answer):
                assert parse_questions(answer, 5)[0] == question


def test_how_many_were_asked_for_tells_what_is_read_in_two_ways():
    """A line of two questions is one of them where there are lines enough, or else two."""
    line = "Is it red? Is it big?"
    assert parse_questions(line, 1) == [line]
    assert parse_questions(line, 2) == ["Is it red?", "Is it big?"]
    assert parse_questions("sort dict\nsort list", 2) == ["sort dict", "sort list"]
    assert parse_questions("some words about it\nsort dict\nsort list", 2) == []
    assert parse_questions("Windows 7: How do I reset it?", 2) == ["Windows 7: How do I reset it?"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 3))
def test_whatever_the_answer(answer, limit):
    questions = parse_questions(answer, limit)
    assert len(questions) <= limit
    for question in questions:
        assert question == " ".join(question.split())
        assert re.search(r"\w", question)
        assert "\ud83d" not in question


def test_repetitions_are_dropped_before_the_limit_counts():
    assert parse_questions(
        "1. Why A?\n2. WHY A?\n3. Why STRASSE?\n4. why straße?\n5. Why C?", 3
    ) == [
        "Why A?",
        "Why STRASSE?",
        "Why C?",
    ]
    assert parse_questions("Why A?\nWhy B?\nWhy C?", 2) == ["Why A?", "Why B?"]


def test_the_default_prompt_holds_the_passage_and_the_number():
    check_template(DEFAULT_QA_GENERATE_PROMPT_TMPL)
    prompt = question_prompt(DEFAULT_QA_GENERATE_PROMPT_TMPL, "a {strange} {0} passage }", 7)
    assert "\na {strange} {0} passage }\n" in prompt
    assert "Write 7 questions" in prompt


def test_literal_braces_of_a_template_are_written_twice():
    template = '{{"n": {num_questions_per_chunk}}} {context_str}'
    check_template(template)
    assert question_prompt(template, "{x}", 2) == '{"n": 2} {x}'


def test_a_template_that_cannot_be_filled_in_is_refused(subtests):
    for template, message in (
        ("Ask {num_questions_per_chunk} questions", r"has no \{context_str\}, so the passage is"),
        ("{context_str} {language}", r"nothing is known for: \{language\}\. It needs"),
        ('{"a": 1} {context_str}', r'nothing is known for: \{"a"\}.*\{\{ and \}\}'),
        ("{} {context_str}", r"nothing is known for: \{\}"),
        ("{context_str", "is not a template"),
        (None, "is not a template"),
    ):
        with (
            subtests.test(template=template, message=message),
            pytest.raises(InvalidOptionError, match=message),
        ):
            check_template(template)
