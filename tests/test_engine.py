"""The engine: from questions to a model that a retriever takes."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode

from llama_index_adapters import AdapterEmbeddingModel, EmbeddingQAFinetuneDataset
from llama_index_adapters.adapters.disk.read import read_adapter
from llama_index_adapters.adapters.learned.base import BaseAdapter, load_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.adapters.learned.two_layer import TwoLayerAdapter, TwoLayerNN
from llama_index_adapters.engines.adapter import EmbeddingAdapterFinetuneEngine
from llama_index_adapters.engines.base import BaseEmbeddingFinetuneEngine, FinetuneResult
from llama_index_adapters.errors import (
    InvalidAdapterError,
    InvalidDatasetError,
    InvalidOptionError,
    InvalidVectorsError,
    MissingFileError,
    ModelMismatchError,
    NotTrainedError,
    UnknownOptionError,
)
from llama_index_adapters.evaluation.copies import Copies
from llama_index_adapters.questions.split import split_by_passage
from llama_index_adapters.retrieval.ranking import mean_metrics, metrics_at_k, top_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.serving.saved import load_saved
from llama_index_adapters.training.options import TrainingOptions
from llama_index_adapters.vectors import store_file as store_module
from llama_index_adapters.vectors.embed import Embedder
from tests.fakes import CountingEmbedding, WordsEmbedding, synonym_questions
from tests.vector_sets import noise, perfect, rotated

pytestmark = pytest.mark.usefixtures("in_its_own_directory")

DIM = 32
QUESTIONS = synonym_questions(7)
TRAIN, VAL = split_by_passage(QUESTIONS, (0.7, 0.3), seed=1)
QUICK = {"epochs": 6, "batch_size": 16, "learning_rate": 2e-2, "adapter": "linear"}


@pytest.fixture
def in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has no path lands in the test's directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_module, "cache_directory", lambda: tmp_path / "cache")


def base_model(**fields) -> WordsEmbedding:
    return WordsEmbedding(dimension=DIM, **fields)


def engine_of(dataset=TRAIN, embed_model=None, *, val_dataset=VAL, **options):
    model = embed_model or base_model()
    options = {**QUICK, "show_progress": False, "val_dataset": val_dataset, **options}
    return EmbeddingAdapterFinetuneEngine(dataset, model, **options)


def served(model: BaseEmbedding, questions: EmbeddingQAFinetuneDataset = VAL) -> dict[str, float]:
    """Metrics of a model, asked for one query and one text after the other."""
    rows = {name: row for row, name in enumerate(questions.corpus)}
    ranking = top_k(
        [model.get_query_embedding(text) for text in questions.queries.values()],
        model.get_text_embedding_batch(list(questions.corpus.values())),
        10,
    )
    relevance = [[rows[name] for name in names] for names in questions.relevant_docs.values()]
    return mean_metrics(metrics_at_k(ranking, Relevance.from_rows(relevance), 10))


def contents(directory: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


class Gate(BaseAdapter):
    """A user's own adapter, which the package does not know."""

    def __init__(self, dim: int, start: float = 1.0) -> None:
        super().__init__()
        self.start = start
        self.matrix = torch.nn.Parameter(start * torch.eye(dim))

    def forward(self, embed):
        return embed @ self.matrix

    def get_config_dict(self):
        return {"dim": len(self.matrix), "start": self.start}


class TestInterface:
    def test_it_is_llamaindexs(self):
        """The order of ``llama_index.finetuning`` 0.4.2; positional calls keep their meaning."""
        names = list(inspect.signature(EmbeddingAdapterFinetuneEngine).parameters)
        assert names[:12] == [
            "dataset",
            "embed_model",
            "batch_size",
            "epochs",
            "adapter_model",
            "dim",
            "device",
            "model_output_path",
            "model_checkpoint_path",
            "checkpoint_save_steps",
            "verbose",
            "bias",
        ]
        names = list(inspect.signature(EmbeddingAdapterFinetuneEngine.from_model_path).parameters)
        assert names[:4] == ["dataset", "embed_model", "model_path", "model_cls"]
        assert issubclass(EmbeddingAdapterFinetuneEngine, BaseEmbeddingFinetuneEngine)
        with pytest.raises(TypeError, match="abstract"):
            BaseEmbeddingFinetuneEngine()

    def test_positional_arguments(self):
        adapter = LinearAdapter(DIM, bias=True)
        engine = EmbeddingAdapterFinetuneEngine(
            TRAIN, base_model(), 8, 2, adapter, DIM, "cpu", "out", "steps", 5, True, True
        )
        result = engine.finetune()
        assert len(result.history) == 3
        assert Path(result.path) == Path("out")
        assert [path.name for path in sorted(Path("steps").iterdir())] == [
            "step_10",
            "step_5",
        ]

    def test_the_default_place(self):
        result = engine_of(epochs=1).finetune()
        assert result.path == Path("model_output")
        assert sorted(contents("model_output")) == ["README.md", "config.json", "model.safetensors"]

    @pytest.mark.parametrize("shape", ["object", "mapping"])
    def test_anything_with_the_three_mappings_is_a_dataset(self, shape):
        parts = {name: getattr(TRAIN, name) for name in ("queries", "corpus", "relevant_docs")}
        given = SimpleNamespace(**parts) if shape == "object" else parts
        results = [engine_of(data, model_output_path=shape).finetune() for data in (TRAIN, given)]
        assert results[0].history == results[1].history

    def test_the_same_bar_as_in_llamaindex(self, capsys):
        engine_of(epochs=1, show_progress=True, show_progress_bar=False).finetune()
        assert "Training" not in capsys.readouterr().err
        engine_of(epochs=1).finetune(show_progress_bar=True)
        assert "Training" in capsys.readouterr().err


class TestResult:
    def test_what_it_tells(self):
        result = engine_of(model_output_path="out").finetune()
        assert isinstance(result, FinetuneResult)
        assert (result.adapter, result.path) == ("linear", Path("out"))
        assert [record.epoch for record in result.history] == list(range(7))
        best = max(record.validation for record in result.history)
        assert result.adapted["ndcg@10"] == pytest.approx(best, abs=1e-9)
        assert result.base["ndcg@10"] == pytest.approx(result.history[0].validation, abs=1e-9)
        assert set(result.base) == set(result.adapted) >= {"hit_rate@10", "mrr@10", "recall@10"}
        assert result.comparison.gains["ndcg@10"].mean > 0.2
        assert set(result.seconds) == {"embed", "train", "evaluate"}
        assert all(seconds >= 0 for seconds in result.seconds.values())
        shown = str(result)
        assert shown.startswith("adapter: linear, saved in out\n")
        assert "nDCG@10" in shown

    def test_it_is_in_the_directory_too(self):
        result = engine_of(seed=3).finetune(weight_decay=0.125)
        saved = load_saved(result.path).metadata
        assert saved.base_model == "words"
        assert saved.metrics == {
            "base": dict(result.base),
            "adapted": dict(result.adapted),
            "seen": result.comparison.seen.to_dict(),
            "unseen": result.comparison.unseen.to_dict(),
        }
        assert (saved.training["seed"], saved.training["weight_decay"]) == (3, 0.125)
        assert (saved.data["queries"], saved.data["passages"]) == (
            len(TRAIN.queries),
            len(TRAIN.corpus),
        )

    def test_verbose_logs_every_epoch(self, caplog):
        caplog.set_level(logging.INFO, logger="llama_index_adapters")
        engine_of(epochs=2).finetune()
        assert "EpochRecord" not in caplog.text
        engine_of(epochs=2, verbose=True).finetune()
        assert caplog.text.count("EpochRecord(epoch=") == 3


FAMILIES = {
    "linear": ({"adapter": "linear"}, "linear"),
    "linear with bias": ({"adapter": "linear", "bias": True}, "linear"),
    "low-rank": ({"adapter": "low-rank", "rank": 12, "epochs": 12}, "linear"),
    "two-layer": ({"adapter": "two-layer"}, "two-layer"),
    "given linear": ({"adapter_model": LinearAdapter(DIM)}, "linear"),
    "given two-layer": (
        {"adapter_model": TwoLayerAdapter(DIM, 16, activation="tanh")},
        "two-layer",
    ),
    "llamaindex": (
        {"adapter_model": TwoLayerNN(DIM, 64, DIM, add_residual=True), "epochs": 25},
        "two-layer-nn",
    ),
    "custom": ({"adapter_model": Gate(DIM)}, "custom"),
}


class TestFinetunedModel:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_it_is_the_trained_kind_and_serves_what_was_judged(self, family):
        options, kind = FAMILIES[family]
        base = base_model()
        assert served(base)["ndcg@10"] < 0.6
        engine = engine_of(embed_model=base, **options)
        result = engine.finetune()
        assert result.adapter == kind
        model = engine.get_finetuned_model()
        assert isinstance(model, AdapterEmbeddingModel)
        assert served(base) == pytest.approx(dict(result.base))
        assert served(model) == pytest.approx(dict(result.adapted))
        assert result.adapted["ndcg@10"] > result.base["ndcg@10"] + 0.1

    def test_options_reach_the_model(self):
        engine = engine_of(epochs=2)
        engine.finetune()
        model = engine.get_finetuned_model(transform_query=False, embed_batch_size=20)
        assert (model.transform_query, model.embed_batch_size) == (False, 20)
        text = next(iter(VAL.queries.values()))
        assert model.get_query_embedding(text) == base_model().get_query_embedding(text)

    def test_before_training(self):
        message = (
            r"no finetuned model yet\. Call finetune\(\) first; an adapter that was saved before "
            r"is opened with AdapterEmbeddingModel\(base_embed_model, path\)"
        )
        with pytest.raises(NotTrainedError, match=message):
            engine_of().get_finetuned_model()

    def test_a_directory_from_another_day_is_not_it(self):
        """LlamaIndex's engine loads whatever lies in the output path."""
        engine_of(model_output_path="out").finetune()
        with pytest.raises(NotTrainedError):
            engine_of(model_output_path="out").get_finetuned_model()

    def test_what_another_run_has_put_there_is_not_it(self):
        first, second = engine_of(seed=1), engine_of(seed=2)
        first.finetune()
        assert first.get_finetuned_model().get_query_embedding("tint1 beast2")
        second.finetune()
        assert second.get_finetuned_model().get_query_embedding("tint1 beast2")
        with pytest.raises(NotTrainedError, match=r"model_output no longer holds the adapter that"):
            first.get_finetuned_model()

    def test_from_the_path_alone(self):
        engine = engine_of()
        engine.finetune()
        opened = AdapterEmbeddingModel(base_model(), "model_output")
        expected = engine.get_finetuned_model().get_query_embedding("tint1 beast2")
        assert opened.get_query_embedding("tint1 beast2") == expected
        with pytest.raises(ModelMismatchError, match=r"trained on 'words'"):
            AdapterEmbeddingModel(CountingEmbedding(dimension=DIM), "model_output")


class TestNoGain:
    """Data from which nothing can be learned, and validation that is perfect already."""

    def engine(self, **options):
        train, validation = noise(0), perfect()
        model = CountingEmbedding(dimension=train.queries.shape[1])
        options = {"epochs": 3, "val_dataset": validation, "show_progress": False, **options}
        return EmbeddingAdapterFinetuneEngine(train, model, **options)

    def test_the_identity(self):
        engine = self.engine(adapter="linear")
        result = engine.finetune()
        assert result.adapter == "identity"
        assert result.adapted == result.base
        assert len(result.history) == 4
        model, base = engine.get_finetuned_model(), engine.embed_model
        assert model.get_query_embedding("text") == base.get_query_embedding("text")

    def test_who_comes_from_llamaindex_still_names_the_class(self):
        adapter = TwoLayerNN(16, 8, 16, add_residual=True)
        engine = self.engine(adapter_model=adapter)
        assert engine.finetune().adapter == "identity"
        for adapter_cls in (TwoLayerNN, Gate, LinearAdapter, None):
            model = engine.get_finetuned_model(adapter_cls=adapter_cls)
            expected = engine.embed_model.get_query_embedding("text")
            assert model.get_query_embedding("text") == expected
        opened = AdapterEmbeddingModel(engine.embed_model, "model_output", TwoLayerNN)
        assert opened.get_query_embedding("text") == expected

    def test_a_custom_adapter_can_become_the_identity(self):
        engine = self.engine(adapter_model=Gate(16))
        assert engine.finetune().adapter == "identity"
        assert engine.get_finetuned_model().get_query_embedding("text")

    def test_it_can_be_continued(self):
        """Every family starts as the identity, so more data may still give a gain."""
        self.engine(adapter="linear", model_output_path="first").finetune()
        assert load_saved("first").kind == "identity"
        engine = EmbeddingAdapterFinetuneEngine.from_model_path(
            rotated(), None, "first", val_dataset=rotated(60, seed=1), **QUICK, show_progress=False
        )
        assert engine.finetune().adapter == "linear"


class TestWhoComesFromLlamaIndex:
    def test_the_two_layer_example_of_its_guide(self):
        engine = EmbeddingAdapterFinetuneEngine(
            TRAIN,
            base_model(),
            val_dataset=VAL,
            model_output_path="model5_output_test",
            model_checkpoint_path="model5_ck",
            adapter_model=TwoLayerNN(DIM, 64, DIM, bias=True, add_residual=True),
            epochs=25,
            batch_size=16,
            verbose=True,
            learning_rate=2e-2,
            show_progress=False,
        )
        engine.finetune()
        model = engine.get_finetuned_model(adapter_cls=TwoLayerNN)
        opened = AdapterEmbeddingModel(base_model(), "model5_output_test", TwoLayerNN)
        assert served(model)["ndcg@10"] > served(base_model())["ndcg@10"] + 0.1
        assert served(opened) == served(model)

    def test_its_training_options(self):
        engine = EmbeddingAdapterFinetuneEngine(
            TRAIN,
            base_model(),
            val_dataset=VAL,
            adapter="linear",
            epochs=6,
            optimizer_class=torch.optim.SGD,
            optimizer_params={"lr": 0.5, "momentum": 0.5},
            steps_per_epoch=1,
            max_grad_norm=2.0,
            show_progress_bar=False,
        )
        result = engine.finetune()
        training = load_saved(result.path).metadata.training
        assert (training["optimizer_class"], training["learning_rate"]) == ("SGD", 0.5)
        assert training["optimizer_params"] == {"momentum": 0.5}
        assert result.history[-1].loss < result.history[1].loss


class TestEmbedding:
    def test_every_text_once_and_none_the_second_time(self):
        model = base_model()
        result = engine_of(embed_model=model).finetune()
        texts = {*TRAIN.queries.values(), *TRAIN.corpus.values()}
        texts |= {*VAL.queries.values(), *VAL.corpus.values()}
        assert set(model.texts) == texts
        # A few were asked for in both roles, to learn whether the roles differ.
        assert len(texts) <= result.texts_embedded == len(model.texts) <= len(texts) + 6

        again = base_model()
        second = engine_of(embed_model=again).finetune(epochs=2)
        assert (second.texts_embedded, again.calls) == (0, [])

        engine = engine_of(embed_model=model)
        asked = len(model.calls)
        engine.finetune()
        engine.finetune(learning_rate=1e-3)
        assert len(model.calls) == asked

    def test_the_store_can_lie_elsewhere(self):
        engine_of(store="mine.sqlite3", epochs=1).finetune()
        assert Path("mine.sqlite3").is_file()
        assert not Path("cache").exists()
        fresh = base_model()
        engine_of(embed_model=fresh, epochs=1).finetune()
        assert fresh.calls

    def test_identical_questions_share_their_passages(self):
        """A passage that answers one of them is no negative for the other."""
        twice = EmbeddingQAFinetuneDataset(
            queries={"a": "tint0 beast0", "b": "tint0 beast0", "c": "tint1 beast1"},
            corpus={"1": "colour0 animal0", "2": "colour0 animal0 too", "3": "colour1 animal1"},
            relevant_docs={"a": ["1"], "b": ["2"], "c": ["3"]},
        )
        once = EmbeddingQAFinetuneDataset(
            queries={"a": "tint0 beast0", "c": "tint1 beast1"},
            corpus=twice.corpus,
            relevant_docs={"a": ["1", "2"], "c": ["3"]},
        )
        histories = [engine_of(data, epochs=2).finetune().history for data in (twice, once)]
        assert histories[0] == histories[1]

    def test_the_similarity_reaches_training(self):
        results = [
            engine_of(similarity=name, epochs=2).finetune()
            for name in ("cosine", "dot_product", "euclidean")
        ]
        assert len({result.history[1].loss for result in results}) == 3
        assert [result.similarity for result in results] == ["cosine", "dot_product", "euclidean"]

    def test_all_of_the_dataset_validates_in_turn_when_there_is_no_other(self):
        result = engine_of(QUESTIONS, val_dataset=None).finetune()
        assert len(result.comparison.per_query.base["ndcg@10"]) == len(QUESTIONS.queries)
        assert result.adapted["ndcg@10"] > result.base["ndcg@10"] + 0.1


class TestArrays:
    def test_without_an_embedding_model(self):
        train, validation = rotated(), rotated(60, seed=1)
        engine = EmbeddingAdapterFinetuneEngine(
            train, None, val_dataset=validation, **QUICK, show_progress=False
        )
        result = engine.finetune()
        assert (result.texts_embedded, result.seconds["embed"]) == (0, 0.0)
        assert result.adapted["ndcg@10"] > result.base["ndcg@10"] + 0.2
        with pytest.raises(NotTrainedError, match=r"AdapterEmbeddingModel\(base_embed_model, 'mod"):
            engine.get_finetuned_model()
        # The directory names no model, so any of that dimension will do.
        model = AdapterEmbeddingModel(CountingEmbedding(dimension=16), "model_output")
        assert len(model.get_query_embedding("text")) == 16

    def test_the_same_vectors_give_the_same_adapter_as_their_texts(self):
        data = [
            Embedder(base_model(), show_progress=False).dataset(part).data for part in (TRAIN, VAL)
        ]
        engine_of(model_output_path="texts").finetune()
        engine_of(data[0], val_dataset=data[1], model_output_path="arrays").finetune()
        mixed = engine_of(data[0], model_output_path="mixed")
        mixed.finetune()
        saved = [read_adapter(path) for path in ("texts", "arrays", "mixed")]
        assert len({stored.config.fingerprint for stored in saved}) == 1
        # Only what was asked about is known by its text here, by its vector there.
        cards = [contents(stored.path) for stored in saved]
        for files in cards:
            files.pop("model.safetensors")
        assert cards[0] == cards[1] == cards[2]

    def test_queries_and_passages_of_different_dimensions(self):
        train, validation = (
            rotated(count, dim=16, passage_dim=24, seed=seed) for count, seed in ((120, 0), (60, 1))
        )
        engine = EmbeddingAdapterFinetuneEngine(
            train,
            CountingEmbedding(dimension=16),
            val_dataset=validation,
            **{**QUICK, "epochs": 20},
            show_progress=False,
        )
        result = engine.finetune()
        assert result.comparison is None
        assert result.base is None
        best = max(record.validation for record in result.history)
        assert result.adapted["ndcg@10"] == pytest.approx(best)
        assert best > result.history[0].validation + 0.2
        assert str(result) == "adapter: linear, saved in model_output"
        assert len(engine.get_finetuned_model().get_query_embedding("text")) == 24

    @pytest.mark.parametrize("adapter", ["linear", "two-layer"])
    def test_a_family_adjusts_to_them(self, adapter):
        data = rotated(40, dim=16, passage_dim=12)
        engine = EmbeddingAdapterFinetuneEngine(
            data, None, adapter=adapter, epochs=2, show_progress=False
        )
        assert engine.finetune().adapter == adapter
        saved = load_saved("model_output").transform
        assert (saved.query_dim, saved.passage_dim) == (16, 12)


class TestFromModelPath:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_it_continues_where_the_first_run_ended(self, family):
        options, kind = FAMILIES[family]
        first = engine_of(model_output_path="first", **options).finetune()
        model_cls = Gate if kind == "custom" else None
        engine = EmbeddingAdapterFinetuneEngine.from_model_path(
            TRAIN,
            base_model(),
            "first",
            model_cls,
            val_dataset=VAL,
            model_output_path="second",
            show_progress=False,
            epochs=1,
        )
        second = engine.finetune()
        assert second.adapter == kind
        assert second.history[0].validation == pytest.approx(first.adapted["ndcg@10"], abs=1e-9)
        assert second.adapted["ndcg@10"] >= first.adapted["ndcg@10"] - 1e-9
        assert engine.get_finetuned_model().get_query_embedding("tint1 beast2")

    @pytest.mark.parametrize("old", [LinearAdapter(DIM, bias=True), TwoLayerNN(DIM, 8, DIM)])
    def test_from_a_directory_that_llamaindex_wrote(self, old):
        """It saw vectors as they come; that is how it goes on, and how it is served."""
        torch.nn.init.normal_(
            next(old.parameters()), std=0.3, generator=torch.Generator().manual_seed(0)
        )
        config = old.get_config_dict()
        config.pop("rank", None)
        Path("old").mkdir()
        Path("old/config.json").write_text(json.dumps(config))
        torch.save(old.state_dict(), "old/pytorch_model.bin")
        engine = EmbeddingAdapterFinetuneEngine.from_model_path(
            TRAIN, base_model(), "old", val_dataset=VAL, **QUICK, show_progress=False
        )
        result = engine.finetune()
        saved = load_saved(result.path)
        assert result.history[0].validation == pytest.approx(
            served(AdapterEmbeddingModel(base_model(), "old"))["ndcg@10"]
        )
        assert result.adapter == ("linear" if isinstance(old, LinearAdapter) else "two-layer-nn")
        assert saved.unit_input is False
        assert served(engine.get_finetuned_model()) == pytest.approx(dict(result.adapted))

    def test_options_in_an_object(self):
        engine_of(model_output_path="first", epochs=1).finetune()
        engine = EmbeddingAdapterFinetuneEngine.from_model_path(
            TRAIN,
            base_model(),
            "first",
            val_dataset=VAL,
            options=TrainingOptions(epochs=2, patience=9),
            show_progress=False,
        )
        assert len(engine.finetune().history) == 3

    def test_the_directory_is_left_as_it_was(self):
        engine_of(model_output_path="first").finetune()
        before = contents("first")
        EmbeddingAdapterFinetuneEngine.from_model_path(
            TRAIN, base_model(), "first", val_dataset=VAL, epochs=1, show_progress=False
        ).finetune()
        assert contents("first") == before

    def test_what_is_not_there(self):
        with pytest.raises(MissingFileError, match="gone is not there"):
            EmbeddingAdapterFinetuneEngine.from_model_path(TRAIN, base_model(), "gone")

    def test_an_own_class_has_to_be_named(self):
        engine_of(adapter_model=Gate(DIM), model_output_path="first").finetune()
        with pytest.raises(InvalidAdapterError, match=r"not built in \(Gate\).*adapter_cls"):
            EmbeddingAdapterFinetuneEngine.from_model_path(TRAIN, base_model(), "first")


class TestCheckpoints:
    def test_they_are_written_at_their_steps(self):
        engine = engine_of(
            epochs=2, batch_size=8, model_checkpoint_path="steps", checkpoint_save_steps=3
        )
        per_epoch = -(-len(TRAIN.queries) // 8)
        engine.finetune()
        names = {path.name for path in Path("steps").iterdir()}
        assert names == {f"step_{step}" for step in range(3, 2 * per_epoch + 1, 3)}
        matrices = [
            load_adapter(path).arrays()["linear.weight"].tobytes()
            for path in Path("steps").iterdir()
        ]
        assert len(set(matrices)) == len(names)

    def test_one_can_be_used_and_continued(self):
        engine_of(
            adapter_model=Gate(DIM),
            epochs=1,
            batch_size=8,
            model_checkpoint_path="steps",
            checkpoint_save_steps=2,
        ).finetune()
        model = AdapterEmbeddingModel(base_model(), "steps/step_2", Gate)
        assert len(model.get_query_embedding("text")) == DIM
        EmbeddingAdapterFinetuneEngine.from_model_path(
            TRAIN, base_model(), "steps/step_2", Gate, epochs=1, show_progress=False
        ).finetune()

    def test_none_without_a_path(self):
        engine_of(epochs=2, checkpoint_save_steps=1).finetune()
        assert {path.name for path in Path.cwd().iterdir()} == {"cache", "model_output"}


class TestSearch:
    """``adapter="auto"``: what it takes besides labels, and what turns it off."""

    @staticmethod
    def engine(model=None, **options):
        return EmbeddingAdapterFinetuneEngine(
            TRAIN,
            model or base_model(),
            val_dataset=VAL,
            epochs=2,
            show_progress=False,
            **options,
        )

    def test_it_tells_what_was_tried(self):
        result = self.engine().finetune()
        assert sum(trial.chosen for trial in result.trials) == 1

    @pytest.mark.parametrize("where", ["constructor", "run"])
    def test_an_option_of_one_training_means_linear(self, where):
        options = {"learning_rate": 1e-3}
        of_run = options if where == "run" else {}
        engine = self.engine(**({} if of_run else options))
        result = engine.finetune(**of_run)
        assert not result.trials
        config = json.loads((result.path / "config.json").read_text())
        assert config["training"]["adapter"] == "linear"
        assert config["training"]["learning_rate"] == 1e-3

    def test_options_in_an_object_leave_it_on(self):
        options = TrainingOptions(epochs=2, seed=3, learning_rate=0.25)
        engine = EmbeddingAdapterFinetuneEngine(
            TRAIN, base_model(), val_dataset=VAL, options=options, show_progress=False
        )
        result = engine.finetune()
        assert sum(trial.chosen for trial in result.trials) == 1
        training = load_saved(result.path).metadata.training
        assert (training["adapter"], training["seed"]) == ("auto", 3)
        by_name = EmbeddingAdapterFinetuneEngine(
            TRAIN, base_model(), options=options, learning_rate=0.25
        )
        assert by_name.adapter == "linear"

    def test_texts_without_labels_are_embedded_and_used(self):
        model = base_model()
        elsewhere = ["a passage of another corpus", "one more of them"]
        result = self.engine(model, target_corpus=elsewhere, query_log=["what else?"]).finetune()
        assert {*elsewhere, "what else?"} <= set(model.texts)
        assert result.target_corpus
        assert any("queries" in trial.name for trial in result.trials)

    def test_what_only_a_search_uses_is_refused_of_one_training(self):
        for name in ("target_corpus", "query_log"):
            engine = self.engine(**{name: ["a text"]})
            with pytest.raises(InvalidOptionError, match=rf"{name} is given, but only the search"):
                engine.finetune(learning_rate=1e-3)


class TestSeed:
    def test_the_same_seed_gives_the_same_bytes(self):
        for name in ("first", "second"):
            engine_of(seed=5, adapter="two-layer", model_output_path=name).finetune()
        engine_of(seed=6, adapter="two-layer", model_output_path="other").finetune()
        first = contents("first")
        assert first == contents("second")
        assert first["model.safetensors"] != contents("other")["model.safetensors"]

    def test_finetuning_again_starts_again(self):
        adapter = Gate(DIM)
        start = copy.deepcopy(adapter.state_dict())
        engine = engine_of(adapter_model=adapter)
        first = engine.finetune()
        assert torch.equal(adapter.matrix, start["matrix"])
        assert engine.finetune().history == first.history


class TestOptions:
    def test_they_reach_training(self):
        engine = engine_of(epochs=3, patience=50)
        assert len(engine.finetune().history) == 4
        assert len(engine.finetune(epochs=1).history) == 2
        assert len(engine.finetune().history) == 4

    def test_bias(self, subtests):
        for adapter, bias, expected in (
            ("linear", None, False),
            ("linear", True, True),
            ("two-layer", None, True),
            ("two-layer", False, False),
        ):
            with subtests.test(adapter, bias=bias):
                engine_of(adapter=adapter, bias=bias, epochs=1).finetune()
                arrays = load_adapter("model_output").arrays()
                assert any("bias" in name for name in arrays) is expected

    def test_dim_is_checked(self):
        assert engine_of(dim=DIM, epochs=1).finetune()
        message = r"dim is 7, but the query vectors have 32 dimensions\. Leave dim out"
        with pytest.raises(InvalidVectorsError, match=message):
            engine_of(dim=7).finetune()

    def test_an_unknown_one(self, subtests):
        for name, closest in (
            ("epoch", "epochs"),
            ("learningrate", "learning_rate"),
            ("val_datset", "val_dataset"),
            ("output_path", "model_output_path"),
            ("show_progres_bar", "show_progress_bar"),
        ):
            with subtests.test(name=name, closest=closest):
                message = rf"Unknown option '{name}'\. Did you mean '{closest}'\?"
                with pytest.raises(UnknownOptionError, match=message):
                    engine_of(**{name: 1})

    def test_a_value_that_cannot_be_used_is_found_at_once(self, subtests):
        """Before ``finetune``; tests/bad_inputs has every value that is refused."""
        for options, message in (
            ({"adapter": "linaer"}, r"adapter is 'linaer'; use one of .*Did you mean 'linear'\?"),
            ({"epochs": 0}, r"epochs is 0; give a whole number from 1 on"),
            (
                {"rank": 3, "adapter": "low-rank", "adapter_model": LinearAdapter(DIM)},
                r"rank is 3, but only",
            ),
            ({"adapter_model": torch.nn.Linear(3, 3)}, r"adapter_model is a Linear; give an inst"),
            ({"checkpoint_save_steps": "9"}, r"checkpoint_save_steps is '9'; give a whole number"),
            ({"model_output_path": "a", "model_checkpoint_path": "a"}, r"a lies in .* a, which is"),
            ({"optimizer_params": {"lr": 2}, "learning_rate": 1}, r"give one of them"),
            ({"similarity": "cosin"}, r"similarity is 'cosin'; use one of cosine, dot_product"),
            ({"embed_model": "openai"}, r"embed_model is str; expected a LlamaIndex embedding"),
        ):
            with subtests.test(message), pytest.raises(InvalidOptionError, match=message):
                engine_of(**options)

    def test_a_device_that_is_none_is_found_before_anything_is_embedded(self):
        engine = engine_of(device="qpu")
        message = r"device is 'qpu', which torch cannot use here"
        with pytest.raises(InvalidOptionError, match=message):
            engine.finetune()
        assert engine.embed_model.calls == []

    def test_options_in_an_object_are_those_by_name(self):
        by_name = {"epochs": 3, "batch_size": 16, "learning_rate": 2e-2, "seed": 3}
        for place, options in (
            ("name", by_name),
            ("object", {"options": TrainingOptions(**by_name)}),
            # What is said twice in the same words is no contradiction.
            ("both", {"options": TrainingOptions(**by_name), **by_name}),
        ):
            EmbeddingAdapterFinetuneEngine(
                TRAIN,
                base_model(),
                val_dataset=VAL,
                adapter="linear",
                model_output_path=place,
                show_progress=False,
                **options,
            ).finetune()
        assert contents("name") == contents("object") == contents("both")

    def test_one_option_with_two_values(self, subtests):
        for by_name in (
            {"batch_size": 8},
            {"epochs": 2},
            {"device": "meta"},
            {"learning_rate": 0.5},
            # These are the defaults; who writes them down means them.
            {"epochs": 40},
            {"seed": 0},
        ):
            with subtests.test(by_name=by_name):
                options = TrainingOptions(
                    batch_size=16, epochs=6, device="cpu", seed=5, learning_rate=2e-2
                )
                ((name, value),) = by_name.items()
                message = (
                    rf"^{name} is {value!r} by name and {getattr(options, name)!r} in options; give"
                )
                with pytest.raises(InvalidOptionError, match=message):
                    EmbeddingAdapterFinetuneEngine(TRAIN, base_model(), options=options, **by_name)

    def test_a_position_counts_as_a_name(self):
        with pytest.raises(InvalidOptionError, match="batch_size is 8 by name and 16 in options"):
            EmbeddingAdapterFinetuneEngine(
                TRAIN, base_model(), 8, options=TrainingOptions(batch_size=16)
            )

    def test_an_output_path_that_holds_other_files(self):
        Path("mine").mkdir()
        Path("mine/letters.txt").write_text("dear")
        with pytest.raises(InvalidOptionError, match=r"holds files that are not an adapter's"):
            engine_of(model_output_path="mine")

    def test_an_adapter_of_another_dimension(self):
        with pytest.raises(InvalidAdapterError, match=r"failed on vectors of shape \(1, 32\)"):
            engine_of(adapter_model=LinearAdapter(DIM + 1)).finetune()


class TestData:
    def test_texts_need_an_embedding_model(self):
        data = Embedder(base_model(), show_progress=False).dataset(TRAIN).data
        for given, name in (((TRAIN, None), "dataset"), ((data, VAL), "val_dataset")):
            with pytest.raises(InvalidOptionError, match=rf"^{name} holds texts, and embed_model"):
                EmbeddingAdapterFinetuneEngine(given[0], None, val_dataset=given[1])

    def test_a_name_is_no_embedding_model(self):
        for given in (TRAIN, rotated(20)):
            with pytest.raises(InvalidOptionError, match="embed_model is str; expected a LlamaInd"):
                EmbeddingAdapterFinetuneEngine(given, "local")

    def test_copies_of_passages_are_counted_where_the_result_is_told(self):
        again = {f"again {name}": text for name, text in TRAIN.corpus.items()}
        twice = EmbeddingQAFinetuneDataset(
            queries=TRAIN.queries,
            corpus=TRAIN.corpus | again,
            relevant_docs=TRAIN.relevant_docs,
        )
        result = engine_of(twice, val_dataset=None).finetune()
        assert result.comparison.copies == Copies(len(again))
        assert f"{len(again)} passages are copies of others." in str(result)
        assert load_saved(result.path).metadata.data["copies"] == len(again)
        card = (result.path / "README.md").read_text(encoding="utf-8")
        assert f"{2 * len(again)} passages, {len(again)} of them copies of others." in card

    def test_a_dataset_that_is_none(self):
        with pytest.raises(InvalidDatasetError, match="is not a question set"):
            engine_of("train.json")
        with pytest.raises(InvalidDatasetError, match="is not a question set"):
            engine_of(val_dataset="val.json")

    def test_validation_of_another_model(self):
        message = r"32 and 32 dimensions, those of validation 16 and 16"
        with pytest.raises(InvalidVectorsError, match=message):
            engine_of(val_dataset=rotated(20)).finetune()

    def test_vectors_know_how_they_are_compared(self):
        data = rotated(similarity="euclidean")
        message = r"similarity is 'dot_product', but dataset holds vectors to compare by 'euclid"
        with pytest.raises(InvalidOptionError, match=message):
            EmbeddingAdapterFinetuneEngine(data, None, similarity="dot_product")
        engine = EmbeddingAdapterFinetuneEngine(
            data, base_model(), val_dataset=rotated(20), adapter="linear", show_progress=False
        )
        with pytest.raises(InvalidVectorsError, match=r"by 'euclidean', validation by 'cosine'"):
            engine.finetune()


def test_in_the_retriever_of_an_index_that_exists():
    """The whole way: an index is built, an adapter trained, and no stored number changes."""
    base = base_model()
    nodes = [TextNode(id_=name, text=text) for name, text in QUESTIONS.corpus.items()]
    index = VectorStoreIndex(nodes, embed_model=base)
    stored = json.dumps(index.vector_store.to_dict())
    engine = engine_of(embed_model=base, epochs=12)
    engine.finetune()
    model = engine.get_finetuned_model()

    def recall(retriever):
        found = 0
        for name, text in VAL.queries.items():
            best = {hit.node.node_id for hit in retriever.retrieve(text)}
            found += not best.isdisjoint(VAL.relevant_docs[name])
        return found / len(VAL.queries)

    before = recall(index.as_retriever(similarity_top_k=3))
    after = recall(index.as_retriever(similarity_top_k=3, embed_model=model))
    assert before < 0.4
    assert after > before + 0.3
    assert json.dumps(index.vector_store.to_dict()) == stored
    # What is inserted later gets the base model's vectors, through either model.
    text = "something new"
    assert model.get_text_embedding(text) == base.get_text_embedding(text)
