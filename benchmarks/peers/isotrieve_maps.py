"""isotrieve's default map on the sample of a folder, both ways that its manual shows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from isotrieve import RidgeMapping


def main(folder: Path) -> None:
    """Read ``sample.npz`` and write ``mapped.npz``.

    The wrapper for queries maps the new model's by ``inverse_transform``; ``migrate`` rewrites the
    stored vectors by ``transform``.
    """
    with np.load(folder / "sample.npz") as given:
        mapping = RidgeMapping().fit(given["old_sample"], given["new_sample"])
        np.savez(
            folder / "mapped.npz",
            queries=mapping.inverse_transform(given["new_queries"]).astype(np.float32),
            passages=mapping.transform(given["old_passages"]).astype(np.float32),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
