from __future__ import annotations

import copy
import json
import pickle
from types import SimpleNamespace

import pytest

from llama_index_adapters.errors import InvalidDatasetError, InvalidFileError, MissingFileError
from llama_index_adapters.questions.question_set import (
    EmbeddingQAFinetuneDataset,
    as_dataset,
    with_shared_relevance,
)


def mappings(**changes):
    parts = {
        "queries": {"q1": "How long is the warranty?", "q2": "Qu'est-ce que 保証?"},
        "corpus": {"n1": "Two years.", "n2": "Une garantie.", "n3": "Nobody asks."},
        "relevant_docs": {"q1": ["n1", "n2"], "q2": ["n2"]},
    }
    return {**parts, **changes}


def test_every_relevant_passage_is_kept_in_order():
    dataset = EmbeddingQAFinetuneDataset(**mappings())
    assert dataset.query_docid_pairs == [
        ("How long is the warranty?", ["n1", "n2"]),
        ("Qu'est-ce que 保証?", ["n2"]),
    ]
    assert dataset.mode == "text"


def test_repeated_ids_are_dropped_and_the_rest_keeps_its_order(subtests):
    for ids in (("n2", "n1", "n2"), ["n2", "n1", "n1"]):
        with subtests.test(ids=ids):
            dataset = EmbeddingQAFinetuneDataset(
                **mappings(relevant_docs={"q1": ids, "q2": ["n2"]})
            )
            assert dataset.relevant_docs["q1"] == ["n2", "n1"]


def test_a_set_of_ids_becomes_a_list_in_one_certain_order():
    dataset = EmbeddingQAFinetuneDataset(
        **mappings(relevant_docs={"q1": {"n3", "n1", "n2"}, "q2": frozenset({"n2"})})
    )
    assert dataset.relevant_docs == {"q1": ["n1", "n2", "n3"], "q2": ["n2"]}


WRONG = [
    (
        {"relevant_docs": {"q1": ["n1"], "q2": ["n2"], "zz": ["n1"]}},
        r"1 query id in relevant_docs not in queries: 'zz'\.",
    ),
    (
        {"relevant_docs": {"q1": ["a", "b", "c"], "q2": ["d", "e", "a"]}},
        r"5 passage ids in relevant_docs not in the corpus: 'a', 'b', 'c' and 2 more\.",
    ),
    ({"relevant_docs": {"q1": ["n1"]}}, r"1 query without a relevant passage: 'q2'\."),
    (
        {"relevant_docs": {"q1": [], "q2": []}},
        r"2 queries without a relevant passage: 'q1', 'q2'\.",
    ),
    ({"queries": {"q1": " \n", "q2": "x"}}, r"1 query with an empty text: 'q1'\."),
    ({"corpus": {"n1": "x", "n2": "", "n3": "\t"}}, r"2 passages with an empty text: 'n2', 'n3'\."),
    (
        {"queries": {"q1": "half \ud83d", "q2": "x"}},
        r"1 query with half of a surrogate pair in the text, which no model can encode: 'q1'\.",
    ),
    ({"corpus": {"n1": "\ude00", "n2": "x", "n3": "y"}}, r"1 passage with half of .*: 'n1'\."),
    ({"queries": {}, "relevant_docs": {}}, r"is empty: it has no queries"),
    ({"corpus": {}}, r"is empty: it has no passages in the corpus"),
    (
        {"corpus": {"n1": 3}},
        r"1 value is .* wrong type \(corpus\['n1'\]: Input should be a valid s",
    ),
    ({"queries": ["x"]}, r"queries: Input should be a valid dictionary"),
    ({"relevant_docs": {"q1": "n1"}}, r"relevant_docs\['q1'\]: Input should be a valid list"),
    ({"relevant_docs": None}, r"relevant_docs: Input should be a valid dictionary"),
    ({"mod": "text"}, r"mod: Extra inputs are not permitted"),
]


def test_what_does_not_fit_together_is_refused_by_name(subtests):
    for changes, message in WRONG:
        with subtests.test(message):
            with pytest.raises(InvalidDatasetError, match=message):
                EmbeddingQAFinetuneDataset(**mappings(**changes))
            with pytest.raises(InvalidDatasetError, match=message):
                EmbeddingQAFinetuneDataset.model_validate(mappings(**changes))


def test_every_kind_of_fault_is_named_at_once():
    with pytest.raises(InvalidDatasetError) as caught:
        EmbeddingQAFinetuneDataset(
            queries={"q1": ""}, corpus={"n1": "x"}, relevant_docs={"q2": ["n2"]}
        )
    for part in ("'q2'. Add", "'n2'. Add", "without a relevant passage: 'q1'", "empty text: 'q1'"):
        assert part in str(caught.value)


def test_json_text_is_validated_too():
    text = json.dumps(mappings())
    assert EmbeddingQAFinetuneDataset.model_validate_json(text).queries == mappings()["queries"]
    for text, message in (
        ('{"queries": {}}', "2 values are missing"),
        ('{"queries": {"q1": "a", "q1": "b"}}', "the key 'q1' twice"),
        (b'{"queries": ', "is not JSON"),
        (5, "wrong type"),
    ):
        with pytest.raises(InvalidDatasetError, match=message):
            EmbeddingQAFinetuneDataset.model_validate_json(text)


def test_it_writes_the_bytes_that_llamaindex_writes(tmp_path):
    dataset = EmbeddingQAFinetuneDataset(**mappings())
    path = tmp_path / "new" / "set.json"
    dataset.save_json(path)
    assert path.read_text(encoding="ascii") == json.dumps({**mappings(), "mode": "text"}, indent=4)
    assert EmbeddingQAFinetuneDataset.from_json(str(path)) == dataset


def test_it_reads_unescaped_utf8_a_byte_order_mark_and_a_missing_mode(tmp_path):
    path = tmp_path / "set.json"
    path.write_text("\ufeff" + json.dumps(mappings(), ensure_ascii=False), encoding="utf-8")
    dataset = EmbeddingQAFinetuneDataset.from_json(path)
    assert dataset == EmbeddingQAFinetuneDataset(**mappings())


def test_a_file_of_another_tool_may_hold_more(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(mappings(made_by="x")))
    assert EmbeddingQAFinetuneDataset.from_json(path).queries == mappings()["queries"]


def test_a_file_of_another_shape_is_refused_with_its_path(tmp_path, subtests):
    for content, message in (
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b'{"queries": ', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "holds a JSON list; expected queries"),
        (
            b'{"queries": {}, "corpus": {"a/b.md#1": "", "a/b.md#1": ""}, "relevant_docs": {}}',
            "has the key 'a/b.md#1' twice in one object",
        ),
        (b'{"queries": {"q": "x"}}', r"corpus: Field required.*expected queries \{query id"),
        (b'{"queries": {"q": 1}, "corpus": {}, "relevant_docs": {}}', r"queries\['q'\]: Input"),
    ):
        with subtests.test(message):
            path = tmp_path / "set.json"
            path.write_bytes(content)
            with pytest.raises(InvalidFileError, match=message) as caught:
                EmbeddingQAFinetuneDataset.from_json(path)
            assert str(path) in str(caught.value)


def test_contents_that_do_not_fit_are_named_with_the_path(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(mappings(relevant_docs={"q1": ["n1"]})))
    with pytest.raises(InvalidDatasetError, match=r"set\.json: 1 query without .*'q2'"):
        EmbeddingQAFinetuneDataset.from_json(path)


def test_a_missing_file_and_a_directory(tmp_path):
    with pytest.raises(MissingFileError, match=r"no file .*none\.json"):
        EmbeddingQAFinetuneDataset.from_json(tmp_path / "none.json")
    with pytest.raises(InvalidFileError, match=r"is a directory; expected .* in one JSON file"):
        EmbeddingQAFinetuneDataset.from_json(tmp_path)


def test_any_object_with_the_three_mappings_is_a_dataset(subtests):
    for data in (
        mappings(),
        SimpleNamespace(**mappings()),
        EmbeddingQAFinetuneDataset(**mappings()),
    ):
        with subtests.test(data=data):
            assert as_dataset(data) == EmbeddingQAFinetuneDataset(**mappings())


def test_as_dataset_keeps_the_mode_ignores_the_rest_and_copies():
    source = SimpleNamespace(**mappings(), mode="image", extra=1)
    dataset = as_dataset(source)
    source.queries["q3"] = "later"
    source.relevant_docs["q1"].append("n3")
    assert dataset.mode == "image"
    assert list(dataset.queries) == ["q1", "q2"]
    assert dataset.relevant_docs["q1"] == ["n1", "n2"]


def test_as_dataset_checks_a_set_that_was_changed_after_it_was_made():
    dataset = EmbeddingQAFinetuneDataset(**mappings())
    del dataset.corpus["n2"]
    with pytest.raises(InvalidDatasetError, match="not in the corpus: 'n2'"):
        as_dataset(dataset)


def test_as_dataset_says_what_is_missing():
    with pytest.raises(InvalidDatasetError, match="A dict without corpus, relevant_docs is not"):
        as_dataset({"queries": {}})
    with pytest.raises(InvalidDatasetError, match=r"from_json\(path\)"):
        as_dataset("train.json")


def test_identical_queries_share_their_passages():
    dataset = EmbeddingQAFinetuneDataset(
        queries={"q1": "same", "q2": "other", "q3": "same"},
        corpus={"n1": "a", "n2": "b", "n3": "c"},
        relevant_docs={"q1": ["n2"], "q2": ["n1"], "q3": ["n1", "n2", "n3"]},
    )
    shared = with_shared_relevance(dataset)
    assert shared.queries == {"q1": "same", "q2": "other"}
    assert shared.relevant_docs == {"q1": ["n2", "n1", "n3"], "q2": ["n1"]}
    assert shared.corpus == dataset.corpus
    assert list(dataset.queries) == ["q1", "q2", "q3"]
    assert dataset.relevant_docs["q1"] == ["n2"]


def test_it_survives_pickle_and_copy():
    dataset = EmbeddingQAFinetuneDataset(**mappings())
    assert pickle.loads(pickle.dumps(dataset)) == dataset
    assert copy.deepcopy(dataset) == dataset
