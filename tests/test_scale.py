"""The page on large corpora: every figure is what its formula gives."""

from __future__ import annotations

import ast
import re

import pytest

from llama_index_adapters.ray.embed import _TEXTS_PER_BLOCK
from llama_index_adapters.ray.train import _MOST_FAILURES
from llama_index_adapters.vectors.ask import DEFAULT_WORKERS
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.documents import ROOT, table_below

PAGE = "docs/scale.md"
TEXT = " ".join((ROOT / PAGE).read_text(encoding="utf-8").split())
PREFIXES = {"": 1.0, "M": 1e6, "G": 1e9, "T": 1e12}
SIZES = {
    name: [float(cell) for cell in cells[1:]]
    for name, cells in table_below(PAGE, "The sizes").items()
}
ROWS = [
    (f"{heading}: {name}", cells[-4], cells[-3:])
    for heading in ("What is held where", "What moves", "What it costs")
    for name, cells in table_below(PAGE, heading).items()
]


def value(cell: str) -> float:
    number, prefix = re.fullmatch(r"([\d.,]+)(?: ([MGT]?)B?)?", cell).groups()
    return float(number.replace(",", "")) * PREFIXES[prefix or ""]


def test_figures_follow_from_their_formulas(subtests):
    for row, formula, cells in ROWS:
        code = re.match(r"`([^`]+)`", formula)[1]
        names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
        with subtests.test(row):
            assert names <= SIZES.keys()
            for column, cell in enumerate(cells):
                sizes = {name: SIZES[name][column] for name in names}
                given = eval(code, {"__builtins__": {}}, sizes)
                assert value(cell) == pytest.approx(given, rel=5e-3)


def test_every_table_is_read():
    assert len(ROWS) > 30


def test_numbers_of_the_code():
    assert f"`num_workers` ({DEFAULT_WORKERS} when it sets none)" in TEXT
    assert f"at most {_MOST_FAILURES} times" in TEXT
    assert _TEXTS_PER_BLOCK == 256  # "at most a few hundred texts"


def test_what_a_stored_vector_takes(tmp_path):
    """Of fewer vectors than on the page, so that the tables at the file's start weigh more."""
    with EmbeddingStore(tmp_path / "store.sqlite3") as store:
        texts = [f"text {n}" for n in range(2000)]
        vectors = [[float(n + 1), *[1.0] * 1535] for n in range(2000)]
        store.put("model", "query", texts, vectors)
    stated = int(re.search(r"([\d,]+) bytes is what the store took", TEXT)[1].replace(",", ""))
    assert (tmp_path / "store.sqlite3").stat().st_size / 2000 == pytest.approx(stated, rel=0.01)
