"""A question set about the modules of Python's library, small enough for a first try.

A question is the first sentence of a function's, class's or method's documentation, as
:mod:`llama_index_adapters.demo.documentation` collects them; the passage that answers it is the
documentation of the module it stands in. So a passage is asked about several times in several
words, as the pages of a help centre are. A question that its passage repeats is left out.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path

from llama_index_adapters.demo.documentation import (
    MAX_PASSAGE,
    Entry,
    distinct,
    module_entries,
    public_sources,
    repeats,
)
from llama_index_adapters.errors import InvalidDatasetError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.services.progress import progress_bar

_MIN_PASSAGE = 40  # characters


def module_questions(*, show_progress: bool = False) -> EmbeddingQAFinetuneDataset:
    """Return questions and the modules of Python's standard library that answer them.

    About 750 questions and 210 passages with Python 3.11, read from the sources of the Python that
    runs. Ids of passages are names of modules, ids of questions those of what they ask for.

    Args:
        show_progress: show a bar over the source files.

    Raises:
        InvalidDatasetError: when this installation has no documentation (``python -OO`` and
            stripped images leave it out).

    Example:
        >>> questions = module_questions()
        >>> questions.queries["ftplib.FTP.set_debuglevel"]
        'Set the debugging level'
        >>> questions.relevant_docs["ftplib.FTP.set_debuglevel"]
        ['ftplib']
    """
    root = Path(sysconfig.get_path("stdlib"))
    passages: dict[str, str] = {}
    entries: list[Entry] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes of other people
        paths = list(public_sources(root))
        for path in progress_bar(paths, "Documentation", unit="file", disable=not show_progress):
            name = ".".join(
                part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"
            )
            try:
                tree = ast.parse(path.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            text = (ast.get_docstring(tree) or "")[:MAX_PASSAGE]
            if len(text) >= _MIN_PASSAGE:
                passages[name] = text
                entries += module_entries(tree, name)
    questions: dict[str, str] = {}
    answers: dict[str, list[str]] = {}
    for name, (question, _) in distinct(entries).items():
        module = _module_of(name, passages)
        if not repeats(question, passages[module]):
            questions[name] = question
            answers[name] = [module]
    if not questions:
        raise InvalidDatasetError(
            "no documentation was found in the standard library; this Python seems to be stripped "
            "of its docstrings. Use a full installation."
        )
    return EmbeddingQAFinetuneDataset(queries=questions, corpus=passages, relevant_docs=answers)


def _module_of(name: str, modules: dict[str, str]) -> str:
    """Return the innermost module that a qualified name stands in."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name
