"""The HTTP endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import FastAPI, Query
from llama_index.core.base.base_retriever import BaseRetriever
from pydantic import BaseModel

# Every character of a query is work for the model, whoever sends it.
QueryText = Annotated[str, Query(max_length=1000, pattern=r"\S")]


class Result(BaseModel):
    """One passage that was found."""

    id: str
    score: float
    text: str


def create_app(retrievers: Mapping[str, BaseRetriever]) -> FastAPI:
    """Return the application.

    Args:
        retrievers: ``base`` and ``adapted``.
    """
    app = FastAPI(title="Search with an adapter")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    # Not a coroutine: FastAPI runs it in a thread, where the database may be waited for.
    @app.get("/search")
    def search(query: QueryText, model: Literal["base", "adapted"] = "adapted") -> list[Result]:
        return [
            Result(id=hit.node.node_id, score=hit.score or 0.0, text=hit.node.get_content())
            for hit in retrievers[model].retrieve(query)
        ]

    return app
