"""Makes docs/robustness.md of docs/robustness.json, which ``make soak`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.endurance.soak import FIGURES

PAGE = FIGURES.with_name("robustness.md")
HEAD = """# Robustness

What was tried on this package, what was lost, and what the user saw. The figures are those of the
last soak run (`make soak`), written by the run itself; a smaller sample of each is in `make test`.
[SECURITY.md](../SECURITY.md) says what is promised and what is not.
"""
_READER = """ While `searching` (a search with its training and saving) and `saving`
are at work, and killed, another thread opens their adapter again and again; what it could not open
counts as unreadable."""
HARMED = "See the run's output."


def page(figures: dict[str, Any]) -> str:
    """Return the page; what a run has not measured is not in it."""
    parts = [HEAD]
    for section, write in (
        ("faults", _faults),
        ("kills", _kills),
        ("inputs", _inputs),
        ("fuzz", _fuzz),
    ):
        if section in figures:
            parts.append(write(figures[section]))
    return "\n".join(parts)


def _faults(found: dict[str, Any]) -> str:
    total = sum(found["injected"].values())
    rows = "\n".join(f"| {name} | {n:,} |" for name, n in found["injected"].items())
    return f"""## Faults of a service

A server on loopback fails half of all requests, at random (seed {found["seed"]}); LlamaIndex's own
OpenAIEmbedding and OpenAI talk to it, {found["rounds"]} rounds of embedding 40 texts and asking
about 6 nodes. A run that ends with an error is called again until everything is there.

| | |
|---|---|
| faults injected | {total:,} |
| vectors stored | {found["vectors stored"]:,} |
| vectors stored wrong | {found["vectors stored wrong"]:,} |
| stored vectors asked for again | {found["stored vectors asked for again"]:,} |
| questions kept | {found["questions kept"]:,} |
| questions lost | {found["questions lost"]:,} |
| answered nodes asked again | {found["answered nodes asked again"]:,} |
| embedding runs ended by an error, then continued | {_runs(found, "embedding"):,} |
| generation runs ended by an error, then continued | {_runs(found, "generation"):,} |

The user sees nothing while attempts are left, then one `EmbeddingError` or `GenerationError` that
says how many texts or nodes are stored, where, and that the same call continues.

| fault | times |
|---|---|
{rows}
"""


def _runs(found: dict[str, Any], kind: str) -> int:
    return int(found.get(f"{kind} runs ended by an error", 0))


def _kills(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {job} | {row['kills']:,} | {row['finished']:,} | {row['paid_twice']:,} | "
        f"{row['unreadable']:,} | {row['different']:,} | {row['swept']:,} | "
        f"{row['left_behind']:,} |"
        for job, row in found["jobs"].items()
    )
    total = sum(row["kills"] for row in found["jobs"].values())
    return f"""## Kills

{total:,} processes were ended by SIGKILL (seed {found["seed"]}), half of them at the n-th call of a
function, half after a delay, and the job was started again in what they left.

| job | kills | runs that finished | stored but paid for again | unreadable after a kill | other result than unharmed | temporary files after kills | of them there when a run had finished |
|---|---|---|---|---|---|---|---|
{rows}

What was under way is lost with the process: at most one request for each worker. Of training the
adapter's bytes are compared.{_READER if "searching" in found["jobs"] else ""} The user sees nothing; the same call continues. A kill in the middle
of saving leaves a hidden `.<name>.<machine>.<random>.tmp` beside the target, which the next save of
that target removes; on Windows, and on disks that know no locks, it stays and may be deleted. A mount
point and the current directory are not renamed: their files are replaced one by one, and what a kill
leaves is in the directory itself, from where loading completes it.
"""  # noqa: E501


def _inputs(found: dict[str, Any]) -> str:
    return f"""## Wrong inputs

| entry points | wrong inputs tried | without the documented error, or with something left behind |
|---|---|---|
| {found["entry_points"]} | {found["inputs"]} | {found["failed"]} |

The user sees an error of this package's tree that says what was found and what was expected.
"""


def _fuzz(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {row['executions']:,} | {row['coverage']:,} | {row['findings']} |"
        for name, row in found["targets"].items()
    )
    return f"""## Files of strangers

A coverage-guided fuzzer (atheris) writes files and loads them. A finding is an exception that is
not of this package's tree, code that runs, a file opened outside the directory, an import, more
than 512 MiB in one allocation, or more than ten seconds.

| reader | executions | branches seen | findings |
|---|---|---|---|
{rows}

The user sees `InvalidAdapterError` or `InvalidFileError` with the file's name. The safetensors
library and torch's own reader are compiled code and are not instrumented.
"""


def main() -> None:
    PAGE.write_text(page(json.loads(Path(FIGURES).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
