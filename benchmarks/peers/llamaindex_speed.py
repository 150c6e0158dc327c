"""What LlamaIndex's engine and its wrapper cost; called by their environments' interpreters."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

EPOCHS, BATCH_SIZE = 4, 10


def finetune(
    *,
    questions: str,
    model: str,
    output: str,
    share: int = 1,
    first: int = 0,
    epochs: int = 1,
    url: str = "",
) -> dict[str, Any]:
    """Finetune on every ``share``-th query with the options of its guide; count calls."""
    from llama_index.finetuning import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset

    from benchmarks.speed.models import counted, open_model

    dataset = EmbeddingQAFinetuneDataset.from_json(questions)
    kept = list(dataset.queries)[first::share]
    dataset.queries = {query: dataset.queries[query] for query in kept}
    embed_model, calls = counted(open_model(model, url))
    if not url:
        embed_model.get_text_embedding("the first call is slower than the others")
    calls.clear()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        engine = EmbeddingAdapterFinetuneEngine(
            dataset,
            embed_model,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            model_output_path=output,
            bias=False,
        )
        engine.finetune()
        engine.get_finetuned_model()
    return {"seconds": time.perf_counter() - started, "calls": calls.total()}
