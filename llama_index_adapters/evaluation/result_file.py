"""A measurement as JSON, for scripts to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.files.atomic import write_text
from llama_index_adapters.version import __version__

MeasuredOn = Literal["test", "validation"]
STAGES = ("embed", "train", "evaluate")


def result_record(
    comparison: Comparison,
    *,
    measured_on: MeasuredOn,
    adapter: str,
    path: Path | str,
    embed_model: str,
    seconds: Mapping[str, float],
    texts_embedded: int,
) -> dict[str, Any]:
    """Return what was measured, ready for JSON.

    Args:
        comparison: base and adapted.
        measured_on: which questions they were compared on.
        adapter: the kind of the adapter.
        path: the adapter's directory.
        embed_model: the name of the base model.
        seconds: wall-clock seconds by stage; a stage of :data:`STAGES` that is not there took
            none.
        texts_embedded: how many texts the base model was asked for.

    Returns:
        ``base`` and ``adapted`` (each with ``hit_rate@10``, ``mrr@10``, ``ndcg@10``,
        ``recall@10`` and more), ``adapter``, ``seconds``, ``texts_embedded``; then
        ``measured_on``, ``embed_model``, ``path``, ``gains`` with their intervals, ``p_value``,
        ``wins``, ``losses``, ``ties``, ``copies`` (how many passages equal another one, and what
        that costs), ``seen`` and ``unseen`` (``queries``, ``base``, ``adapted`` and ``gains`` of
        the questions about passages that training asked about and of the others, null where that
        is unknown) and the version of this package.
    """
    measured = comparison.to_dict()
    return {
        "base": measured.pop("base"),
        "adapted": measured.pop("adapted"),
        "adapter": adapter,
        "seconds": {stage: round(seconds.get(stage, 0.0), 3) for stage in STAGES},
        "texts_embedded": texts_embedded,
        "measured_on": measured_on,
        "embed_model": embed_model,
        "path": str(path),
        **measured,
        "version": __version__,
    }


def write_result(path: Path | str, record: Mapping[str, Any]) -> None:
    """Write a record, the whole file or nothing.

    Raises:
        InvalidFileError: when ``path`` is a directory.
    """
    write_text(path, json.dumps(record, indent=2) + "\n")
