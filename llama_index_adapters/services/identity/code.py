"""Code of a user's own, which decides answers as settings do."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from functools import cache
from types import CodeType
from typing import Any

# Packages that may be installed from a checkout.
_INSTALLED = ("llama_index", "llama_index_adapters", "langchain", "langchain_core")


def named(thing: Any) -> str:
    """Return the module and qualified name of a class or function."""
    return f"{thing.__module__}.{thing.__qualname__}"


def is_own(thing: Any) -> bool:
    """Return whether a class or function is in nobody's package.

    Packages have names and releases; what is written in a script, a notebook or a project changes
    without either.
    """
    module = thing.__module__ or ""
    if module.partition(".")[0] in (*_INSTALLED, *sys.builtin_module_names, "builtins"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not file.startswith(_library_paths())


def source_sha256(thing: Any) -> str:
    """Return a hash of what a class or function does; comments, docstrings and layout aside."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        # Typed at a prompt, or a lambda in the middle of a line: the compiled code.
        return hashlib.sha256(repr(_compiled(thing)).encode()).hexdigest()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
            body.pop(0)
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _compiled(thing: Any) -> object:
    code = getattr(thing, "__code__", None)
    if code is not None:
        return _constants(code)
    return sorted(
        (name, _constants(value.__code__))
        for name, value in vars(thing).items()
        if hasattr(value, "__code__")
    )


def _constants(code: CodeType) -> list[object]:
    constants = [
        _constants(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts
    ]
    return [code.co_code.hex(), code.co_names, constants]


@cache
def _library_paths() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
