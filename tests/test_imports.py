"""The house has one direction, and its front door is light."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llama_index_adapters

PACKAGE = "llama_index_adapters"
ROOT = Path(llama_index_adapters.__file__).parent

# From the ground up; what lies in a folder belongs to the folder's floor.
FLOORS = (
    {"errors", "version"},
    {"checks", "display", "files", "services"},
    {"retrieval"},
    {"questions", "adapters", "alignment"},
    {"vectors", "training"},
    {"serving"},
    {"langchain", "index", "evaluation"},
    {"report"},
    {"engines"},
    {"demo", "ray"},
    {"cli"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# Inside the folder of adapters: the format on disk stands below what is learned.
ADAPTER_FLOORS = {"served": 0, "families": 1, "disk": 2, "learned": 3}

# Names that a registry turns into modules when they are asked for.
REGISTRIES = {
    "": "public names are imported on first use",
    "adapters.families": "a family names its torch half, which serving never imports",
    "cli.indexes": "a vector store's package is imported when --index names a folder of it",
    "index.registry": "a store's reader is imported when an index of that store is read",
}

# What a process that asks a model and serves queries imports.
SERVING = ("serving.model", "vectors.embed", "vectors.local", "engines.adapter", "cli")
# Parts that need an extra, with the package that brings it.
EXTRAS = {"langchain": "langchain_core.embeddings", "ray": "ray", "report": "bokeh"}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    .removesuffix("__init__")
    .rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def statements(nodes: list[ast.stmt], deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every statement with whether it runs later than the module's own import."""
    for node in nodes:
        yield node, deferred
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        later = deferred or typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in ("body", "orelse", "finalbody", "handlers"):
            yield from statements(getattr(node, name, []), later)


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """Yield the full name of everything a module imports, and whether it waits."""
    for node, deferred in statements(ast.parse(MODULES[module].read_text()).body):
        if isinstance(node, ast.Import):
            yield from ((alias.name, deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix(f"{PACKAGE}.")
                yield (f"{PACKAGE}.{inner}" if inner in MODULES else node.module), deferred


def own_imports(module: str) -> set[str]:
    """Return every module of this package that a module imports, at once, late or for types."""
    return {
        name.removeprefix(PACKAGE).removeprefix(".")
        for name, _ in imports(module)
        if name.split(".")[0] == PACKAGE
    }


def floor(module: str) -> tuple[int, int]:
    room, _, rest = module.partition(".")
    inner = ADAPTER_FLOORS.get(rest.split(".")[0], 0) if room == "adapters" else 0
    return FLOOR_OF[room], inner


def test_four_modules_stand_at_the_root():
    assert {path.stem for path in ROOT.glob("*.py")} == {"__init__", "errors", "checks", "version"}
    assert {module.split(".")[0] for module in MODULES} - {""} == set(FLOOR_OF)


def test_imports_go_down_and_never_in_a_circle():
    """Late imports and those for type checkers count too."""
    needs = {module: own_imports(module) for module in MODULES if module}
    assert sum(map(len, needs.values())) > 300
    strangers = {name for names in needs.values() for name in names} - set(MODULES)
    assert not strangers, "not modules of the package, or its root, which is above everything"
    up = [
        f"{module} imports {name} from above"
        for module, names in needs.items()
        for name in names
        if floor(name) > floor(module)
    ]
    assert not up
    graphlib.TopologicalSorter(needs).prepare()


def test_only_registries_import_by_name():
    users = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.Name) and node.id in ("import_module", "__import__"))
    }
    assert users == set(REGISTRIES)


def test_torch_waits_outside_what_is_learned():
    at_once = {
        module
        for module in MODULES
        for name, deferred in imports(module)
        if name.split(".")[0] == "torch" and not deferred
    }
    assert {"adapters.learned.base", "training.loop"} <= at_once
    homes = {".".join(module.split(".")[:2]) for module in at_once if module[:8] == "adapters"}
    assert homes == {"adapters.learned"}
    assert {module.split(".")[0] for module in at_once} == {"adapters", "training"}
    assert "training.options" not in at_once


def test_ray_is_imported_by_its_own_part_alone():
    users = {
        module for module in MODULES for name, _ in imports(module) if name.split(".")[0] == "ray"
    }
    assert {module.split(".")[0] for module in users} == {"ray"}


def test_serving_and_asking_import_no_torch():
    """One fresh interpreter, one name after the other."""
    names = [
        PACKAGE,
        *(f"{PACKAGE}.{part}" for part in SERVING),
    ]
    code = (
        f"import importlib, sys\nfor name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_its_extra_a_part_names_the_command():
    code = (
        "import importlib, sys\n"
        "from llama_index_adapters.errors import MissingExtraError\n"
        f"for part, package in {EXTRAS}.items():\n"
        "    sys.modules[package] = None\n"
        f"    try:\n        importlib.import_module('{PACKAGE}.' + part)\n"
        "    except MissingExtraError as error:\n        print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    said = shown.stdout.splitlines()
    assert len(said) == len(EXTRAS)
    for line, part in zip(said, EXTRAS, strict=True):
        assert line.endswith(f'Run: pip install "llama-index-adapters[{part}]"')


def test_the_front_door_imports_nothing_but_itself():
    code = (
        f"import sys, {PACKAGE};"
        f"print(sorted(name for name in sys.modules if name.startswith('{PACKAGE}')"
        " or name in ('numpy', 'llama_index.core')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ast.literal_eval(shown.stdout) == [PACKAGE, f"{PACKAGE}.version"]


class TestPublicNames:
    def test_each_can_be_imported(self):
        for name in llama_index_adapters.__all__:
            assert getattr(llama_index_adapters, name).__name__

    def test_nothing_else_is_listed(self):
        listed = {name for name in dir(llama_index_adapters) if not name.startswith("_")}
        assert listed == set(llama_index_adapters.__all__)

    def test_each_has_one_home(self):
        assert llama_index_adapters.__all__ == sorted(llama_index_adapters._HOMES)
        for name, home in llama_index_adapters._HOMES.items():
            module = importlib.import_module(f"{PACKAGE}.{home}")
            assert getattr(module, name) is getattr(llama_index_adapters, name)

    def test_type_checkers_see_the_same(self):
        (block,) = (
            node
            for node in ast.parse(MODULES[""].read_text()).body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        seen = {alias.name: node.module for node in block.body for alias in node.names}
        homes = llama_index_adapters._HOMES.items()
        assert seen == {name: f"{PACKAGE}.{home}" for name, home in homes}

    def test_another_name_is_not_there(self):
        with pytest.raises(AttributeError, match=f"module '{PACKAGE}' has no attribute 'Adaptor'"):
            _ = llama_index_adapters.Adaptor
