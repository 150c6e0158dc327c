"""A cluster gives what one machine gives: vectors to the last bit, adapters up to rounding."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llama_index_adapters import EmbeddingAdapterFinetuneEngine, TrainingOptions
from llama_index_adapters.adapters.learned.base import BaseAdapter, load_adapter
from llama_index_adapters.errors import EmbeddingError, InvalidOptionError, InvalidVectorsError
from llama_index_adapters.retrieval.query_blocks import QueryBlock, side_by_side
from llama_index_adapters.vectors.embed import Embedder
from llama_index_adapters.vectors.fill import PROBE_TEXTS
from llama_index_adapters.vectors.identity import IdentifiedModel
from llama_index_adapters.vectors.store import EmbeddingStore
from tests.fakes import CountingEmbedding, synonym_questions
from tests.ray_cluster import LoggedEmbedding, add_node, asked, cluster
from tests.vector_sets import DIM, rotated

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("ray")]  # one cluster

# Sums in another order; AdamW and the norm of the gradients make them grow over the steps.
WEIGHTS_WITHIN = 1e-4
NDCG_WITHIN = 1e-3


class MortalAdapter(BaseAdapter):
    """A linear map whose second worker dies once, at its third step."""

    def __init__(self, dim: int, grave: str) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.linear.weight)
        self._arguments = {"dim": dim, "grave": grave}
        self._steps = 0

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        if self.training and torch.distributed.is_initialized():
            self._steps += 1
            grave = Path(self._arguments["grave"])
            if self._steps == 3 and torch.distributed.get_rank() == 1 and not grave.exists():
                grave.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.linear(queries)

    def get_config_dict(self) -> dict[str, Any]:
        return self._arguments


@pytest.fixture(scope="module")
def nodes():
    with cluster(1) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def two_nodes(nodes):
    add_node(nodes, num_cpus=1)
    nodes.wait_for_nodes()
    return nodes


@pytest.fixture(scope="module")
def library(nodes):
    import llama_index_adapters.ray as library

    return library


def logged(folder, name, **fields) -> LoggedEmbedding:
    log = folder / name
    log.mkdir(exist_ok=True)
    return LoggedEmbedding(log=str(log), embed_batch_size=4, **fields)


class TestEmbedding:
    def test_the_same_vectors_by_the_same_calls(self, library, tmp_path):
        questions = synonym_questions(9)
        here = logged(tmp_path, "here", query_instruction="query: ")
        there = logged(tmp_path, "there", query_instruction="query: ")
        alone = Embedder(here, tmp_path / "here.db", show_progress=False).dataset(questions)
        store = tmp_path / "there.db"
        count = library.embed_with_ray(questions, there, store, show_progress=False)
        assert count == alone.cost.texts > 2 * 81
        assert asked(tmp_path / "there") == asked(tmp_path / "here")
        # The driver asks for three texts, to find out about the roles; the actors for the rest.
        own = tmp_path / "there" / str(os.getpid())
        assert len(own.read_text().splitlines()) == 2 * PROBE_TEXTS
        embedded = Embedder(there, store, show_progress=False).dataset(questions)
        assert embedded.cost.texts == 0
        np.testing.assert_array_equal(embedded.data.queries, alone.data.queries)
        np.testing.assert_array_equal(embedded.data.passages, alone.data.passages)
        assert library.embed_with_ray(questions, there, store, show_progress=False) == 0

    @pytest.mark.slow
    @pytest.mark.usefixtures("two_nodes")
    def test_what_was_stored_survives_a_failure(self, library, tmp_path):
        texts = [f"text {n}" for n in range(80)]
        broken = logged(tmp_path, "broken", breaks_on="text 41")
        mended = logged(tmp_path, "mended")
        path = tmp_path / "store.db"
        with pytest.raises(EmbeddingError, match="the model broke") as caught:
            library.embed_with_ray(texts, broken, path, role="passage", show_progress=False)
        before = asked(tmp_path / "broken")
        assert f" {before.total()} of 80 passage texts are stored" in str(caught.value)
        assert before.total() < 80
        with EmbeddingStore(path) as store:
            Embedder(mended, store, show_progress=False).texts(texts, "passage")
        assert set((before + asked(tmp_path / "mended")).values()) == {1}

    @pytest.mark.slow
    def test_a_node_that_dies(self, library, two_nodes, tmp_path):
        """Nothing that was stored is asked for again, and nothing is missing."""
        extra = add_node(two_nodes, num_cpus=1)
        two_nodes.wait_for_nodes()
        texts = [f"text {n}" for n in range(240)]
        model = logged(tmp_path, "log", pause=0.03, together=3)
        model_id, store = IdentifiedModel(model).identity, EmbeddingStore(tmp_path / "store.db")
        result = []
        embedding = threading.Thread(
            target=lambda: result.append(
                library.embed_with_ray(texts, model, store, role="passage", show_progress=False)
            ),
            daemon=True,
        )
        embedding.start()
        while embedding.is_alive() and store.count() < 40:
            embedding.join(0.05)
        stored = set(texts) - set(store.missing(model_id, "passage", texts))
        assert 40 <= len(stored) < len(texts)
        two_nodes.remove_node(extra, allow_graceful=False)
        embedding.join(120)
        assert result == [240]
        counts = asked(tmp_path / "log")
        assert counts.keys() == set(texts)
        assert {counts[text] for text in stored} == {1}
        vectors, found = store.get(model_id, "passage", texts)
        assert found.all()
        expected = CountingEmbedding().get_text_embedding_batch(texts)
        np.testing.assert_array_equal(vectors, np.array(expected, np.float32))
        store.close()

    def test_values_that_cannot_be_used(self, library):
        model = CountingEmbedding()
        with pytest.raises(InvalidOptionError, match="role is None; a list of texts needs one"):
            library.embed_with_ray(["text"], model)
        with pytest.raises(InvalidOptionError, match="role is 'query'"):
            library.embed_with_ray(synonym_questions(2), model, role="query")
        with pytest.raises(InvalidOptionError, match="actors is 0"):
            library.embed_with_ray(["text"], model, role="query", actors=0)
        with pytest.raises(InvalidOptionError, match="num_gpus is -1"):
            library.embed_with_ray(["text"], model, role="query", num_gpus=-1)


class TestTraining:
    def engines(self, library, tmp_path, train, n_workers=2, **options):
        from ray.train import ScalingConfig

        options = {"batch_size": 32, "show_progress": False, **options}
        alone = EmbeddingAdapterFinetuneEngine(
            train,
            None,
            val_dataset=rotated(60, seed=1, similarity=train.similarity),
            model_output_path=tmp_path / "alone",
            device="cpu",
            **options,
        )
        together = library.RayFinetuneEngine(
            train,
            None,
            val_dataset=rotated(60, seed=1, similarity=train.similarity),
            model_output_path=tmp_path / "together",
            scaling_config=ScalingConfig(num_workers=n_workers),
            **options,
        )
        return alone, together

    def same(self, tmp_path, alone, together):
        assert together.adapter == alone.adapter
        assert together.adapted == pytest.approx(alone.adapted, abs=NDCG_WITHIN)
        self.same_weights(tmp_path / "alone", tmp_path / "together")

    def same_weights(self, alone, together):
        own = MortalAdapter if "custom" in (alone / "config.json").read_text() else None
        one, other = load_adapter(alone, own).arrays(), load_adapter(together, own).arrays()
        assert one.keys() == other.keys()
        for name, array in one.items():
            assert np.abs(array - np.eye(*array.shape)).max() > 100 * WEIGHTS_WITHIN
            np.testing.assert_allclose(other[name], array, atol=WEIGHTS_WITHIN)

    @pytest.mark.slow
    @pytest.mark.usefixtures("two_nodes")
    def test_mapped_vectors_checkpoints_and_a_worker_that_dies(self, library, tmp_path):
        train = rotated(119)
        np.save(tmp_path / "passages.npy", train.passages)
        train = replace(train, passages=np.load(tmp_path / "passages.npy", mmap_mode="r"))
        grave = tmp_path / "grave"
        alone, together = self.engines(
            library,
            tmp_path,
            train,
            adapter_model=MortalAdapter(DIM, str(grave)),
            epochs=30,
            learning_rate=0.1,
            patience=2,
            model_checkpoint_path=tmp_path / "steps",
            checkpoint_save_steps=5,
        )
        one = alone.finetune()
        (tmp_path / "steps").rename(tmp_path / "steps alone")
        both = together.finetune()
        assert grave.exists()
        assert len(both.history) == len(one.history) < 31  # stopped early
        for path in (tmp_path / "steps alone").iterdir():
            self.same_weights(path, tmp_path / "steps" / path.name)
        assert len(list((tmp_path / "steps").iterdir())) == 4 * (len(one.history) - 1) // 5
        self.same(tmp_path, one, both)

    def test_the_search(self, library, tmp_path):
        # In this process; tests/test_workers.py searches with several.
        alone, together = self.engines(library, tmp_path, rotated(), 0, epochs=2)
        one, both = alone.finetune(), together.finetune()
        assert [trial.name for trial in both.trials] == [trial.name for trial in one.trials]
        assert [trial.ndcg for trial in both.trials] == pytest.approx(
            [trial.ndcg for trial in one.trials], abs=NDCG_WITHIN
        )
        self.same(tmp_path, one, both)

    def test_queries_of_several_models(self, library, tmp_path):
        """Workers know whose vectors stand side by side: both begin with the index's own."""
        from ray.train import ScalingConfig

        data = []
        for seed in (0, 1):
            found, other = rotated(seed=seed), rotated(seed=seed + 2).queries
            rows = side_by_side([found.queries, other], np.linalg.norm(found.queries, axis=1))
            blocks = (QueryBlock(DIM), QueryBlock(DIM, "other", "other", "its identity"))
            data.append(replace(found, queries=rows, blocks=blocks))
        train, val = data
        places = {"val_dataset": val, "epochs": 2, "show_progress": False}
        alone = EmbeddingAdapterFinetuneEngine(
            train, None, model_output_path=tmp_path / "alone", device="cpu", **places
        )
        together = library.RayFinetuneEngine(
            train,
            None,
            model_output_path=tmp_path / "together",
            scaling_config=ScalingConfig(num_workers=0),
            **places,
        )
        one, both = alone.finetune(), together.finetune()
        assert both.base == pytest.approx(one.base)
        assert [trial.name for trial in both.trials] == [trial.name for trial in one.trials]
        assert both.adapted == pytest.approx(one.adapted, abs=NDCG_WITHIN)

    def test_a_file_that_a_node_does_not_have(self, library, tmp_path):
        from llama_index_adapters.ray.arrays import mapped

        np.save(tmp_path / "vectors.npy", rotated().passages)
        whole = np.load(tmp_path / "vectors.npy", mmap_mode="r")
        window = np.asarray(whole[7:50])
        handle = mapped(window)
        np.testing.assert_array_equal(handle.open(), window)
        assert mapped(np.array(whole)) is None
        assert mapped(whole[:, 2:]) is None
        assert mapped(np.load(tmp_path / "vectors.npy", mmap_mode="c")) is None
        (tmp_path / "vectors.npy").unlink()  # and not written over: it is still mapped
        np.save(tmp_path / "vectors.npy", rotated(seed=5).passages)
        with pytest.raises(InvalidVectorsError, match="holds other vectors on the node"):
            handle.open()
        (tmp_path / "vectors.npy").unlink()
        with pytest.raises(InvalidVectorsError, match="is not there on the node"):
            handle.open()
        train = replace(rotated(), passages=whole)
        # Without workers Ray Train runs in this process.
        _, together = self.engines(library, tmp_path, train, 0, adapter="linear", epochs=1)
        with pytest.raises(InvalidVectorsError, match=r"mapped from .* is not there on the node"):
            together.finetune()

    def test_values_that_cannot_be_used(self, library, tmp_path):
        from ray.train import ScalingConfig

        config = ScalingConfig(num_workers=2)
        for options in ({"device": "cpu"}, {"options": TrainingOptions(device="cpu")}):
            with pytest.raises(InvalidOptionError, match="device is 'cpu', but Ray gives every"):
                library.RayFinetuneEngine(rotated(), None, scaling_config=config, **options)
        with pytest.raises(InvalidOptionError, match="scaling_config is a int"):
            library.RayFinetuneEngine(rotated(), None, scaling_config=2)
        searched = replace(rotated(), search=lambda queries, count: np.zeros((len(queries), count)))
        engine = library.RayFinetuneEngine(searched, None, scaling_config=config, mined=4)
        with pytest.raises(
            InvalidOptionError, match="mined is 4 and the dataset asks its vector store"
        ):
            engine.finetune()
