"""Use an installed wheel where torch is missing: what serves a query needs none.

A plain script for the environments of ``make wheel-test``, on the oldest and the newest Python. It
exits non-zero when anything differs.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode

import llama_index_adapters
from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingQAFinetuneDataset,
    evaluate,
    read_index,
)

PACKAGE = "llama_index_adapters"
COMMANDS = ("demo", "generate", "finetune", "evaluate")
# What may ask for a package that this environment lacks, and for which.
WAITING = {
    "torch": ("adapters.learned", "training"),
    "ray": ("ray",),
    "langchain_core": ("langchain",),
    "bokeh": ("report",),
    "llama_index": ("vectors.minilm",),  # the extra local brings its llama_index.embeddings
}
LETTERS = "abcd"
# Each letter of a question is about the next one's passage, which the base model cannot know.
TURN = np.roll(np.eye(len(LETTERS), dtype=np.float32), 1, axis=0)


class LetterEmbedding(BaseEmbedding):
    """Counts letters."""

    model_name: str = "letters"

    def _get_text_embedding(self, text: str) -> list[float]:
        return [0.25 + text.count(letter) for letter in LETTERS]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def write_adapter(directory: Path) -> Path:
    """Write a linear adapter as format 1 says, without the package's own code."""
    arguments = {"in_features": 4, "out_features": 4, "bias": False, "rank": None}
    digest = hashlib.sha256(json.dumps(["linear", arguments], sort_keys=True).encode())
    digest.update(f"\nlinear.weight {TURN.dtype.str} {TURN.shape}\n".encode() + TURN.tobytes())
    config = {
        "format_version": 1,
        "kind": "linear",
        "arguments": arguments,
        "unit_input": False,
        "fingerprint": digest.hexdigest(),
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {"linear.weight": np.ascontiguousarray(TURN)}
    safetensors.numpy.save_file(weights, directory / "model.safetensors")
    return directory


def check_imports() -> None:
    """The wheel is what is imported, and no module asks for torch that may not."""
    assert importlib.util.find_spec("torch") is None, "torch is installed; nothing is shown then"
    home = Path(llama_index_adapters.__file__)
    assert home.is_relative_to(sysconfig.get_path("purelib")), home
    assert (home.parent / "py.typed").is_file()
    imported, lacking = 0, {}
    for module in pkgutil.walk_packages([str(home.parent)], f"{PACKAGE}.", onerror=lambda _: None):
        try:
            importlib.import_module(module.name)
            imported += 1
        except ModuleNotFoundError as error:
            lacking[module.name.removeprefix(f"{PACKAGE}.")] = (error.name or "").split(".")[0]
        except ImportError as error:  # an extra's own message
            lacking[module.name.removeprefix(f"{PACKAGE}.")] = getattr(error.__cause__, "name", "")
    wrong = {
        name: needed
        for name, needed in lacking.items()
        if not name.startswith(WAITING.get(needed, ()))
    }
    assert not wrong, wrong
    assert imported > len(lacking) > 0, (imported, lacking)
    print(f"  {imported} modules imported, {len(lacking)} ask for torch or an extra")


def check_serving(index: VectorStoreIndex, model: AdapterEmbeddingModel) -> None:
    """A query comes out turned, as long as before, and finds another passage."""
    base = np.array(model.base_embed_model.get_query_embedding("aab"))
    expected = TURN @ base
    expected *= np.linalg.norm(base) / np.linalg.norm(expected)
    for given in (
        model.get_query_embedding("aab"),
        asyncio.run(model.aget_query_embedding("aab")),
        model.get_agg_embedding_from_queries(["aab"]),
    ):
        np.testing.assert_allclose(given, expected, rtol=1e-6)
    assert model.get_text_embedding("aab") == base.tolist()
    (before,) = index.as_retriever(similarity_top_k=1).retrieve("aa")
    (after,) = index.as_retriever(similarity_top_k=1, embed_model=model).retrieve("aa")
    assert (before.node_id, after.node_id) == ("n-a", "n-b"), (before, after)
    print("  served: a query is turned, and the retriever finds its passage")


def check_reading(index: VectorStoreIndex, directory: Path) -> None:
    """A stored index is read, and labels make training data of it."""
    index.storage_context.persist(directory / "index")
    context = StorageContext.from_defaults(persist_dir=str(directory / "index"))
    stored = load_index_from_storage(context, embed_model=LetterEmbedding())
    corpus = read_index(stored, show_progress=False)
    assert sorted(corpus.node_ids) == [f"n-{letter}" for letter in LETTERS]
    for node_id, vector in zip(corpus.node_ids, corpus.vectors, strict=True):
        expected = LetterEmbedding().get_text_embedding(f"{node_id[-1] * 3}")
        np.testing.assert_allclose(vector, expected, rtol=1e-6)
    labels = {"aa": ["n-b"], "dd": ["n-a"]}
    data = corpus.dataset(labels, store=directory / "read.sqlite", show_progress=False)
    assert (data.queries.shape, data.passages.shape) == ((2, 4), (4, 4))
    print("  read: an index from disk, with labels")


def check_evaluation(model: AdapterEmbeddingModel, directory: Path) -> None:
    """Base and adapted are compared on questions with known answers."""
    questions = EmbeddingQAFinetuneDataset(
        queries={letter: letter * 2 for letter in LETTERS},
        corpus={f"n-{letter}": letter * 3 for letter in LETTERS},
        relevant_docs={a: [f"n-{b}"] for a, b in zip("abcd", "bcda", strict=True)},
    )
    result = evaluate(model, questions, store=directory / "store.sqlite", show_progress=False)
    adapted, base = result.comparison.adapted["ndcg@10"], result.comparison.base["ndcg@10"]
    assert adapted == 1 > base, result
    print(f"  evaluated: nDCG@10 {base:.3f} to {adapted:.3f}")


def check_command_line() -> None:
    """The command is on the path of scripts, and each of its parts explains itself."""
    command = Path(sysconfig.get_path("scripts")) / "llama-index-adapters"

    def said(*words: str) -> str:
        ended = subprocess.run([command, *words], check=True, capture_output=True, text=True)
        assert not ended.stderr, ended.stderr
        return ended.stdout

    assert said("--version") == f"llama-index-adapters {llama_index_adapters.__version__}\n"
    overview = said("--help")
    for name in COMMANDS:
        assert name in overview, overview
        assert f"llama-index-adapters {name}" in said(name, "--help"), name
    print(f"  explained: {', '.join(COMMANDS)}")


def main() -> None:
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, no torch:")
    check_imports()
    model = LetterEmbedding()
    nodes = [TextNode(id_=f"n-{letter}", text=letter * 3) for letter in LETTERS]
    index = VectorStoreIndex(nodes, embed_model=model)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        adapted = AdapterEmbeddingModel(model, str(write_adapter(directory / "adapter")))
        check_serving(index, adapted)
        check_reading(index, directory)
        check_evaluation(adapted, directory)
    check_command_line()
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
