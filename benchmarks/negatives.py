"""What sampled and mined negatives cost in quality, beside the loss over the whole corpus.

    python -m benchmarks.negatives --data FOLDER

A linear adapter is trained on tldr with every passage as a negative, with samples of several sizes,
and with mined ones beside them; the same order of queries, the same steps. Its best epoch is
judged on the validation questions. The table goes to benchmarks/negatives.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.data import DATA_VARIABLE, embedded, load_texts
from benchmarks.fetch import data_folder
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from llama_index_adapters.training.loop import train_adapter
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.vectors.local import local_embedding

OUTPUT = Path(__file__).parent / "negatives.md"
EPOCHS = 12
VARIANTS: tuple[dict[str, Any], ...] = (
    {"negatives": "all"},
    *({"negatives": count} for count in (2048, 512, 128)),
    {"negatives": 512, "mined": 16},
    {"negatives": 128, "mined": 16},
    {"negatives": 128, "mined": 64},
)


def measure(train: VectorDataset, val: VectorDataset, changes: dict[str, Any]) -> dict[str, Any]:
    """Train once.

    Returns:
        ``per_query`` nDCG@10 of the best epoch, and the mean at the ``start``.
    """
    adapter = LinearAdapter(train.queries.shape[1], train.passages.shape[1])
    run = train_adapter(adapter, train, val, TrainingOptions(epochs=EPOCHS).updated(changes))
    return {"per_query": run.per_query, "start": run.history[0].validation}


def table(train: VectorDataset, val: VectorDataset, rows: list[dict[str, Any]]) -> str:
    """Return the page; differences are to the first row, with two standard errors."""
    lines = [
        "# Sampled and mined negatives",
        "",
        f"Written by `python -m benchmarks.negatives`: a linear adapter, {EPOCHS} epochs at most, "
        f"on {len(train.queries):,} training questions of tldr over {len(train.passages):,} "
        f"passages; nDCG@10 of {len(val.queries):,} validation questions (before training "
        f"{rows[0]['start']:.4f}). The difference to the whole corpus is over the same questions, "
        "± two standard errors.",
        "",
        "| drawn each step | mined | of the corpus | nDCG@10 | to the whole corpus |",
        "|---|---|---|---|---|",
    ]
    for changes, row in zip(VARIANTS, rows, strict=True):
        drawn, mined = changes["negatives"], changes.get("mined", 0)
        apart = row["per_query"] - rows[0]["per_query"]
        error = 2 * apart.std(ddof=1) / np.sqrt(len(apart))
        part = 1 if drawn == "all" else (drawn + mined) / len(train.passages)
        difference = "" if row is rows[0] else f"{apart.mean():+.4f} ± {error:.4f}"
        lines.append(
            f"| {drawn} | {mined} | {part:.0%} | {row['per_query'].mean():.4f} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def main(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", envvar=DATA_VARIABLE, help="Where the files of tldr are."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE.md", help="The table.")] = OUTPUT,
) -> None:
    """Measure every variant and write the table."""
    out = Console(highlight=False, markup=False, emoji=False)
    texts = load_texts("tldr", data or data_folder("tldr"))
    vectors = embedded("tldr", texts, local_embedding())
    assert vectors.val is not None
    rows = []
    for changes in VARIANTS:
        rows.append(measure(vectors.train, vectors.val, changes))
        out.print(f"{changes}: nDCG@10 {rows[-1]['per_query'].mean():.4f}")
    write_text(output, table(vectors.train, vectors.val, rows))
    out.print(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
