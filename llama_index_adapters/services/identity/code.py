"""Code of a user's own, which decides answers as settings do."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Hashable, Iterator
from functools import cache
from types import CodeType
from typing import Any

_Method = ast.FunctionDef | ast.AsyncFunctionDef
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
    tree = _tree(thing)
    if tree is None:
        return hashlib.sha256(repr(_compiled(thing)).encode()).hexdigest()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
            body.pop(0)
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()


def state_of(kind: type) -> frozenset[str]:
    """Return the attributes that a class changes while it works.

    They are what it has done so far (a count of calls, a list of texts, a client that is opened
    when it is needed) and no settings. A model works in the methods that LlamaIndex calls, another
    object in those that return something, and both in those they use on the same object; what
    others change, such as ``__init__``, ``use(model)`` or ``load(path)``, it was told.
    """
    return _state_of(kind)


@cache
def _state_of(kind: Hashable) -> frozenset[str]:
    assert isinstance(kind, type)
    methods: dict[str, _Method] = {}
    for base in reversed(kind.__mro__):
        tree = None if base is object else _tree(base)
        for node in () if tree is None else ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.args:
                methods[node.name] = node
    for name in [name for name, method in methods.items() if _sets_up(method)]:
        del methods[name]
    called = _called_by_llama_index(kind)
    pending = [
        name
        for name, method in methods.items()
        if (name in called if called else _gives_something(method))
    ]
    working: set[str] = set()
    while pending:
        name = pending.pop()
        if name in methods and name not in working:
            working.add(name)
            pending += _used_of_itself(methods[name])
    return frozenset(
        name
        for method in map(methods.__getitem__, working)
        for holder, name in _changes(method)
        if holder == method.args.args[0].arg
    )


def changed_by(function: Any) -> frozenset[str]:
    """Return the variables around a function that it changes: what it has done so far."""
    tree = _tree(function)
    return frozenset() if tree is None else frozenset(name for _, name in _changes(tree))


_SETS_UP = ("__init__", "__new__", "__post_init__", "__setstate__", "model_post_init")
_CHANGING = (
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popleft"),
    *("put", "remove", "setdefault", "update"),
)


def _sets_up(method: _Method) -> bool:
    decorated = [ast.unparse(decorator) for decorator in method.decorator_list]
    return method.name in _SETS_UP or any(
        text.endswith(".setter") or "validator" in text for text in decorated
    )


def _gives_something(method: _Method) -> bool:
    """Return whether a method returns or yields anything but nothing or the object itself."""
    own = method.args.args[0].arg
    for node in ast.walk(method):
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if isinstance(node, ast.Return) and node.value is not None:
            itself = isinstance(node.value, ast.Name) and node.value.id == own
            nothing = isinstance(node.value, ast.Constant) and node.value.value is None
            if not itself and not nothing:
                return True
    return False


def _called_by_llama_index(kind: type) -> frozenset[str]:
    """Return the methods that LlamaIndex knows of a model; none for any other object."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("llama_index.core.")]
    return frozenset(
        name for base in bases for name, value in vars(base).items() if callable(value)
    )


def _used_of_itself(method: _Method) -> list[str]:
    """Return what a method takes of its own object: methods it calls, properties it reads."""
    own = method.args.args[0].arg
    return [
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == own
    ]


def _changes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what is assigned to or changed: the variable that holds it, "" for one itself."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            targets = [node.func.value] if node.func.attr in _CHANGING else []
        for target in targets:
            place = target.value if isinstance(target, ast.Subscript) else target
            if isinstance(place, ast.Attribute) and isinstance(place.value, ast.Name):
                yield place.value.id, place.attr
            elif isinstance(place, ast.Name):
                yield "", place.id


def _tree(thing: Any) -> ast.Module | None:
    """Return the parsed source; None for what was typed at a prompt or is not written in Python."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None


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
