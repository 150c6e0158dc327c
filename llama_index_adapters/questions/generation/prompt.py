"""What a language model is asked for a passage, and the questions in what it answers."""

# ruff: noqa: RUF001  the patterns name the dashes, quotes and full-width signs of other scripts

from __future__ import annotations

import re
import string

from llama_index_adapters.errors import InvalidOptionError

DEFAULT_QA_GENERATE_PROMPT_TMPL = """\
Here is a passage from a collection of documents.

<passage>
{context_str}
</passage>

Write {num_questions_per_chunk} questions that this passage answers, as people would type them \
into a search box who need that answer and have never seen the passage.

- Each question is understood by itself: it names what it is about, and never mentions "the \
passage", "the text", "this document" or its author.
- Put them in the words a person would use who does not know how the passage is worded.
- Ask about what is particular to this passage, each question about something else in it.
- Use the language of the passage.

Answer with the questions alone, one on a line, without numbers, bullets or other text."""

_PLACEHOLDERS = ("context_str", "num_questions_per_chunk")

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*]+)(?<=\S)\*\*(?![\w*])")
_ITALIC_LINE = re.compile(r"\*(?=[^\s*])([^*]+)(?<=\S)\*")
_MARKS = re.compile(
    r"""
    (?: \#{1,6}\s+ | > \s* )?
    (?: [-*+–—]\s+ | [•‣▪●◦·]\s* )?
    """,
    re.VERBOSE,
)
# A number counts as numbering only with the punctuation of a list behind it, so that a question
# may begin with "2021 revenue", "3.5 inch" or "1:1 meetings".
_NUMBER = re.compile(
    r"""
    (?: \( \s* (?: \d{1,3} | [a-zA-Z] | [ivxIVX]{1,4} ) \s* \) \s*
      | (?: \d{1,3} | [a-zA-Z] | [ivxIVX]{1,4} ) \) \s*
      | \d{1,3} \. (?: \s+ | (?= [^\W\d_] ) (?! [a-z] ) )
      | \d{1,3} [、．] \s*
      | \d{1,3} : \s+
      | \d{1,3} \s+ [-–—] \s+ (?= \D )
    )
    """,
    re.VERBOSE,
)
_LABEL = re.compile(
    r"(?:q|question)(?:\s*\#?\s*\d{1,3}\s*(?:[:.)]|\s[-–—]|$)\s*|\s*:\s*)", re.IGNORECASE
)
_NOT_A_QUESTION = re.compile(
    r"""
    .* [:：] $
    | ``` .*
    | (?: a | answer ) \s* \d{0,3} \s* : \s .*
    | (?: suggested \s+ | generated \s+ )? (?: questions | queries ) \W*
    | (?: sure | certainly | of\ course | absolutely | okay | ok ) [,.!] [^?]*
    | (?: here | below ) \s+ (?: are | is ) \b [^?]*
    | (?: let\ me\ know | i\ hope | hope\ (?: this | these ) | feel\ free ) \b [^?]*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "`": "`", "「": "」"}


def check_template(template: str) -> None:
    """Refuse a prompt template that cannot be filled in.

    Raises:
        InvalidOptionError: when ``{context_str}`` is missing, there is another placeholder than
            ``{num_questions_per_chunk}`` beside it, or the braces do not match.
    """
    advice = (
        "It needs {context_str} and may have {num_questions_per_chunk}; "
        "write braces that are meant literally as {{ and }}."
    )
    try:
        fields = {
            field for _, field, _, _ in string.Formatter().parse(template) if field is not None
        }
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(
            f"qa_generate_prompt_tmpl is not a template ({error}). {advice}"
        ) from error
    unknown = sorted(fields.difference(_PLACEHOLDERS))
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in unknown)
        raise InvalidOptionError(
            f"qa_generate_prompt_tmpl has placeholders that nothing is known for: {names}. {advice}"
        )
    if "context_str" not in fields:
        raise InvalidOptionError(
            f"qa_generate_prompt_tmpl has no {{context_str}}, so the passage is not in it. {advice}"
        )


def question_prompt(template: str, text: str, num_questions: int) -> str:
    """Return the prompt that asks for questions about one passage."""
    return template.format(context_str=text, num_questions_per_chunk=num_questions)


def parse_questions(answer: str, limit: int) -> list[str]:
    """Return the questions in a language model's answer, one for each line that holds one.

    Numbering, bullets, bold type, surrounding quotes and labels such as "Q1:" are taken off;
    headings, answers, thoughts and phrases of politeness are left out, and so are repetitions
    (whatever their case). A number that belongs to the question stays.

    Args:
        answer: what the model wrote.
        limit: how many questions to return at most.
    """
    questions: dict[str, str] = {}
    for line in _THOUGHTS.sub("", answer).splitlines():
        question = _question(line)
        if question:
            questions.setdefault(question.casefold(), question)
    return list(questions.values())[:limit]


def _question(line: str) -> str:
    """Return the bare question of one line, or nothing."""
    text = _BOLD.sub(r"\1", " ".join(line.split()))
    text = _unquoted(_strip_prefix(_MARKS, text))
    text = _strip_prefix(_NUMBER, text)
    text = _strip_prefix(_LABEL, text)
    text = _unquoted(text)
    whole = _ITALIC_LINE.fullmatch(text)
    text = whole[1] if whole else text
    if not any(character.isalnum() for character in text) or _NOT_A_QUESTION.fullmatch(text):
        return ""
    return text


def _strip_prefix(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.match(text)
    return text[match.end() :] if match else text


def _unquoted(text: str) -> str:
    body = text.rstrip(",") if text[:1] in _QUOTES else text
    closing = _QUOTES.get(body[:1])
    inner = body[1:-1]
    if closing and body.endswith(closing) and not {body[0], closing} & set(inner):
        return inner.strip()
    return text
