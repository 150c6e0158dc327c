"""Ask a vector store for the passages near a query, by row of the corpus that was read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQuery
from numpy.typing import NDArray

from llama_index_adapters.services.progress import progress_bar


class StoreSearch:
    """Finds rows of a corpus with the vector store's own search, a query at a time.

    Args:
        store: the vector store.
        row_of_node: the row of each node.
        node_of_id: the node of each id of the store, where the ids are not the nodes'.
        show_progress: show a bar over the queries.
    """

    def __init__(
        self,
        store: Any,
        row_of_node: Mapping[str, int],
        node_of_id: Mapping[str, str] | None,
        *,
        show_progress: bool,
    ) -> None:
        self._store, self._row_of_node, self._node_of_id = store, row_of_node, node_of_id
        self._show_progress = show_progress

    def __call__(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return ``(n_queries, k)`` rows, best first; -1 where the store found no more.

        A node of the store that is not in the corpus, because filters left it out or it was
        inserted later, is left out.
        """
        nearest = np.full((len(queries), k), -1, np.int64)
        disable = not self._show_progress
        for row, query in enumerate(progress_bar(queries, "Mining", unit="query", disable=disable)):
            asked = VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=k)
            rows = self._rows(self._store.query(asked))[:k]
            nearest[row, : len(rows)] = rows
        return nearest

    def _rows(self, result: Any) -> list[int]:
        ids = result.ids or [node.node_id for node in result.nodes or []]
        if self._node_of_id is not None:
            ids = [self._node_of_id.get(name) for name in ids]
        # A node that was inserted twice is found twice.
        rows = dict.fromkeys(self._row_of_node.get(name, -1) for name in ids)
        return [row for row in rows if row >= 0]
