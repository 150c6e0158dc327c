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

# From the ground up; whatever lies in a folder belongs to the folder's floor.
FLOORS = (
    {"", "errors", "checks", "files", "services"},
    {"retrieval"},
    {"questions"},
    {"vectors"},
    {"adapters"},
    {"training", "evaluation"},
    {"serving", "langchain"},
    {"index"},
    {"engines"},
    {"demo", "ray"},
    {"cli"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}

# ``adapter.save(path)`` and ``Adapter.load(path)`` are LlamaIndex's, so an adapter has to know
# how it is saved; the import waits until it is asked to.
DEFERRED_UPWARD = {("adapters.learned.base", "adapters.disk")}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    .removesuffix("__init__")
    .rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def statements(nodes: list[ast.stmt], deferred: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield import statements with whether they run later than the module's own import.

    What only type checkers read is left out.
    """
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, deferred
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            later = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for name in ("body", "orelse", "finalbody", "handlers"):
                yield from statements(getattr(node, name, []), later)


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """Yield the full name of everything a module imports, and whether it waits."""
    for node, deferred in statements(ast.parse(MODULES[module].read_text()).body):
        if isinstance(node, ast.Import):
            yield from ((alias.name, deferred) for alias in node.names)
        else:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix(f"{PACKAGE}.")
                yield (f"{PACKAGE}.{inner}" if inner in MODULES else node.module), deferred


def own_imports(module: str) -> Iterator[tuple[str, bool]]:
    for name, deferred in imports(module):
        if name.split(".")[0] == PACKAGE:
            yield name.removeprefix(PACKAGE).removeprefix("."), deferred


def floor(module: str) -> int:
    return FLOOR_OF[module.split(".")[0]]


def test_every_module_has_its_floor():
    assert len(MODULES) > 40
    assert {module.split(".")[0] for module in MODULES} <= set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    for imported, deferred in own_imports(module):
        assert imported in MODULES, f"{module} imports {imported}, which is not a module"
        if deferred and (module, imported) in DEFERRED_UPWARD:
            continue
        assert floor(imported) <= floor(module), f"{module} imports {imported} from above"


def test_no_module_imports_itself_in_a_circle():
    needs = {
        module: {name for name, deferred in own_imports(module) if not deferred and name}
        for module in MODULES
        if module
    }
    assert sum(map(len, needs.values())) > 100
    graphlib.TopologicalSorter(needs).prepare()


def test_torch_waits_outside_adapters_and_training():
    at_once = {
        module
        for module in MODULES
        for name, deferred in imports(module)
        if name.split(".")[0] == "torch" and not deferred
    }
    assert {"adapters.learned.base", "training.loop"} <= at_once
    assert {module.split(".")[0] for module in at_once} == {"adapters", "training"}
    assert not at_once & {"adapters.families", "training.options"}


def test_ray_is_imported_by_its_own_part_alone():
    users = {
        module for module in MODULES for name, _ in imports(module) if name.split(".")[0] == "ray"
    }
    assert {module.split(".")[0] for module in users} == {"ray"}


def test_serving_and_asking_import_no_torch():
    """One fresh interpreter, one name after the other."""
    names = [PACKAGE, *(f"{PACKAGE}.{part}" for part in ("serving.model", "engines.adapter", "cli"))]
    code = (
        f"import importlib, sys\nfor name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_front_door_imports_nothing_but_itself():
    code = (
        f"import sys, {PACKAGE};"
        f"print(sorted(name for name in sys.modules if name.startswith('{PACKAGE}')"
        " or name in ('numpy', 'llama_index.core')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ast.literal_eval(shown.stdout) == [PACKAGE]


class TestPublicNames:
    def test_each_can_be_imported(self):
        for name in llama_index_adapters.__all__:
            assert getattr(llama_index_adapters, name).__name__
            assert name in dir(llama_index_adapters)

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
