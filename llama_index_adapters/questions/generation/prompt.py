"""What a language model is asked for a passage."""

from __future__ import annotations

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
