"""One question in a language model's answer: what belongs to it, and what is none."""

# ruff: noqa: RUF001  the patterns name the dashes, quotes and full-width signs of other scripts

from __future__ import annotations

import re

from llama_index_adapters.files.text import is_encodable

QUESTION_MARKS = "?？؟⸮⁇⁈⁉‽﹖፧꘏꛷\u037e"
_MARK = f"[{re.escape(QUESTION_MARKS)}]"
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]|^[\u200e\u200f]+")
# Armenian marks the word that is asked about, Spanish the beginning; Greek ends with a semicolon;
# Japanese, Chinese and Korean ask with a last syllable, often before a full stop.
_ASKS = re.compile(
    rf"{_MARK}\W*$ | ՞ | ^¿ | [α-ωά-ώ];\W*$ | (?:か|かな|吗|嗎|呢|까|까요|나요|가요)[。．.]?\W*$",
    re.VERBOSE,
)
_CLOSERS = "\"'”’»›」』)）]】*_`"
_STATEMENT_END = frozenset(".!…。．！:：;；,，、।۔")
# Behind a question: a remark in brackets, after a dash or a word with a colon.
_ANNOTATION = re.compile(
    rf"(.*{_MARK})(?:\s*[:：]\s*\w.*"
    r"|\s+(?:[(\[（【].*[)\]）】]|[-–—→=>]+\s.*|[^\W\d_]{1,12}\s*[:：].*))"
)
# Or another sentence: "What is A? It is a letter."
_SENTENCE = re.compile(rf"(.*(?:{_MARK}\s+(?![a-z])|？))\S.*|(.*{_MARK})\s.*[.!。！]")
# "Sure! What is A?"
_LEAD = re.compile(r"([^?？]{1,200}?[.!:。！：])\s+(?=\S)")

_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*]+)(?<=\S)\*\*(?![\w*])")
_ITALIC_LINE = re.compile(r"\*(?=[^\s*])([^*]+)(?<=\S)\*")
QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "`": "`", "「": "」"}

# What is said about the questions, or to the person who asked for them.
_REMARK = re.compile(
    r"""
      (?: a | answer ) \s* \d{0,3} \s* [:：] \s .*
    | (?: (?: suggested | generated ) \s )? (?: questions | queries ) \W*
    | (?: none | null | nil | nothing | empty | n/a ) \W*
    | (?: there \s (?: is | are ) \s )? no \b (?: \s \w+ ){0,2} \s questions? \b [^?]*
    | (?: sure | certainly | of \s course | absolutely | okay | ok ) [,.!] [^?]*
    | (?: (?: here | below ) \s (?: are | is ) | here ['’] s ) \b [^?]*
    | (?: based \s on | according \s to | given | from ) \s the \s (?: passage | text ) \b [^?]*
    | (?: let \s me \s know | i \s hope | hope \s (?: this | these ) | feel \s free ) \b [^?]*
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A refusal may end with a question: "I'm sorry, could you share the passage?"
_REFUSAL = re.compile(
    r"""
      \b as \s an \s ai \b
    | ^ (?: i \s? ['’]? a? m \s (?: really \s | very \s | so \s )?
              (?: sorry (?! \s (?: for | about ) ) | unable | afraid ) \b
          | sorry , | unfortunately \b | i \s apologi[sz]e \b | apologies \b )
    | ^ i \s (?: ca n['’]?t | can \s? not | could \s not | wo n['’]t | do \s not | do n['’]t ) \s
        (?: generate | create | write | provide | assist | produce | comply | fulfil | formulate
          | answer \s th | help \s (?: with \s )? (?: you | th ) )
    | ^ (?: lo \s siento | no \s puedo | (?: je \s suis \s )? désolé | je \s ne \s (?: peux | puis )
          | es \s tut \s mir | leider \b | ich \s kann \s (?: leider | keine | das \s nicht )
          | desculpe | não \s posso | mi \s dispiace | non \s posso | извините | к \s сожалению
          | (?: 很 | 非常 )? 抱歉 | 对不起 | 對不起 | 我?无法 | 我?無法 | 申し訳 | すみません
          | 죄송 )
    | \b (?: would \s you \s like | do \s you \s want | shall \s i | should \s i ) \b .*
        \b (?: me \s to | more \s questions ) \b
    | \b (?: can | could | would | will ) \s you \s (?: please \s )?
        (?: provide | share | paste | send | upload | give | specify | supply ) \b .*
        \b (?: passage | text | content | context ) \b
    | \b anything \s else \b .* \b (?: help | assist | need | want | like ) \b
    | \b how \s (?: can | may ) \s i \s (?: help | assist ) \s you \b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def asks(text: str) -> bool:
    """Return whether text ends like a question, in any script."""
    return _ASKS.search(text) is not None


def states(text: str) -> bool:
    """Return whether text ends like a statement, a command or the beginning of a list."""
    return text.rstrip(_CLOSERS)[-1:] in _STATEMENT_END and not asks(text)


def refuses(text: str) -> bool:
    """Return whether text says that there will be no questions, or asks what to do."""
    return _REFUSAL.search(text) is not None


def is_remark(text: str) -> bool:
    """Return whether text is about the questions or refuses to give any, or holds no word."""
    has_word = any(character.isalnum() for character in text)
    return not has_word or _REMARK.fullmatch(text) is not None or refuses(text)


def plain(text: str) -> str:
    """Return text in one line, without bold type."""
    return _BOLD.sub(r"\1", " ".join(_INVISIBLE.sub("", text).split()))


def unquoted(text: str) -> str:
    """Return text without the quotes or the emphasis around all of it."""
    whole = _ITALIC_LINE.fullmatch(text)
    text = whole[1] if whole else text
    body = text.rstrip(",") if text[:1] in QUOTES else text
    closing = QUOTES.get(body[:1])
    inner = body[1:-1]
    if closing and body.endswith(closing) and not {body[0], closing} & set(inner):
        return inner.strip()
    return text


def without_annotation(text: str) -> str:
    """Return a question without the remark behind it: ``(easy)``, ``Answer: two years``."""
    match = None if asks(text) else _ANNOTATION.fullmatch(text)
    return match[1] if match else text


def question_of(text: str) -> str:
    """Return the question that an item of a list or of JSON holds, or nothing.

    An item without a question mark is a query of keywords, unless it ends like a statement. A
    remark before or behind a question is taken off.
    """
    lead = _LEAD.match(text)
    if lead and is_remark(lead[1]):
        text = text[lead.end() :]
    text = without_annotation(text)
    behind = None if asks(text) else _SENTENCE.fullmatch(text)
    if behind:
        text = (behind[1] or behind[2]).rstrip()
    usable = not states(text) and not is_remark(text) and is_encodable(text)
    return text if usable else ""
