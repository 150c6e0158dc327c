"""NUDGE, which moves the vectors of passages toward the queries that were about them.

Run by the interpreter of an environment that holds nudge-ft, with the folder of one task.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nudge import NUDGEM, NUDGEN


def main(folder: Path) -> None:
    """Move the vectors of the passages that are searched and write them."""
    task = json.loads((folder / "task.json").read_text())
    vectors = np.load(folder / "vectors.npz")
    rows = {passage: row for row, passage in enumerate(task["test"]["corpus"])}

    def part(name: str) -> dict[str, object]:
        answers = task[name]["relevant_docs"]
        return {
            "q_embs": vectors[f"{name}_queries"],
            "q_ans_indx": [
                [rows[passage] for passage in answers[query]] for query in task[name]["queries"]
            ],
        }

    variants = {"nudge-n": NUDGEN, "nudge-m": NUDGEM}
    torch.manual_seed(task["seed"])
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        moved = variants[task["variant"]]().finetune_embeddings(
            vectors["test_passages"], part("train"), part("val")
        )
    seconds = time.perf_counter() - started
    np.savez(folder / "learned.npz", passages=np.asarray(moved, np.float32))
    # Its vectors are not of length one and are made for the inner product, as its manual says.
    similarity = "dot_product" if task["variant"] == "nudge-m" else "cosine"
    detail = f"nudge-ft {version('nudge-ft')}"
    (folder / "learned.json").write_text(
        json.dumps({"seconds": seconds, "similarity": similarity, "detail": detail})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
