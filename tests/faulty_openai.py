"""An OpenAI-compatible service on loopback that fails as it is told to.

Real clients talk to it over HTTP. Faults are given one per request, in order; when they are used
up it answers well. What it was asked is counted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

KEY = "sk-planted-0123456789abcdef"
DIMENSION = 8
LIMIT = 10_000  # characters; a longer text is rejected

STATUSES = {
    "429": (429, {}),
    "429 retry-after": (429, {"retry-after": "0.2"}),
    "429 for 2 seconds": (429, {"retry-after": "2"}),
    "429 for 20 seconds": (429, {"retry-after": "20"}),
    "429 for ten minutes": (429, {"retry-after": "600"}),
    "500": (500, {}),
    "503": (503, {}),
    "401": (401, {}),
    "403": (403, {}),
}
BROKEN = ("timeout", "dropped", "malformed json", "html", "empty object")
WRONG_VECTORS = ("too few", "too many", "none", "nan", "infinity", "zero", "other dimension")
OUT_OF_ORDER = ("out of order", "out of order, as floats", "out of order, as texts")
TRANSIENT = ("429", "429 retry-after", "500", "503", *BROKEN, *WRONG_VECTORS, "numbered twice")


def vector_of(text: str) -> list[float]:
    """The one right vector of a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32).tolist()


class FaultyOpenAI:
    """An ASGI application: ``/v1/embeddings`` and ``/v1/chat/completions``.

    Attributes:
        faults: names of faults to come, one per request.
        always: a fault of every request that no other is planned for.
        requests: the texts of every request, as they came.
        served: texts that were answered with right vectors.
        times: when each request came, in seconds.
        hang: how long it sleeps, in seconds, before it answers where the fault is ``timeout``, and
            where it is ``slow``, which is answered well.
        echo: whether error messages repeat the key and the texts, as some servers do.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.always: str | None = None
        self.requests: list[list[str]] = []
        self.served: list[str] = []
        self.times: list[float] = []
        self.injected: list[str] = []
        self.echo = False
        self.hang = 5.0
        self.url = ""
        self._lock = threading.Lock()

    def plan(self, *faults: str, always: str | None = None) -> None:
        """Forget what was asked, and fail this way from now on."""
        self.faults, self.always, self.echo = list(faults), always, False
        self.requests, self.served, self.times, self.injected = [], [], [], []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        asked = json.loads(body)
        chat = scope["path"].endswith("/chat/completions")
        texts = [asked["messages"][-1]["content"]] if chat else asked["input"]
        texts = [texts] if isinstance(texts, str) else list(texts)
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        with self._lock:
            self.requests.append(texts)
            self.times.append(time.monotonic())
            fault = self.faults.pop(0) if self.faults else self.always
            if fault:
                self.injected.append(fault)
        if fault == "slow":
            await asyncio.sleep(self.hang)
            fault = None
        said = f"{fault}: {key} sent {texts}" if self.echo else str(fault)
        if max(map(len, texts)) > LIMIT:
            said = "maximum context length exceeded" + (f": {texts}" if self.echo else "")
            await _answer(send, 400, json.dumps({"error": {"message": said}}))
        elif fault in STATUSES:
            status, headers = STATUSES[fault]
            await _answer(send, status, json.dumps({"error": {"message": said}}), headers)
        elif fault == "malformed json":
            await _answer(send, 200, '{"object": "list", "data": [')
        elif fault == "html":
            await _answer(send, 200, "<html>Bad gateway</html>", {"content-type": "text/html"})
        elif fault == "empty object":
            await _answer(send, 200, "{}")
        elif fault == "timeout":
            await asyncio.sleep(self.hang)
            await _answer(send, 504, "{}")
        elif fault == "dropped":
            await send(_start(200, {"content-length": "100000"}))
            await send({"type": "http.response.body", "body": b'{"data": [', "more_body": True})
            raise ConnectionResetError
        elif chat:
            if fault not in ("none", "zero"):
                self.served += texts
            await _answer(send, 200, json.dumps(_completion(texts[0], fault)))
        else:
            encoded = asked.get("encoding_format") == "base64"
            content = _embeddings(texts, fault, encoded=encoded)
            if fault is None or fault.startswith("out of order"):
                self.served += texts
            await _answer(send, 200, json.dumps(content))


def _embeddings(texts: list[str], fault: str | None, *, encoded: bool) -> dict[str, Any]:
    vectors = [vector_of(text) for text in texts]
    numbers = list(range(len(texts)))
    if fault == "too few":
        vectors.pop()
    elif fault == "too many":
        vectors.append(vectors[0])
        numbers.append(len(numbers))
    elif fault == "none":
        vectors = []
    elif fault in ("nan", "infinity"):
        vectors[-1] = [float(fault)] * DIMENSION
    elif fault == "zero":
        vectors[-1] = [0.0] * DIMENSION
    elif fault == "other dimension":
        vectors = [vector[:5] for vector in vectors]
    rows = [
        {"object": "embedding", "index": number, "embedding": _encoded(vector, encoded)}
        for number, vector in zip(numbers, vectors, strict=False)
    ]
    if fault and fault.startswith("out of order"):
        spelt = {"floats": float, "texts": str}.get(fault.rpartition(" ")[2], int)
        rows = [{**row, "index": spelt(row["index"])} for row in rows[1:] + rows[:1]]
    elif fault == "numbered twice" and len(rows) > 1:
        rows = [*rows[1:], rows[1]]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": rows, "model": "m", "usage": usage}


def _encoded(vector: list[float], encoded: bool) -> Any:
    return base64.b64encode(np.float32(vector).tobytes()).decode() if encoded else vector


def _completion(prompt: str, fault: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"1. What is {prompt}?\n2. Why {prompt}?"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    if fault == "none":
        choices = []
    elif fault == "zero":
        message["content"] = None  # type: ignore[assignment]
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}


def _start(status: int, headers: dict[str, str]) -> dict[str, Any]:
    headers = {"content-type": "application/json", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _answer(
    send: Any, status: int, body: str, headers: Iterable[Any] | dict[str, str] = ()
) -> None:
    await send(_start(status, {**dict(headers), "content-length": str(len(body.encode()))}))
    await send({"type": "http.response.body", "body": body.encode()})


def patience(fault: str) -> float:
    """How many seconds a client waits: few where it waits in vain."""
    return 0.5 if fault == "timeout" else 30.0


def model_of(server: FaultyOpenAI, fault: str = "", **options: Any) -> OpenAIEmbedding:
    """Return LlamaIndex's own embedding model, without retries of its own."""
    defaults = {"embed_batch_size": 4, "num_workers": 1, "max_retries": 0}
    options = {**defaults, "timeout": patience(fault), **options}
    return OpenAIEmbedding(api_base=server.url, api_key=KEY, **options)


def llm_of(server: FaultyOpenAI, fault: str = "", **given: Any) -> OpenAI:
    """Return LlamaIndex's own language model, without retries of its own."""
    options = {"timeout": patience(fault), "max_retries": 0, **given}
    return OpenAI("gpt-4o-mini", api_base=server.url, api_key=KEY, **options)


@contextmanager
def serving() -> Iterator[FaultyOpenAI]:
    """Serve on a free port of loopback, in a thread."""
    app = FaultyOpenAI()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield app
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
