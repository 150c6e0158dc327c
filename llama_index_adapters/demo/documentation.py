"""A question set made of documentation that every installation already has.

Every documented function, class and method of the Python standard library, numpy and torch
is one entry. The first sentence of its documentation ("Recursively delete a directory tree")
is a question somebody might ask; the rest of the entry (where it lives, its parameters,
description, notes, examples) is the passage that answers it. People wrote both halves, for
readers and not for a benchmark, and nothing has to be downloaded or shipped.

How entries are read: Python sources are parsed, never imported, because importing the whole
standard library opens a browser (``antigravity``), prints (``this``) and needs a display
(``turtle``). Objects written in C have no source to parse, and numpy and torch define much
of their public surface in private modules; those are read from a fixed list of public
namespaces (:data:`NAMESPACES`), which any program may import.

How the pairs are kept honest: the name of an entry is neither in its question nor at the
head of its passage, which says only where it lives and what it takes.
:func:`question_and_passage` refuses an entry whose summary contains its own name, whose
passage repeats its summary, or that is boilerplate; :func:`distinct` drops passages that are
mostly copies of another one and questions that two entries would answer. Of about 11,000
docstrings some 3,100 remain with Python 3.11, numpy 2.4 and torch 2.13.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import logging
import pkgutil
import re
import sysconfig
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_index_adapters.checks import require_whole
from llama_index_adapters.errors import InvalidDatasetError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.services.progress import progress_bar

__all__ = ["Entry", "distinct", "documentation_dataset", "question_and_passage"]

logger = logging.getLogger(__name__)

NAMESPACES = (
    *("builtins", "array", "atexit", "binascii", "bz2", "cmath", "collections", "contextvars"),
    *("csv", "datetime", "decimal", "errno", "faulthandler", "fcntl", "functools", "gc", "io"),
    *("itertools", "lzma", "marshal", "math", "mmap", "operator", "os", "pickle", "random", "re"),
    *("resource", "select", "signal", "socket", "socket.socket", "sqlite3", "ssl", "struct"),
    *("sys", "syslog", "termios", "threading", "time", "tracemalloc", "types", "unicodedata"),
    *("weakref", "zlib"),
    *("numpy", "numpy.char", "numpy.fft", "numpy.lib", "numpy.lib.array_utils"),
    *("numpy.lib.format", "numpy.lib.introspect", "numpy.lib.npyio", "numpy.lib.scimath"),
    *("numpy.lib.stride_tricks", "numpy.linalg", "numpy.random", "numpy.rec", "numpy.strings"),
    *("torch.Tensor", "torch", "torch.autograd", "torch.compiler", "torch.cuda"),
    *("torch.distributed", "torch.fft", "torch.jit", "torch.linalg", "torch.nn.functional"),
    *("torch.sparse", "torch.special"),
)
"""Public namespaces read by import, for what has no Python source or a private one."""

SKIPPED_FOLDERS = frozenset(
    {
        *("site-packages", "dist-packages", "lib-dynload"),
        *("examples", "test", "tests", "testing"),
        # Absent from many installations, or removed from newer Pythons.
        *("distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter"),
        "turtledemo",
        # Translators of Fortran and CUDA: next to no documentation in much source.
        *("f2py", "hipify"),
    }
)
SKIPPED_FILES = frozenset({"antigravity.py", "conftest.py", "setup.py", "this.py", "turtle.py"})

MIN_QUERY_WORDS, MAX_QUERY_WORDS = 4, 40
MIN_DESCRIPTION, MIN_PASSAGE, MAX_PASSAGE = 60, 120, 1500  # characters
MAX_SIGNATURE = 240  # characters
READ = 1000  # characters, about what a model with a window of 256 tokens sees
SHINGLE = 5  # words
MAX_COPIED = 0.7  # share of a passage's shingles that may stand in earlier passages

BOILERPLATE = re.compile(
    r"^(abstract|alias|deprecated|equivalent|example|experimental|helper|in-?place|inherited"
    r"|initiali[sz]e self|internal|like|note|obsolete|override|private|returns? an? bool\w*( \w+)?$"
    r"|same as|see|shorthand|similar|subclass|this is|todo|unused|variant|warning|wrapper)\b"
    r"|\b(deprecated|not implemented|for internal use)\b",
    re.IGNORECASE,
)
ROLE = re.compile(r":[a-z:]+:`(?:[^`<]*<)?[~!]?([^`>]*)>?`")
MARKUP = re.compile(r"[\\{}=|]|->|>>>|\.\. |--")
# numpy's link section quotes the summary lines, that is the questions, of other entries.
SEE_ALSO = re.compile(
    r"^See Also\n-+\n(?:(?!.*\n-{3,}).*(?:\n|\Z))*?(?=.*\n-{3,}|\Z)", re.MULTILINE
)
SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!\b[A-Z]\.)(?<=[.!?])\s+(?=[A-Z`\"'(:*])")
CALL = re.compile(r"(?:[\w.]+\.)?(\w+)\s*\(")
NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
FILLERS = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "into", "of", "on", "the", "to"}
)


@dataclass(frozen=True)
class Entry:
    """One documented object.

    Attributes:
        name: qualified public name, such as ``numpy.linalg.norm``.
        signature: its parameters in parentheses, or empty when unknown.
        documentation: its docstring as written.
    """

    name: str
    signature: str
    documentation: str


def documentation_dataset(
    *, n_pairs: int = 3000, seed: int = 0, show_progress: bool = False
) -> EmbeddingQAFinetuneDataset:
    """Return questions and passages from the documentation installed on this machine.

    Every question has one relevant passage and every passage one question, so split it
    with ``split_by_passage`` (or by query: it is the same). Passage ids are qualified
    names. The choice depends on the seed and the installed versions alone: entries are
    ordered by a hash of seed and name, so a smaller set is the beginning of a larger one
    and another version of a library exchanges only its own entries.

    Args:
        n_pairs: how many pairs; fewer come back, with a warning in the log, when fewer exist.
        seed: which pairs, and their order.
        show_progress: show a bar over the source files.

    Raises:
        InvalidOptionError: when ``n_pairs`` is not positive.
        InvalidDatasetError: when this installation has no documentation at all
            (``python -OO`` and stripped images leave docstrings out).
    """
    require_whole(n_pairs, "n_pairs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names and invalid escapes of other people
        pairs = distinct(_entries(show_progress))
    if not pairs:
        raise InvalidDatasetError(
            "no documentation was found in the standard library, numpy or torch; "
            "this Python seems to be stripped of its docstrings. Use a full installation."
        )
    if len(pairs) < n_pairs:
        logger.warning("%d documentation pairs were asked for, %d exist", n_pairs, len(pairs))
    chosen = sorted(pairs, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    chosen = chosen[:n_pairs]
    return EmbeddingQAFinetuneDataset(
        queries={f"find {name}": pairs[name][0] for name in chosen},
        corpus={name: pairs[name][1] for name in chosen},
        relevant_docs={f"find {name}": [name] for name in chosen},
    )


def distinct(entries: Iterable[Entry]) -> dict[str, tuple[str, str]]:
    """Return ``{name: (question, passage)}`` of the entries worth asking about.

    The first of several entries with one name, or with passages that begin with mostly the
    same words (aliases, in-place forms, one polynomial basis after the other), stands for
    all: a model could not tell them apart.
    A question that then still belongs to two entries has no right answer and is left out.
    """
    pairs: dict[str, tuple[str, str]] = {}
    read: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        if entry.name in pairs or entry.documentation in read:
            continue
        read.add(entry.documentation)
        pair = question_and_passage(entry)
        if pair is None:
            continue
        words = _words(pair[1].partition("\n\n")[2][:READ])
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}
        if len(shingles & seen) > MAX_COPIED * len(shingles):
            continue
        seen |= shingles
        pairs[entry.name] = pair
    askers = Counter(" ".join(_words(question)) for question, _ in pairs.values())
    return {name: pair for name, pair in pairs.items() if askers[" ".join(_words(pair[0]))] == 1}


def question_and_passage(entry: Entry) -> tuple[str, str] | None:
    """Return the summary sentence and the rest of an entry, or None when it is not a fair pair.

    Fair means: the question is an English sentence of 4 to 40 words that does not contain the
    name it asks for; the passage has at least 120 characters and does not repeat the
    question; a name that is an ordinary phrase ("add header") does not stand in both. Long
    passages are cut at 1,500 characters, more than a sentence embedding model reads.
    """
    owner, _, short_name = entry.name.rpartition(".")
    form, text = _leading_signature(inspect.cleandoc(entry.documentation), short_name)
    first, _, rest = text.partition("\n\n")
    summary, *more = SENTENCE_END.split(" ".join(first.split()), maxsplit=1)
    question = re.sub(r"[`*]+", "", ROLE.sub(r"\1", summary)).rstrip(" .")
    description = SEE_ALSO.sub("", "\n\n".join([*more, rest])).strip()
    if (
        not MIN_QUERY_WORDS <= len(_words(question)) <= MAX_QUERY_WORDS
        or not question.isascii()
        or not question[0].isalpha()
        or question.endswith(":")
        or MARKUP.search(question)
        or BOILERPLATE.search(question)
        or "deprecated" in short_name.lower()
        or description.startswith(".. deprecated::")
        or len(description) < MIN_DESCRIPTION
        or short_name.lower() in {*_words(question), *re.findall(r"\w+", question.lower())}
    ):
        return None
    signature = textwrap.shorten(entry.signature or form, MAX_SIGNATURE, placeholder=" ...")
    heading = f"{owner or 'builtins'}: {signature}".rstrip()
    passage = f"{heading}\n\n{description}"
    if len(passage) > MAX_PASSAGE:
        passage = passage[:MAX_PASSAGE].rpartition(" ")[0].rstrip()
    if (
        len(passage) < MIN_PASSAGE
        or repeats(question, passage)
        or (_names(question, short_name) and _names(passage, short_name))
    ):
        return None
    return question, passage


def _names(text: str, short_name: str) -> bool:
    """Tell whether a text holds a name, as one word or spelled out, inflected or not."""
    words = [word for word in _words(text) if word not in FILLERS]
    parts = [part.lower() for part in NAME_PART.findall(short_name)]
    return any(_same_stem("".join(parts), word) for word in words) or any(
        all(map(_same_stem, parts, words[i : i + len(parts)]))
        for i in range(len(words) - len(parts) + 1)
    )


def _same_stem(word: str, other: str) -> bool:
    shorter, longer = sorted((word, other), key=len)
    stem = shorter.removesuffix("e") if len(shorter) > 3 else shorter
    return longer.startswith(stem) and len(longer) - len(stem) <= 3


def repeats(question: str, passage: str) -> bool:
    """Tell whether the passage holds the question, or a run of most of its words."""
    words = _words(question)
    run = max(MIN_QUERY_WORDS, round(0.7 * len(words)))
    text = f" {' '.join(_words(passage))} "
    return any(
        f" {' '.join(words[i : i + run])} " in text for i in range(max(1, len(words) - run + 1))
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _leading_signature(text: str, short_name: str) -> tuple[str, str]:
    """Split off the call forms that documentation of C functions starts with."""
    signature = ""
    while (match := CALL.match(text)) and match[1] in (short_name, "__init__"):
        end, depth = match.end(), 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        line_end = text.find("\n", end)
        line_end = len(text) if line_end < 0 else line_end
        signature = signature or text[match.end(1) : line_end].partition("#")[0].strip()
        text = text[line_end:].lstrip("\n -:")
    return " ".join(signature.split()), text


def _entries(show_progress: bool) -> Iterator[Entry]:
    """Yield every documented object, public names of a namespace before their definitions."""
    for namespace in NAMESPACES:
        yield from _namespace_entries(namespace)
    files = [
        (path, package, root) for package, root in _source_roots() for path in public_sources(root)
    ]
    for path, package, root in progress_bar(
        files, "Documentation", unit="file", disable=not show_progress
    ):
        parts = (package, *path.relative_to(root).with_suffix("").parts)
        module = ".".join(part for part in parts if part and part != "__init__")
        yield from _source_entries(path, module)


def _source_roots() -> Iterator[tuple[str, Path]]:
    """Yield the folders to parse and the package each of them is, standard library first."""
    yield "", Path(sysconfig.get_path("stdlib"))
    for package in ("numpy", "torch"):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            logger.warning("%s is not installed: its documentation is left out", package)
            continue
        yield package, Path(spec.submodule_search_locations[0])


def public_sources(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder and those below it that are for everybody, in order."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("_") and path.name != "__init__.py":
            continue
        if path.is_dir() and path.name not in SKIPPED_FOLDERS:
            yield from public_sources(path)
        elif path.suffix == ".py" and path.name not in SKIPPED_FILES:
            yield path


def _source_entries(path: Path, module: str) -> Iterator[Entry]:
    """Yield the public classes, functions and methods of one Python file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        logger.info("%s cannot be read and is left out: %s", path, error)
        return
    yield from module_entries(tree, module)


def module_entries(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Entry]:
    """Yield what is public and documented in a module or class of that name."""
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        documentation = ast.get_docstring(node, clean=False)
        if documentation:
            yield Entry(name, _node_signature(node), documentation)
        if isinstance(node, ast.ClassDef):
            yield from module_entries(node, name)


def _node_signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        return next(
            (
                _node_signature(method)
                for method in node.body
                if isinstance(method, ast.FunctionDef) and method.name == "__init__"
            ),
            "",
        )
    arguments = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({arguments}){returns}"


def _namespace_entries(namespace: str) -> Iterator[Entry]:
    """Yield the public objects of an importable namespace and the methods of its classes."""
    try:
        owner = pkgutil.resolve_name(namespace)
    except (AttributeError, ImportError, OSError) as error:
        logger.info("%s cannot be imported and is left out: %s", namespace, error)
        return
    prefix = "" if namespace == "builtins" else f"{namespace}."
    for attribute in sorted(dir(owner)):
        value = getattr(owner, attribute, None)
        if attribute.startswith("_") or getattr(value, "__name__", attribute) != attribute:
            continue  # private, or another name of something that has its own
        yield from _object_entry(f"{prefix}{attribute}", value)
        if isinstance(value, type):
            for method, function in sorted(vars(value).items()):
                if not method.startswith("_"):
                    yield from _object_entry(f"{prefix}{attribute}.{method}", function)


def _object_entry(name: str, value: object) -> Iterator[Entry]:
    documentation = getattr(value, "__doc__", None)
    if not isinstance(documentation, str) or not (
        callable(value) or inspect.isdatadescriptor(value)
    ):
        return
    try:
        signature = str(inspect.signature(value)) if callable(value) else ""
    except (TypeError, ValueError):  # C functions that do not tell their parameters
        signature = ""
    signature = re.sub(r"^\((self|cls)(, /)?(, )?", "(", signature)
    # The form of a default value may hold its address, another one in every process.
    yield Entry(name, re.sub(r"<[^<>]*>", "...", signature), documentation)
