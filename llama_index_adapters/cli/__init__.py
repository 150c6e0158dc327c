"""The command ``llama-index-adapters``: wiring only, one file a command.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from llama_index_adapters.cli.app import main

__all__ = ["main"]
