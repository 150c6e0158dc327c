"""The page is looked at as text here, and in a browser where there is one."""

from __future__ import annotations

import itertools
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2.utils import htmlsafe_json_dumps

from llama_index_adapters import AdapterEmbeddingModel, EmbeddingQAFinetuneDataset, evaluate
from llama_index_adapters.adapters.disk.save import save_adapter
from llama_index_adapters.adapters.learned.linear import IdentityAdapter, LinearAdapter
from llama_index_adapters.errors import InvalidOptionError
from llama_index_adapters.report import plots, write_report
from llama_index_adapters.report.measure import (
    first_relevant_ranks,
    measure,
    most_frequent_passages,
    question_map,
)
from llama_index_adapters.report.page import MAX_BYTES
from llama_index_adapters.retrieval.ranking import TopK, top_k
from llama_index_adapters.retrieval.relevance import Relevance
from llama_index_adapters.retrieval.vector_dataset import VectorDataset
from tests import rewriting
from tests.fakes import CountingEmbedding, WordsEmbedding, synonym_questions
from tests.vector_sets import DIM, rotated

HOSTILE = "<img src=x onerror=document.title='run'></script><script>document.title='run'</script>"
QUESTIONS = synonym_questions(5)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def adapted(folder, base, dim, seed=0):
    """A random linear map, which moves every ranking."""
    import torch

    torch.manual_seed(seed)
    adapter = LinearAdapter(dim, dim)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    save_adapter(folder, adapter)
    return AdapterEmbeddingModel(base, folder, check_model_name=False)


@pytest.fixture
def model(tmp_path):
    base = WordsEmbedding()
    return adapted(tmp_path / "adapter", base, base.dimension)


@pytest.fixture
def written(tmp_path, model):
    """Write a report; gives its text."""

    def write(dataset, embed_model=model, **options):
        path = tmp_path / "report.html"
        options = {"store": tmp_path / "store.sqlite3", "show_progress": False, **options}
        write_report(path, embed_model, dataset, **options)
        return path.read_text(encoding="utf-8")

    return write


class Elements(HTMLParser):
    """The tags of a page with their attributes, and the text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._raw = [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._raw = False

    def handle_data(self, data):
        self.text += "" if self._raw else data


def hostile():
    return EmbeddingQAFinetuneDataset(
        queries={name: f"{text} {HOSTILE}" for name, text in QUESTIONS.queries.items()},
        corpus={name: f"{text} {HOSTILE}" for name, text in QUESTIONS.corpus.items()},
        relevant_docs=QUESTIONS.relevant_docs,
    )


def test_the_page_says_what_changed(written, model, tmp_path):
    seen = Elements(written(QUESTIONS)).text
    found = measure(
        model,
        QUESTIONS,
        store=tmp_path / "store.sqlite3",
        similarity="cosine",
        seed=0,
        show_progress=False,
    )
    comparison = found.comparison
    hits = 100 * comparison.adapted["hit_rate@10"]
    assert f"{hits:.0f} of 100 questions find an answer among the first 10 results" in seen
    assert f"from {comparison.base['ndcg@10']:.3f} to {comparison.adapted['ndcg@10']:.3f}" in seen
    assert f"{comparison.wins} better" in seen
    assert f"{comparison.losses} worse" in seen
    worst = QUESTIONS.queries[found.data.query_ids[comparison.worst(1)[0]]]
    assert worst in seen
    assert "MRR" in seen
    assert "come up too often" in seen


def test_the_page_asks_for_nothing_and_is_small(written):
    page = written(QUESTIONS)
    assert len(page.encode()) < MAX_BYTES
    tags = Elements(page).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "img", "base", "object")]
    assert not [attributes for _, attributes in tags if {"src", "href", "action"} & set(attributes)]
    policy = next(a["content"] for _, a in tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    style = re.search("<style>(.*?)</style>", page, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_markup_in_texts_ids_and_names_stays_text(written, model):
    plain, marked = written(QUESTIONS), written(hostile(), {HOSTILE: model})
    assert HOSTILE not in marked
    assert HOSTILE in Elements(marked).text
    count = [[tag for tag, _ in Elements(page).tags].count("script") for page in (plain, marked)]
    assert count == [3, 3]
    assert "img" not in {tag for tag, _ in Elements(marked).tags}


def test_without_texts_there_are_ids(written):
    page = written(hostile(), texts=False)
    assert "onerror" not in Elements(page).text
    assert not any(text in page for text in QUESTIONS.corpus.values())
    assert "Texts are left out, so ids are shown." in page


def test_vectors_are_shown_by_their_ids(written, tmp_path):
    model = adapted(tmp_path / "of-vectors", WordsEmbedding(), DIM)
    data = rotated()
    page = written(data, model)
    assert "Only vectors were given, so ids are shown." in page
    assert "Every question is a mark" in page


def test_a_result_that_changes_nothing_is_said_to_be_one(written, tmp_path):
    """Of one question and two passages, the least there can be."""
    save_adapter(tmp_path / "same", IdentityAdapter(WordsEmbedding().dimension))
    same = AdapterEmbeddingModel(WordsEmbedding(), tmp_path / "same", check_model_name=False)
    least = {"queries": {"q": "a b"}, "corpus": {"p": "a", "r": "c"}, "relevant_docs": {"q": ["p"]}}
    seen = Elements(written(least, same)).text
    assert "as many as without it" in seen
    assert "Every answer stands where it stood" in seen
    assert "No question changed." in seen


def test_several_adapters_stand_side_by_side(written, model, tmp_path):
    base = WordsEmbedding()
    other = adapted(tmp_path / "other", base, base.dimension, seed=1)
    seen = Elements(written(QUESTIONS, {"may": model, "june": other})).text
    assert "Adapters side by side" in seen
    assert "june" in seen


def test_the_same_seed_gives_the_same_bytes(written):
    first, again = written(QUESTIONS), written(QUESTIONS)
    assert first == again
    assert written(QUESTIONS, seed=1) != first


def test_long_passages_do_not_make_it_too_large(written):
    long = EmbeddingQAFinetuneDataset(
        queries=QUESTIONS.queries,
        corpus={name: f"{text} {'<&' * 50_000}" for name, text in QUESTIONS.corpus.items()},
        relevant_docs=QUESTIONS.relevant_docs,
    )
    assert len(written(long).encode()) < MAX_BYTES


@pytest.mark.parametrize("name", ["检索" * 50, "<&" * 50, "\N{FIRE}" * 50])
def test_names_of_many_questions_are_cut_until_they_fit(name):
    """JSON within a page writes some characters in six or twelve bytes."""
    labels = plots._labels([name] * plots.MAX_POINTS)
    assert sum(len(htmlsafe_json_dumps(label)) for label in labels) < 1_100_000
    assert len(labels) == plots.MAX_POINTS


def test_names_of_few_questions_are_shown_in_full():
    assert plots._labels(["a question of some words"]) == ["a question of some words"]


def test_ranks_are_those_of_the_first_relevant_passage():
    top = TopK(np.array([[3, 1, 2], [0, 2, 1], [1, 2, 3]]), np.zeros((3, 3), np.float32))
    relevance = Relevance.from_rows([[2, 1], [3], [1]])
    assert first_relevant_ranks(top, relevance).tolist() == [2, 0, 1]


def test_passages_that_come_up_for_others_questions_are_counted(model, tmp_path):
    found = measure(
        model, QUESTIONS, store=tmp_path / "s", similarity="cosine", seed=0, show_progress=False
    )
    for hub in most_frequent_passages(found, 3):
        assert hub.before == (found.before.passages[:, :10] == hub.row).sum()
        assert hub.after == (found.after.passages[:, :10] == hub.row).sum()
        assert max(hub.before, hub.after) > hub.relevant


def test_the_map_is_that_of_the_principal_components():
    queries = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    places, share = question_map(queries)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(centred @ axes[:2].T), atol=1e-5)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"embed_model": WordsEmbedding()},
            "embed_model is a WordsEmbedding, which has no adapter",
        ),
        ({"embed_model": {}}, "embed_model is empty"),
        ({"embed_model": {"a": WordsEmbedding()}}, r"embed_model\['a'\] is a WordsEmbedding"),
        ({"path": 3}, "path is 3"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refusals(options, said, model, tmp_path):
    given = {"path": tmp_path / "r.html", "embed_model": model, "dataset": QUESTIONS, **options}
    with pytest.raises(InvalidOptionError, match=said):
        write_report(**given)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser(written, model, tmp_path):
    """Plots are drawn, the list is searched and sorted, and no text of a passage is run."""
    sync_api = pytest.importorskip("playwright.sync_api")
    written(hostile(), {HOSTILE: model})
    requests, errors = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("html[data-drawn='2']")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

        first = page.locator(".question .text").first
        page.select_option("#sort", "worse")
        changes = page.eval_on_selector_all(
            ".question", "all => all.map(one => Number(one.dataset.change))"
        )
        assert changes == sorted(changes)
        wanted = first.inner_text().split()[0]
        page.fill("#search", wanted)
        assert all(wanted in text for text in page.locator(".question").all_text_contents())
        page.fill("#search", "no such word anywhere")
        assert page.locator(".question").count() == 0

        page.locator("#map").scroll_into_view_if_needed()
        box = page.locator("#map").bounding_box()
        pointed_at = page.locator(".bk-tooltip-content")
        places = itertools.product(
            range(10, int(box["height"]), 14), range(10, int(box["width"]), 8)
        )
        while not pointed_at.count():  # until a mark is met
            down, right = next(places)
            page.mouse.move(box["x"] + right, box["y"] + down)
        assert "<img src=x" in pointed_at.first.inner_text()
        assert page.title().startswith("Retrieval report")
        browser.close()
    assert not errors
    assert len(requests) == 1


def test_an_adapter_of_both_sides_is_ranked_over_the_passages_it_maps(tmp_path):
    random = np.random.default_rng(0)
    queries, passages = random.standard_normal((2, 40, rewriting.DIM))
    data = VectorDataset(queries, passages, Relevance.from_rows([[row] for row in range(40)]))
    model = rewriting.halved(tmp_path / "both", CountingEmbedding())
    options = {"store": None, "similarity": "cosine", "seed": 0, "show_progress": False}
    measured = measure(model, data, **options)
    mapped = model.transform_queries(data.queries), model.transform_passages(data.passages)
    np.testing.assert_array_equal(measured.after.passages, top_k(*mapped, 40).passages)
    assert measured.comparison.adapted == evaluate(model, data).comparison.adapted
