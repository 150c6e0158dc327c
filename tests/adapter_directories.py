"""Directories of adapters, changed as an attacker would: with a fingerprint that fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from llama_index_adapters.adapters.disk.config import AdapterConfig
from llama_index_adapters.adapters.disk.fingerprint import adapter_fingerprint
from llama_index_adapters.adapters.disk.format_one import fingerprint_of_format_one

FORMAT_1 = Path(__file__).parent / "endurance" / "corpus" / "format-1"


def with_fitting_fingerprint(config: Mapping[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Return a config of either format with the fingerprint that it has beside these arrays."""
    if config["format_version"] == 1:
        print_of = fingerprint_of_format_one(config["kind"], config["arguments"], arrays)
    else:
        unsigned = AdapterConfig.model_validate({**config, "fingerprint": ""})
        print_of = adapter_fingerprint(unsigned, arrays)
    return {**config, "fingerprint": print_of}


def rewrite(
    directory: Path,
    change: Callable[[dict[str, Any]], object] = lambda config: None,
    arrays: Mapping[str, np.ndarray | None] | None = None,
) -> None:
    """Change a directory's config in place, and arrays by their names in the file.

    An array that becomes None is left out.
    """
    config = json.loads((directory / "config.json").read_text())
    change(config)
    changed = {**safetensors.numpy.load_file(directory / "model.safetensors"), **(arrays or {})}
    present = {name: array for name, array in changed.items() if array is not None}
    config = with_fitting_fingerprint(config, present)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(safetensors.numpy.save(present))
