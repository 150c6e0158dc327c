"""Start everything: ``python -m examples.served``."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from examples.served.app import LIMITS, create_app
from examples.served.search import open_retrievers


def main() -> None:
    """Read the options, open the index and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.served", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("served-data"), help="folder to keep")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    app = create_app(open_retrievers(options.data))
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", **LIMITS)


if __name__ == "__main__":
    main()
