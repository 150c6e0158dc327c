"""What base and adapted got on every single question, as a table for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from llama_index_adapters.checks import as_path
from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.evaluation.comparison import Comparison
from llama_index_adapters.files.atomic import write_text


def write_per_question(
    path: Path | str,
    comparisons: Mapping[str, Comparison],
    query_ids: Sequence[str],
    texts: Mapping[str, str],
    *,
    labels: tuple[str, str] = ("base", "adapted"),
) -> None:
    """Write a CSV file with a row for each question and adapter.

    Its columns are ``adapter``, ``query_id``, ``query``, and each metric twice, such as
    ``base_ndcg@10`` and ``adapted_ndcg@10``.

    Args:
        path: the file, which is written whole or not at all.
        comparisons: what was measured on the same questions, by the name of the adapter.
        query_ids: the id of each question, in the order they were measured in.
        texts: the text of a question by its id.
        labels: what the two that were compared are called.

    Raises:
        InvalidVectorsError: when there are more or fewer ids than questions.
        InvalidFileError: when ``path`` is a directory.
    """
    rows = StringIO()
    table = csv.writer(rows, lineterminator="\n")
    for place, (name, comparison) in enumerate(comparisons.items()):
        per_query = comparison.per_query
        if len(per_query.base[comparison.metric]) != len(query_ids):
            raise InvalidVectorsError(
                f"There are {len(query_ids)} query ids for "
                f"{len(per_query.base[comparison.metric])} questions."
            )
        pairs = list(zip(labels, per_query, strict=True))
        if not place:
            columns = (f"{label}_{metric}" for metric in per_query.base for label, _ in pairs)
            table.writerow(("adapter", "query_id", "query", *columns))
        for row, query_id in enumerate(query_ids):
            values = (
                f"{metrics[metric][row]:.6g}" for metric in per_query.base for _, metrics in pairs
            )
            table.writerow((name, query_id, texts.get(query_id, ""), *values))
    write_text(as_path(path, "path"), rows.getvalue())
