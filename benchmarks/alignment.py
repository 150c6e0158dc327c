"""How much of a new model's own index is kept on an old one, without labels, beside other maps.

``python -m benchmarks.alignment --data FOLDER --vectors FOLDER``. Nothing is embedded here: the
folder of vectors has ``MODEL-SET.npz`` for each model and set of :data:`CELLS`, with ``queries``
and ``passages`` in the order of the set's test part. A cell whose files are absent is left out and
named in the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.data import DATA_VARIABLE, load_texts
from benchmarks.environments import DEFAULT_FOLDER, ready, run_peer
from benchmarks.options import EnvironmentsFolder
from llama_index_adapters.alignment.align import AlignmentReport, align
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import metrics_at_k, top_k, unit_rows
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.vectors.query_models import sampled_rows

OUTPUT = Path(__file__).parent / "alignment.json"
CELLS = (
    ("scifact", "use", "minilm"),
    ("documentation", "use", "minilm"),
    ("tenk", "minilm", "mpnet"),
    ("scifact", "minilm", "mpnet"),
    ("documentation", "minilm", "mpnet"),
)
"""Set, the model of the index, the model of the queries."""
NAMES = {"use": "USE multilingual", "minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}
OURS = "align"
PEERS = ("least squares", "isotrieve, queries", "isotrieve, index rewritten")
DRAWS = 10_000

_PerQuery = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """One cell.

    Attributes:
        cell: set, model of the index, model of the queries.
        sampled: passages that both models embedded, of how many.
        ndcg: nDCG@10 of each test question; ``"old"`` is the index's own model, ``"own"`` the new
            model with everything embedded again, the others are maps.
        report: what :func:`align` said of its map, without a label.
    """

    cell: tuple[str, str, str]
    sampled: tuple[int, int]
    ndcg: Mapping[str, _PerQuery]
    report: AlignmentReport


def measure(
    cell: tuple[str, str, str], data: Path | None, vectors: Path, environments: Path, *, seed: int
) -> Measured:
    """Fit every map on the same sampled passages, and rank all passages for the test questions."""
    name, old_model, new_model = cell
    relevance = _relevance(_test(name, data))
    (old_queries, old), (new_queries, new) = (
        _vectors(vectors, model, name) for model in (old_model, new_model)
    )
    rows = sampled_rows(len(old), seed)
    found = align(new[rows], old[rows], seed=seed)
    solved = np.linalg.lstsq(new[rows], old[rows], rcond=None)[0]
    mapped, rewritten = _isotrieve(new_queries, new[rows], old, rows, environments)
    ranked = {
        "old": (old_queries, old),
        "own": (new_queries, new),
        OURS: (new_queries @ found.weight.T, old),
        "least squares": (new_queries @ solved, old),
        "isotrieve, queries": (mapped, old),
        "isotrieve, index rewritten": (new_queries, rewritten),
    }
    ndcg = {
        method: metrics_at_k(top_k(queries, passages, 10), relevance)["ndcg@10"]
        for method, (queries, passages) in ranked.items()
    }
    return Measured(cell, (len(rows), len(old)), ndcg, found.report)


def shares(ndcg: Mapping[str, _PerQuery], *, seed: int) -> dict[str, _PerQuery]:
    """Return the share of the new model's own index that each map keeps, in every draw.

    The first entry is of the questions as they are, the others of a paired bootstrap.
    """
    count = len(ndcg["own"])
    rng = np.random.default_rng(seed)
    weights = np.concatenate(
        [np.ones((1, count)), rng.multinomial(count, [1 / count] * count, DRAWS)]
    )
    own = weights @ ndcg["own"]
    return {method: (weights @ ndcg[method]) / own for method in (OURS, *PEERS)}


def interval(draws: _PerQuery) -> tuple[float, float, float]:
    """Return the mean and its 95% interval."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return float(draws[0]), float(low), float(high)


def record(measured: list[Measured], *, seed: int) -> dict[str, Any]:
    """Return everything as plain numbers."""
    cells, drawn = [], []
    for number, one in enumerate(measured):
        draws = shares(one.ndcg, seed=seed + number)
        drawn.append(draws)
        cells.append(
            {
                "set": one.cell[0],
                "index": NAMES[one.cell[1]],
                "queries": NAMES[one.cell[2]],
                "passages_sampled": one.sampled[0],
                "passages": one.sampled[1],
                "test_questions": len(one.ndcg["own"]),
                "ndcg@10": {method: float(each.mean()) for method, each in one.ndcg.items()},
                "kept": {method: interval(each) for method, each in draws.items()},
                "more_than": {peer: interval(draws[OURS] - draws[peer]) for peer in PEERS},
                "map": one.report.chosen,
                "said_without_labels": tuple(one.report.kept),
            }
        )
    pooled = {
        peer: interval(np.mean([draws[OURS] - draws[peer] for draws in drawn], axis=0))
        for peer in PEERS
    }
    return {"seed": seed, "cells": cells, "pooled_more_than": pooled}


def markdown(found: Mapping[str, Any], missing: list[str]) -> str:
    """Return the page."""
    lines = [
        "# A new model's queries on an old index, without labels",
        "",
        "Written by `python -m benchmarks.alignment`. Every map is made from the same sampled "
        "passages of the index that is searched, so the target passages are known; no question "
        "and no label is. *Kept* is the nDCG@10 of the test questions over all passages, as a "
        "share of what the new model reaches on an index of its own, with a 95% interval of a "
        "bootstrap over questions. *More* is what `align` keeps above the other map, over the same "
        "questions.",
        "",
        "*least squares*: `a ≈ M b` without a ridge. *isotrieve* 0.4.0 with its defaults: mapping "
        "queries, as this package does, or rewriting the index, which this package never does.",
        "",
        "| index by, queries by | sampled | old model | own index | map | mapped | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in found["cells"]:
        ndcg = cell["ndcg@10"]
        lines.append(
            f"| *{cell['set']}*: {cell['index']}, {cell['queries']} | "
            f"{cell['passages_sampled']:,} of {cell['passages']:,} | {ndcg['old']:.4f} | "
            f"{ndcg['own']:.4f} | {cell['map']} | {ndcg[OURS]:.4f} | {_share(cell['kept'][OURS])} |"
        )
    lines += ["", "| | " + " | ".join(f"{peer}: kept | more" for peer in PEERS) + " |"]
    lines.append("|---|" + "---|" * (2 * len(PEERS)))
    for cell in found["cells"]:
        figures = (
            f"{cell['kept'][peer][0]:.1%} | {_difference(cell['more_than'][peer])}"
            for peer in PEERS
        )
        lines.append(f"| *{cell['set']}*, {cell['index']} | {' | '.join(figures)} |")
    pooled = (f"| {_difference(found['pooled_more_than'][peer])}" for peer in PEERS)
    lines.append(f"| all cells, each counting the same | {' | '.join(pooled)} |")
    if missing:
        lines += ["", "Not measured, because their vectors are absent: " + "; ".join(missing) + "."]
    return "\n".join(lines) + "\n"


def _share(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.1%} ({found[1]:.1%} to {found[2]:.1%})"


def _difference(found: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in found)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _test(name: str, data: Path | None) -> EmbeddingQAFinetuneDataset:
    if name == "scifact" and data is not None:
        return EmbeddingQAFinetuneDataset.from_json(data / "scifact.test.json")
    return load_texts(name, data).test


def _relevance(test: EmbeddingQAFinetuneDataset) -> Relevance:
    row = {name: number for number, name in enumerate(test.corpus)}
    return Relevance.from_rows(
        [[row[one] for one in names] for names in test.relevant_docs.values()]
    )


def _path(folder: Path, model: str, name: str) -> Path:
    return folder / f"{model}-{name}.test.npz"


def _is_there(cell: tuple[str, str, str], folder: Path) -> bool:
    name, *models = cell
    return all(_path(folder, model, name).is_file() for model in models)


def _vectors(folder: Path, model: str, name: str) -> tuple[FloatArray, FloatArray]:
    with np.load(_path(folder, model, name)) as arrays:
        return unit_rows(arrays["queries"]), unit_rows(arrays["passages"])


def _isotrieve(
    new_queries: FloatArray,
    new_sample: FloatArray,
    old: FloatArray,
    rows: NDArray[np.int64],
    environments: Path,
) -> tuple[FloatArray, FloatArray]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "sample.npz",
            new_queries=new_queries,
            new_sample=new_sample,
            old_sample=old[rows],
            old_passages=old,
        )
        run_peer(ready("isotrieve", environments), "isotrieve_maps.py", folder)
        with np.load(folder / "mapped.npz") as arrays:
            return arrays["queries"], arrays["passages"]


def main(
    vectors: Annotated[Path, typer.Option(metavar="FOLDER", help="Where MODEL-SET.test.npz are.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", envvar=DATA_VARIABLE, help="Where the sets' files are."),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="FILE.json", help="The figures; the page is written beside it.")
    ] = OUTPUT,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the sample and the intervals.")] = 0,
    environments: EnvironmentsFolder = DEFAULT_FOLDER,
) -> None:
    """Measure every cell whose vectors are there and write the page."""
    out = Console(highlight=False, markup=False, emoji=False)
    missing = [cell for cell in CELLS if not _is_there(cell, vectors)]
    names = [f"*{name}*, {NAMES[old]} and {NAMES[new]}" for name, old, new in missing]
    measured: list[Measured] = []
    for cell in CELLS:
        if cell in missing:
            continue
        measured.append(measure(cell, data, vectors, environments, seed=seed))
        means = ", ".join(
            f"{method} {each.mean():.4f}" for method, each in measured[-1].ndcg.items()
        )
        out.print(f"{' '.join(cell)}: {means}", soft_wrap=True)
        # After each: an interrupted run leaves what it has measured.
        found = {**record(measured, seed=seed), "not_measured": names}
        write_text(output, json.dumps(found, indent=2) + "\n")
        write_text(output.with_suffix(".md"), markdown(found, names))


if __name__ == "__main__":
    typer.run(main)
