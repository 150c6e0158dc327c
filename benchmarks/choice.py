"""How often an adapter is kept, and how often one that is kept does harm.

    python -m benchmarks.choice                       # what is missing of every cell
    python -m benchmarks.choice --methods linear --questions 30,100

Questions with known laws: each run draws a corpus, training questions and 10,000 fresh questions of
the same law, learns as the engine does without a validation set, and counts. A run is written as
soon as it is done, so an interrupted benchmark continues, and its seed says all of it. The rows
are in benchmarks/choice.csv, the table in benchmarks/choice.md.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from benchmarks.options import known_names
from llama_index_adapters.adapters.families import kind_of
from llama_index_adapters.adapters.learned.new import new_adapter
from llama_index_adapters.adapters.learned.serve import transform_of
from llama_index_adapters.adapters.served.base import adapt
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.fit import fit
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.training.result import SELECTION_METRIC, TrainingResult
from llama_index_adapters.training.search.stages import search_adapter
from llama_index_adapters.training.session import TrainingSession
from llama_index_adapters.training.validation import judge

DIM, N_PASSAGES, N_FRESH = 64, 200, 10_000
# A loss below it is not called harm: the mean of fresh questions has an error of about .001.
HARM = -0.002
# How many runs a cell of so many training questions is to have.
RUNS = {30: 400, 100: 400, 300: 400, 1000: 50, 3000: 50}
_CONFIDENCE = 0.95
_NOISE = 3.0  # the length of a question's noise; its passage has length 1
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Law:
    """Where questions come from: ``q = p + signal · A p + noise``.

    Attributes:
        signal: how far a map, the same in training and test, turns the questions.
        tails: whether the length of the noise has heavy tails (Student's t, 2 degrees of freedom).
        shifted: whether fresh questions are about the half of the corpus that training does not
            ask about, by a map that has as much in common with training's as not.
        about: in words.
    """

    signal: float
    tails: bool
    shifted: bool
    about: str


LAWS = {
    "noise": Law(0.0, False, False, "nothing to learn: a question is its passage and noise"),
    "weak": Law(0.5, False, False, "a map that is worth little"),
    "tails": Law(0.0, True, False, "nothing to learn, and noise of very different lengths"),
    "shift": Law(
        0.5,
        False,
        True,
        "the weak map in training; fresh questions are about other passages, by a map that is half "
        "another",
    ),
}


@dataclass(frozen=True)
class Run:
    """One row.

    Attributes:
        law: the name of the law.
        method: what was learned.
        questions: how many training questions there were.
        seed: of everything.
        kept: whether the result is another than the identity, 0 or 1.
        gain: mean difference to the base in nDCG@10 on fresh questions, to five digits.
    """

    law: str
    method: str
    questions: int
    seed: int
    kept: int
    gain: float

    @property
    def cell(self) -> tuple[str, str, int]:
        """What the run is one of many of."""
        return self.law, self.method, self.questions


def draw(law: Law, n_questions: int, seed: int) -> tuple[VectorDataset, VectorDataset]:
    """Return training questions and fresh ones, over one corpus."""
    rng = np.random.default_rng(seed)
    passages = rng.normal(size=(N_PASSAGES, DIM))
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    maps = rng.normal(size=(2, DIM, DIM)) / np.sqrt(DIM)
    fresh_map = maps.sum(axis=0) / np.sqrt(2) if law.shifted else maps[0]

    def part(count: int, *, fresh: bool) -> VectorDataset:
        about = N_PASSAGES // 2 if law.shifted else N_PASSAGES
        rows = rng.integers(about, size=count)
        rows += about if fresh and law.shifted else 0
        turned = passages @ (fresh_map if fresh else maps[0]).T
        length = np.full(count, _NOISE)
        if law.tails:
            length = _NOISE * np.abs(rng.standard_t(2, size=count))
        noise = rng.normal(size=(count, DIM)) * length[:, None] / np.sqrt(DIM)
        queries = (passages + law.signal * turned)[rows] + noise
        return VectorDataset(
            queries.astype(np.float32),
            passages.astype(np.float32),
            Relevance.from_rows(rows[:, None].tolist()),
        )

    return part(n_questions, fresh=False), part(N_FRESH, fresh=True)


def _auto(train: VectorDataset, seed: int) -> TrainingResult:
    session = TrainingSession(show_progress=False)
    return search_adapter(train, None, TrainingOptions(seed=seed), session=session)


def _linear(train: VectorDataset, seed: int) -> TrainingResult:
    session = TrainingSession(show_progress=False)
    adapter = new_adapter("linear", DIM, DIM, seed=seed)
    return fit(adapter, train, None, TrainingOptions(seed=seed), session)


METHODS: dict[str, Callable[[VectorDataset, int], TrainingResult]] = {
    "linear": _linear,
    "auto": _auto,
}


def measure(law: str, method: str, n_questions: int, seed: int) -> Run:
    """Draw, learn, and judge on the fresh questions."""
    train, fresh = draw(LAWS[law], n_questions, seed)
    adapter = METHODS[method](train, seed).adapter
    kept = kind_of(type(adapter)) != "identity"
    gain = 0.0
    if kept:
        queries = adapt(transform_of(adapter), fresh.queries)
        gains = judge(queries, fresh)[SELECTION_METRIC]
        gain = float((gains - judge(fresh.queries, fresh)[SELECTION_METRIC]).mean())
    return Run(law, method, n_questions, seed, int(kept), round(gain, 5))


def missing(
    done: Iterable[Run], methods: Sequence[str], sizes: Sequence[int]
) -> Iterator[tuple[str, str, int, int]]:
    """Yield what to measure, a run of every cell before the next of any."""
    known = {(*run.cell, run.seed) for run in done}
    for seed in range(max(RUNS.values())):
        for method in methods:
            for size in sizes:
                for law in LAWS:
                    if seed < RUNS[size] and (law, method, size, seed) not in known:
                        yield law, method, size, seed


def interval(count: int, total: int) -> tuple[float, float]:
    """Return the two-sided interval of a share (Clopper and Pearson, Biometrika 1934)."""
    tail = (1 - _CONFIDENCE) / 2
    low = stats.beta.ppf(tail, count, total - count + 1) if count else 0.0
    high = stats.beta.ppf(1 - tail, count + 1, total - count) if count < total else 1.0
    return float(low), float(high)


def table(runs: Sequence[Run]) -> str:
    """Return the page."""
    lines = [
        "# The rule of the choice",
        "",
        "Written by `python -m benchmarks.choice`: vectors of "
        f"{DIM} dimensions, {N_PASSAGES} passages, no validation set. *Kept*: the result was not "
        f"the identity. *Harm*: the mean nDCG@10 of {N_FRESH:,} fresh questions fell by more than "
        f"{-HARM:g}. Intervals are Clopper and Pearson's, {_CONFIDENCE:.0%}. *Gain* is the mean on "
        "fresh questions over all runs, kept or not. A full benchmark has "
        f"{max(RUNS.values())} runs of each cell, {min(RUNS.values())} of the largest.",
        "",
        *(f"- *{name}*: {law.about}." for name, law in LAWS.items()),
        "",
        "| questions are | method | training questions | runs | kept | harm | worst | gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    pooled: dict[tuple[str, str], list[Run]] = {}
    for law in LAWS:
        for method in METHODS:
            for size in RUNS:
                cell = [run for run in runs if run.cell == (law, method, size)]
                if cell:
                    lines.append(_line(law, method, f"{size:,}", cell))
                    pooled.setdefault((law, method), []).extend(cell)
    lines += [
        "",
        "All sizes together:",
        "",
        "| questions are | method | runs | kept | harm | worst | gain |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(law, method, None, cell) for (law, method), cell in pooled.items()]
    return "\n".join(lines) + "\n"


def _line(law: str, method: str, size: str | None, runs: Sequence[Run]) -> str:
    gains = np.array([run.gain for run in runs])
    kept = np.array([run.kept for run in runs], bool)
    cells = [law, method, *([] if size is None else [size]), f"{len(runs):,}"]
    cells += [_share(kept), _share(gains < HARM)]
    cells += [f"{min(gains.min(), 0.0):+.4f}" if kept.any() else "", f"{gains.mean():+.4f}"]
    return f"| {' | '.join(cells)} |"


def _share(which: NDArray[np.bool_]) -> str:
    count = int(which.sum())
    low, high = interval(count, len(which))
    return f"{count} ({low:.1%} to {high:.1%})"


def read_rows(path: Path) -> list[Run]:
    """Return what was measured before; nothing without a file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Run(
                row["law"],
                row["method"],
                int(row["questions"]),
                int(row["seed"]),
                int(row["kept"]),
                float(row["gain"]),
            )
            for row in csv.DictReader(file)
        ]


def _append(path: Path, run: Run) -> None:
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow([column.name for column in fields(Run)])
        writer.writerow(astuple(run))


def main(
    methods: Annotated[
        str, typer.Option(metavar="NAME,NAME", callback=known_names(METHODS), help="Which methods.")
    ] = ",".join(METHODS),
    questions: Annotated[
        str, typer.Option(metavar="N,N", help="How many training questions.")
    ] = ",".join(map(str, RUNS)),
    rows: Annotated[Path, typer.Option(metavar="FILE.csv", help="Where runs are written.")] = FOLDER
    / "choice.csv",
    output: Annotated[Path, typer.Option(metavar="FILE.md", help="The table.")] = FOLDER
    / "choice.md",
) -> None:
    """Measure what is missing and write the table."""
    out = Console(highlight=False, markup=False, emoji=False)
    sizes = [int(size) for size in questions.split(",")]
    done = read_rows(rows)
    for law, method, size, seed in missing(done, methods.split(","), sizes):
        run = measure(law, method, size, seed)
        _append(rows, run)
        done.append(run)
    write_text(output, table(done))
    out.print(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
