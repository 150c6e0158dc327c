"""Pages of a vector store become nodes: each once, with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llama_index_adapters.errors import InvalidVectorsError
from llama_index_adapters.index.corpus import node_record
from llama_index_adapters.index.pages import Page, require_ids, require_page
from llama_index_adapters.retrieval.vector_dataset import as_matrix

# Whether a node is taken, by its id and its record.
Passes = Callable[[str, str], bool]


@dataclass(frozen=True)
class NewNodes:
    """The nodes of a page that no page before it had.

    Attributes:
        ids: of the nodes.
        vectors: ``(n, dim)`` as they are stored.
        records: what :func:`llama_index_adapters.index.corpus.node_of` makes the nodes of.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    records: Sequence[str]


@dataclass
class NodesRead:
    """The nodes that were read so far.

    Attributes:
        node_of_id: the node of each id of the store; None when its ids are the nodes'.
        passes: which nodes are taken; all when None.
        ids: the nodes in the order of their vectors.
        duplicates: how many further vectors of a node that was there already were left out.
        dimension: of the vectors; 0 before the first.
    """

    node_of_id: Mapping[str, str] | None
    passes: Passes | None
    ids: dict[str, None] = field(default_factory=dict)
    duplicates: int = 0
    dimension: int = 0

    def take(self, page: Page) -> NewNodes:
        """Return the page's nodes that were not read before.

        Raises:
            InvalidDatasetError: when the parts of the page do not belong together.
            InvalidVectorsError: for vectors that cannot be used.
        """
        require_page(page)
        if not len(page.ids):
            return NewNodes([], np.zeros((0, self.dimension), np.float32), [])
        vectors = self._vectors(page)
        rows: list[int] = []
        ids: list[str] = []
        records: list[str] = []
        for row, stored_id in enumerate(page.ids):
            # A row that the index does not know any more belongs to a deleted node.
            node_id = stored_id if self.node_of_id is None else self.node_of_id.get(stored_id)
            if node_id is None:
                continue
            if node_id in self.ids:
                self.duplicates += 1
                continue
            record = node_record(
                None if page.texts is None else page.texts[row],
                None if page.metadata is None else page.metadata[row],
            )
            if self.passes is not None and not self.passes(node_id, record):
                continue
            self.ids[node_id] = None
            rows.append(row)
            ids.append(node_id)
            records.append(record)
        return NewNodes(ids, vectors if len(rows) == len(vectors) else vectors[rows], records)

    def _vectors(self, page: Page) -> NDArray[np.float32]:
        first = page.ids[0]
        try:
            vectors = as_matrix(page.vectors, "The page")
        except InvalidVectorsError as error:
            raise InvalidVectorsError(
                f"Stored vectors from node {first!r} on cannot be used. {error}"
            ) from error
        require_ids(page.ids, len(vectors))
        if self.dimension and vectors.shape[1] != self.dimension:
            raise InvalidVectorsError(
                f"Stored vectors have {self.dimension} dimensions, and {vectors.shape[1]} from "
                f"node {first!r} on. One index holds vectors of one model."
            )
        self.dimension = vectors.shape[1]
        return vectors
