from __future__ import annotations

import numpy as np

from llama_index_adapters import AdapterEmbeddingModel, EmbeddingQAFinetuneDataset, VectorDataset
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import LinearAdapter
from llama_index_adapters.engines.base import FinetuneResult
from llama_index_adapters.evaluation.comparison import compare_queries
from llama_index_adapters.evaluation.evaluate import Evaluation
from llama_index_adapters.evaluation.replacement import Replacement
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.training.result import TrainingResult
from tests.fakes import WordsEmbedding, synonym_questions
from tests.vector_sets import rotated


def comparison():
    data = rotated()
    return compare_queries(data, data.queries[::-1])


def everything(folder):
    base, compared = WordsEmbedding(), comparison()
    adapter = LinearAdapter(base.dimension, base.dimension)
    save_adapter(folder, adapter)
    per_query = compared.per_query
    trained = TrainingResult(adapter, dict(per_query.base), dict(per_query.adapted))
    result = FinetuneResult(trained, folder, compared, False, "cosine", {"train": 1.0}, 3)
    return [
        rotated(),
        synonym_questions(),
        compared,
        Evaluation(compared, 3, {"embed": 0.5}),
        Replacement(compared, 3, {"embed": 0.5}),
        AdapterEmbeddingModel(base, folder),
        result,
    ]


def test_each_is_one_line_as_text_and_a_table_in_a_notebook(tmp_path):
    for one in everything(tmp_path / "adapter"):
        name = type(one).__name__
        assert repr(one).startswith(f"{name}("), name
        assert "\n" not in repr(one), name
        assert len(repr(one)) < 400, name
        html = one._repr_html_()
        assert html.count("<table>") == html.count("</table>") >= 1, name
        assert len(html) < 4000, name


def test_a_large_dataset_is_as_short_as_a_small_one():
    data = VectorDataset(np.ones((5000, 4)), np.ones((7000, 4)), Relevance.from_rows([[0]] * 5000))
    assert repr(data) == (
        "VectorDataset(queries 5,000 x 4, passages 7,000 x 4, relevant pairs 5,000, "
        "similarity cosine)"
    )


def test_figures_are_those_of_the_comparison():
    compared = comparison()
    gain = compared.gains["ndcg@10"]
    assert f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})" in repr(compared)
    assert f"<td>{compared.adapted['mrr@10']:.4f}</td>" in compared._repr_html_()


def test_markup_in_a_text_stays_text():
    questions = EmbeddingQAFinetuneDataset(
        queries={"q": "<b>bold</b>"},
        corpus={"p": "<script>run()</script>" + "long " * 100},
        relevant_docs={"q": ["p"]},
    )
    html = questions._repr_html_()
    assert "<b>bold" not in html
    assert "<script" not in html
    assert "&lt;b&gt;bold" in html
    assert len(html) < 1200
