"""The HTTP endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from llama_index.core.base.base_retriever import BaseRetriever
from pydantic import AfterValidator, BaseModel
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def _is_text(query: str) -> str:
    # Bytes that are no UTF-8, such as half an emoji, arrive as U+FFFD.
    if "\0" in query or "\ufffd" in query:
        raise ValueError("is no text in UTF-8")
    return query


# Every character of a query is work for the model, whoever sends it.
QueryText = Annotated[str, Query(max_length=1000, pattern=r"\S"), AfterValidator(_is_text)]

# For uvicorn: it refuses what has a longer head. A query of 1,000 characters takes up to 12,000
# bytes in an address.
LIMITS: Mapping[str, Any] = {"http": "h11", "h11_max_incomplete_event_size": 32_768}


class Result(BaseModel):
    """One passage that was found."""

    id: str
    score: float
    text: str


class NoBody:
    """Refuses requests with a body before anything of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope.get("headers", ()))
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        if scope["type"] == "http" and has_body:
            refused = JSONResponse({"detail": "No request here takes a body."}, 413)
            return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


def create_app(retrievers: Mapping[str, BaseRetriever]) -> FastAPI:
    """Return the application.

    Args:
        retrievers: ``base`` and ``adapted``.
    """
    app = FastAPI(title="Search with an adapter")
    app.add_middleware(NoBody)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    # Not a coroutine: FastAPI runs it in a thread, where the database may be waited for.
    @app.get("/search")
    def search(
        request: Request, query: QueryText, model: Literal["base", "adapted"] = "adapted"
    ) -> list[Result]:
        named = [name for name, _ in request.query_params.multi_items()]
        if wrong := {name for name in named if name not in ("query", "model")}:
            raise HTTPException(422, f"Unknown parameter {min(wrong)!r}: give query and model.")
        if len(named) != len(set(named)):
            raise HTTPException(422, "A parameter is given twice.")
        return [
            Result(id=hit.node.node_id, score=hit.score or 0.0, text=hit.node.get_content())
            for hit in retrievers[model].retrieve(query)
        ]

    return app
