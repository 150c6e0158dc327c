"""What carries over to passages that nobody asked about, one part of an adapter at a time.

    python -m benchmarks.unseen --data FOLDER

Adapters without a gradient step are made from part of the training questions of each set, and
judged on questions about the others: of passages drawn at random, of passages of another kind
(clusters of their vectors, which stand for another corpus), and from 80 questions alone. No test
question is looked at. The table goes to benchmarks/unseen.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy.cluster.vq import kmeans2

from benchmarks.data import DATA_VARIABLE, embedded, load_texts
from benchmarks.fetch import data_folder
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.retrieval.arrays import FloatArray
from llama_index_adapters.retrieval.ranking import unit_rows
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.closed_form import difference_whitening, regression, whitening
from llama_index_adapters.training.holdout import fold_numbers, hold_out
from llama_index_adapters.training.result import SELECTION_METRIC
from llama_index_adapters.training.search.candidates import DIFFERENCE_POWER
from llama_index_adapters.training.validation import judge
from llama_index_adapters.vectors.local import local_embedding

OUTPUT = Path(__file__).parent / "unseen.md"
SETS = ("tenk", "documentation")
_FOLDS, _CLUSTERS, _FEW = 4, 3, 80
_WHITENING = 0.125

Weight = NDArray[np.float32]


def _white(data: VectorDataset) -> Weight:
    return whitening(data.passages, passage_power=_WHITENING)


def _different(data: VectorDataset) -> Weight:
    return difference_whitening(data, power=DIFFERENCE_POWER)


def _regressed(data: VectorDataset, pull: float = 10) -> Weight:
    weight: Weight = _white(data) @ regression(data, pull=pull)
    return weight


def _both(first: Weight, last: Weight) -> Weight:
    weight: Weight = last @ first
    return weight


VARIANTS: dict[str, Callable[[VectorDataset], Weight]] = {
    "whitening": _white,
    "differences": _different,
    "whitening, differences": lambda data: _both(_different(data), _white(data)),
    "whitening, regression": _regressed,
    "whitening, regression, differences": lambda data: _both(_different(data), _regressed(data)),
    "whitening, regression with pull 3": lambda data: _regressed(data, 3),
    "whitening, regression with pull 3, differences": lambda data: _both(
        _different(data), _regressed(data, 3)
    ),
}
"""Each makes a map of queries from training questions and the corpus."""

Parts = Iterator[tuple[VectorDataset, VectorDataset]]


def by_passage(data: VectorDataset) -> Parts:
    """Yield what to learn from, and questions about passages that it does not ask about."""
    numbers = fold_numbers(data, _FOLDS, unit="passage", seed=0)
    for number in range(_FOLDS):
        fold = hold_out(data, numbers == number, unit="passage")
        yield fold.train, fold.validation


def by_cluster(data: VectorDataset) -> Parts:
    """Yield the same with passages of another kind held out."""
    units = unit_rows(data.passages).astype(np.float64)
    rng = np.random.default_rng(0)
    clusters = kmeans2(units - units.mean(axis=0), _CLUSTERS, minit="++", seed=rng)[1]
    of_query = clusters[data.relevance.passages[data.relevance.offsets[:-1]]]
    for number in np.unique(of_query):
        fold = hold_out(data, of_query == number, unit="passage")
        yield fold.train, fold.validation


def from_few(data: VectorDataset) -> Parts:
    """Yield as :func:`by_passage`, with few questions to learn from."""
    rng = np.random.default_rng(0)
    for train, held in by_passage(data):
        rows = rng.choice(len(train.queries), _FEW, replace=False)
        yield train.select_queries(np.sort(rows)), held


SPLITS: dict[str, Callable[[VectorDataset], Parts]] = {
    "other passages": by_passage,
    "another kind of passages": by_cluster,
    f"other passages, {_FEW} questions": from_few,
}
"""What the questions that judge are about."""


def gains(data: VectorDataset, parts: Callable[[VectorDataset], Parts]) -> dict[str, FloatArray]:
    """Return the gain in nDCG@10 of every held-out question, by variant."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in VARIANTS}
    for train, held in parts(data):
        base = judge(held.queries, held)[SELECTION_METRIC]
        for name, weight in VARIANTS.items():
            adapted = unit_rows(held.queries) @ weight(train).T
            found[name].append(judge(adapted, held)[SELECTION_METRIC] - base)
    return {name: np.concatenate(values) for name, values in found.items()}


def table(measured: dict[str, dict[str, dict[str, FloatArray]]]) -> str:
    """Return the page.

    Args:
        measured: gains by set, split and variant.
    """
    lines = [
        "# Passages nobody asked about",
        "",
        "Written by `python -m benchmarks.unseen`: gains in nDCG@10 over the base model on "
        "held-out training questions about passages that the map was not made from, ± a "
        "standard error. "
        f"*Whitening* is of the passages at power {_WHITENING:g}, *differences* at "
        f"{DIFFERENCE_POWER:g}, *regression* has a pull of 10 unless said otherwise; "
        "[docs/how-it-works.md](../docs/how-it-works.md) defines them. A kind of passages is one "
        f"of {_CLUSTERS} clusters of the vectors.",
        "",
    ]
    for name, splits in measured.items():
        lines += [
            f"## {name}",
            "",
            f"| | {' | '.join(splits)} |",
            f"|---|{'---|' * len(splits)}",
        ]
        for variant in VARIANTS:
            cells = [_mean(found[variant]) for found in splits.values()]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _mean(values: FloatArray) -> str:
    return f"{values.mean():+.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def main(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", envvar=DATA_VARIABLE, help="Where the files of tenk are."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE.md", help="The table.")] = OUTPUT,
) -> None:
    """Measure every variant and write the table."""
    out = Console(highlight=False, markup=False, emoji=False)
    model = local_embedding()
    measured = {}
    for name in SETS:
        folder = (data or data_folder(name)) if name == "tenk" else None
        vectors = embedded(name, load_texts(name, folder), model)
        measured[name] = {split: gains(vectors.train, parts) for split, parts in SPLITS.items()}
        out.print(f"{name}: measured")
    write_text(output, table(measured))
    out.print(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
