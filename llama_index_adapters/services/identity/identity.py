"""The identity of an embedding or language model: a hash over whatever can change its answers.

Counted are the class with its module, and the code of a class that is in nobody's package; fields,
private attributes and those of objects it holds; the content of files it names; weights in memory.
Left out, by their names, are credentials, batch sizes, timeouts and the like; an endpoint, where a
name was given that stands for the model; and what methods change while the model works. What
cannot be read makes the identity one of this process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.bridge.pydantic import BaseModel, SecretStr

from llama_index_adapters.files.content import content_sha256, expanded
from llama_index_adapters.services.identity.addresses import addresses
from llama_index_adapters.services.identity.code import (
    changed_by,
    is_own,
    named,
    source_sha256,
    state_of,
)
from llama_index_adapters.services.identity.folders import model_files
from llama_index_adapters.services.identity.weights import (
    array_sha256,
    is_tensor,
    is_torch_module,
    module_sha256,
    tensor_sha256,
)
from llama_index_adapters.services.identity.words import (
    changes_nothing,
    is_endpoint,
    is_plumbing,
    may_be_client,
    names_files,
    names_model,
)

logger = logging.getLogger(__name__)

STATED = "stated_identity"
"""The attribute by which a model says itself what it is: a text that changes with its answers."""

# Where an object whose settings cannot be read carries what tells it from others.
_TOKEN = "_llama_index_adapters_token"
_PROCESS = uuid.uuid4().hex
_DEEPEST = 8
_OF_SENTENCE_TRANSFORMERS = frozenset({"prompts", "truncate_dim", "max_seq_length"})
_TORCH = "torch"
_PLAIN = (bool, int, float, str, type(None))
_AS_TEXT = (complex, date, datetime, timedelta, Decimal, uuid.UUID, range, slice)


RULES = "2:"
"""How an identity by today's rules begins; one by earlier rules is a sha256 alone."""


class Identity(NamedTuple):
    """What a model is known by.

    Attributes:
        digest: :data:`RULES` and a sha256 in hex.
        lasting: whether it is the same in another process; False when a part of the model could
            not be read.
    """

    digest: str
    lasting: bool


def identity_of(model: BaseModel) -> Identity:
    """Return what an embedding or language model is known by.

    A model whose settings cannot be read, such as one around an object of a compiled library, is
    known in this process alone, and a warning says how to name it.
    """
    stated = getattr(model, STATED, None)
    if isinstance(stated, str) and stated:
        return Identity(_digest(["stated", stated]), lasting=True)
    description = _Description()
    content = description.of(model, _Around())
    if not description.unread:
        return Identity(_digest(content), lasting=True)
    token = model.__dict__.get(_TOKEN)
    if token is None:
        token = uuid.uuid4().hex
        model.__dict__[_TOKEN] = token
        logger.warning(
            "%s holds what cannot be read (%s), so nobody can tell whether another one gives the "
            "same answers: what it gives is kept for this process only. Give it an attribute "
            "%s, a text that changes whenever its answers do.",
            type(model).__name__,
            ", ".join(description.unread[:3]),
            STATED,
        )
    return Identity(_digest([content, _PROCESS, token]), lasting=False)


class _Around(NamedTuple):
    """What is known about the place of a value inside a model.

    Attributes:
        depth: how deep it is.
        named: whether something around it names the model.
        placed: whether the name stands for the model wherever it is asked: a name that was given,
            and not what the class has by itself.
        trusted: whether what holds it is of a package and named, so that an object which cannot
            be read is the one of that name.
        attribute: the attribute that holds it.
    """

    depth: int = 0
    named: bool = False
    placed: bool = False
    trusted: bool = False
    attribute: str = ""


class _Description:
    """Turns values into JSON that is the same in every process for the same settings."""

    def __init__(self) -> None:
        self.unread: list[str] = []
        self._inside: set[int] = set()

    def of(self, value: Any, around: _Around) -> Any:
        """Return what a value says."""
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, _PLAIN):
            return value
        if id(value) in self._inside or around.depth > _DEEPEST:
            return "…"
        self._inside.add(id(value))
        try:
            return self._described(value, around._replace(depth=around.depth + 1))
        finally:
            self._inside.discard(id(value))

    def _described(self, value: Any, around: _Around) -> Any:
        if isinstance(value, SecretStr) or is_plumbing(type(value)):
            return None
        if isinstance(value, Mapping):
            return self._attributes(value.items(), around)
        if isinstance(value, list | tuple):
            return [self.of(item, around) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(json.dumps(self.of(item, around), sort_keys=True) for item in value)
        plain = _as_text(value)
        if plain is not None:
            return plain
        code = self._code(value, around)
        return self._object(value, around) if code is None else code

    def _code(self, value: Any, around: _Around) -> Any:
        """Return what a class or a function says; None for any other object."""
        if isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
            return ["partial", *(self.of(part, around) for part in parts)]
        if isinstance(value, MethodType):
            return [value.__name__, self.of(value.__self__, around)]
        if isinstance(value, FunctionType):
            if not is_own(value):
                return named(value)
            bound = _closure(value)
            held = [self.of(part, around) for part in (bound, value.__defaults__)]
            return [named(value), source_sha256(value), *held]
        if isinstance(value, type):
            return _class(value)
        return value.__qualname__ if isinstance(value, BuiltinFunctionType) else None

    def _object(self, value: Any, around: _Around) -> Any:
        kind = type(value)
        if is_tensor(value):
            return tensor_sha256(value)
        content: dict[str, Any] = {"class": _class(kind)}
        if is_torch_module(kind):
            content["weights"] = module_sha256(value)
            settings = dict(_settings_of_module(value))
            if getattr(value, "backend", _TORCH) != _TORCH:
                # What computes is then no weight of the module, and which file it was is not kept.
                self.unread.append(f"{value.backend} in {named(kind)}")
        else:
            state = state_of(kind)
            settings = {name: held for name, held in _settings_of(value) if name not in state}
            if not (settings or _can_hold_settings(value) or around.trusted):
                self.unread.append(f"{around.attribute}: {named(kind)}".removeprefix(": "))
        names = _names_in(value, settings)
        nested = [item for item in settings.values() if isinstance(item, Mapping)]
        is_named = around.named or bool(names) or any(_names_in(None, item) for item in nested)
        is_placed = around.placed or any(given for _, given in names)
        trusted = is_named and not is_own(kind)
        files = model_files(value)
        if files is not None:
            settings["model_name"] = content_sha256(files)
        if "fingerprint" in settings:
            # An adapter is known by its weights, not by its folder.
            settings.pop("adapter_path", None)
        within = around._replace(named=is_named, placed=is_placed, trusted=trusted)
        content["settings"] = self._attributes(settings.items(), within)
        return content

    def _attributes(self, items: Iterable[tuple[Any, Any]], around: _Around) -> dict[str, Any]:
        described: dict[str, Any] = {}
        for key, value in items:
            name = str(key)
            if around.placed and is_endpoint(name):
                continue
            if changes_nothing(name, value):
                said = self._client(name, value, around)
                if said is not None:
                    described[name] = said
                continue
            if names_files(name) and isinstance(value, str | Path):
                content = _content_at(value)
                if content is None and not Path(value).is_absolute() and str(value) != "~":
                    content = str(value)  # a name, such as that of a repository or a file in it
                if content:
                    described[name] = content
                continue
            described[name] = self.of(value, around._replace(attribute=name))
        return described

    def _client(self, name: str, value: Any, around: _Around) -> Any:
        """Return what a client says; None where that does not count.

        One that somebody wrote may be the model, and so may one that computes itself; of a
        package's counts where it asks, if no name stands for the model.
        """
        kind = type(value)
        if not may_be_client(name) or issubclass(kind, (*_PLAIN, Mapping, list, tuple)):
            return None
        if not is_plumbing(kind) and (is_own(kind) or is_torch_module(kind)):
            return self.of(value, around._replace(attribute=name))
        return None if around.placed else addresses(value) or None


def _names_in(holder: Any, settings: Mapping[Any, Any]) -> list[tuple[str, bool]]:
    """Return the names of a model among settings, and of each whether somebody gave it."""
    kinds = {type(item).__name__ for item in (holder, *settings.values())}
    fields = type(holder).model_fields if isinstance(holder, BaseModel) else {}
    return [
        (item, name not in fields or item != fields[name].default)
        for name, item in settings.items()
        # LangchainEmbedding names a model by its class where nothing else does.
        if names_model(str(name), item) and item not in kinds
    ]


def _as_text(value: Any) -> Any:
    """Return JSON for a value of a well-known type; None for any other."""
    if isinstance(value, Path):
        return _content_at(value) or ""
    if isinstance(value, bytes | bytearray):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return array.dtype.str if array.dtype.hasobject else array_sha256(array)
    if isinstance(value, re.Pattern):
        return [str(value.pattern), value.flags]
    if isinstance(value, ModuleType):
        return value.__name__
    return str(value) if isinstance(value, _AS_TEXT) else None


def _class(kind: type) -> list[str]:
    """Return what a class says: its name, and its code where it is in nobody's package."""
    own = [base for base in kind.__mro__ if base is not object and is_own(base)]
    return [named(kind), *(source_sha256(base) for base in own)]


def _settings_of_module(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the plain settings of a torch module beside its weights."""
    names = {*vars(module), *_OF_SENTENCE_TRANSFORMERS} - {"training"}
    if not is_own(type(module)):
        # The others come and go with the releases of a package.
        names &= _OF_SENTENCE_TRANSFORMERS
    for name in sorted(names):
        value = getattr(module, name, None)
        if not name.startswith("_") and _is_plain(value):
            yield name, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    return isinstance(value, _PLAIN) or (
        isinstance(value, list | tuple) and all(map(_is_plain, value))
    )


def _settings_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings of an object: fields and private attributes, or whatever it holds."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield name, getattr(value, name, None)
        yield from (value.__pydantic_private__ or {}).items()
        extra = value.__pydantic_extra__
        yield from (extra or {}).items()
        return
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _can_hold_settings(value: Any) -> bool:
    """Return whether the attributes of an object are all there is to it: not one made in C."""
    slots = any("__slots__" in vars(kind) for kind in type(value).__mro__)
    return type(value) is object or slots or hasattr(value, "__dict__")


def _closure(function: FunctionType) -> list[Any]:
    """Return the variables that a function holds, without those that it changes."""
    changed = changed_by(function)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [cell.cell_contents for name, cell in cells if name not in changed and _is_filled(cell)]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _content_at(path: str | Path) -> str | None:
    """Return what a path stands for, None when nothing is there."""
    named_file = expanded(path)
    return content_sha256(named_file) if str(path) and named_file.exists() else None


def _digest(content: object) -> str:
    return RULES + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
