"""PGVectorStore: one table, read by its primary key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llama_index_adapters.index.pages import Page, Reading


def read(store: Any, page_size: int) -> Reading:
    """Read a PGVectorStore's table; the integration ranks by cosine distance.

    Its ``add`` inserts a node that is there already once more; a node is taken once.
    """
    return Reading("cosine", _pages(store, page_size), dimension=store.embed_dim)


def _pages(store: Any, page_size: int) -> Iterator[Page]:
    from sqlalchemy import inspect, select

    engine, table = store.client, store._table_class.__table__
    if engine is None:
        # The store connects when it is first used.
        store._initialize()
        engine = store.client
    if not inspect(engine).has_table(table.name, schema=table.schema):
        return
    last = None
    columns = table.c.id, table.c.node_id, table.c.text, table.c.metadata_, table.c.embedding
    with engine.connect() as connection:
        while True:
            query = select(*columns).order_by(table.c.id).limit(page_size)
            if last is not None:
                query = query.where(table.c.id > last)
            rows = connection.execute(query).all()
            if not rows:
                return
            last = rows[-1].id
            yield Page(
                [row.node_id for row in rows],
                np.array([_floats(row.embedding) for row in rows], dtype=np.float32),
                [row.text for row in rows],
                [row.metadata_ for row in rows],
            )


def _floats(vector: Any) -> Any:
    # pgvector's half-precision type is an object of its own.
    return vector.to_numpy() if hasattr(vector, "to_numpy") else vector
