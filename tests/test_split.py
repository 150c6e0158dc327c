from __future__ import annotations

import numpy as np
import pytest

from llama_index_adapters.errors import InvalidDatasetError, InvalidOptionError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.questions.split import split_by_passage, split_by_query


def question_set(judgements, texts=None, unasked=0):
    """One query for each list of passage numbers."""
    passages = sorted({passage for ids in judgements for passage in ids})
    return EmbeddingQAFinetuneDataset(
        queries={
            f"q{row}": texts[row] if texts else f"question {row}" for row in range(len(judgements))
        },
        corpus={f"n{passage}": f"passage {passage}" for passage in passages}
        | {f"u{row}": f"unasked {row}" for row in range(unasked)},
        relevant_docs={
            f"q{row}": [f"n{passage}" for passage in ids] for row, ids in enumerate(judgements)
        },
        mode="other",
    )


def two_each(n_passages, unasked=0):
    return question_set([[row // 2] for row in range(2 * n_passages)], unasked=unasked)


def sizes(sides):
    return [len(side.queries) for side in sides]


@pytest.mark.parametrize("split", [split_by_query, split_by_passage])
def test_every_query_is_on_one_side_with_all_its_passages(split):
    dataset = two_each(50, unasked=20)
    sides = split(dataset)
    assert sizes(sides) == [80, 10, 10]
    assert sorted(q for side in sides for q in side.queries) == sorted(dataset.queries)
    order = list(dataset.queries)
    for side in sides:
        assert side.mode == "other"
        assert list(side.queries) == sorted(side.queries, key=order.index)
        for query_id in side.queries:
            assert side.queries[query_id] == dataset.queries[query_id]
            assert side.relevant_docs[query_id] == dataset.relevant_docs[query_id]


@pytest.mark.parametrize("split", [split_by_query, split_by_passage])
def test_the_seed_decides(split):
    dataset = two_each(50, unasked=20)
    first, again, other = split(dataset, seed=1), split(dataset, seed=1), split(dataset, seed=2)
    assert [side.model_dump_json() for side in first] == [side.model_dump_json() for side in again]
    assert list(first[1].queries) != list(other[1].queries)


def test_by_query_every_side_keeps_the_corpus():
    dataset = two_each(50, unasked=3)
    assert all(side.corpus == dataset.corpus for side in split_by_query(dataset))


def test_by_query_the_same_text_is_never_on_two_sides():
    texts = [f"question {row % 25}" for row in range(100)]
    dataset = question_set([[row] for row in range(100)], texts)
    sides = split_by_query(dataset, (0.5, 0.5))
    left, right = ({*side.queries.values()} for side in sides)
    assert not left & right
    assert sizes(sides) == [52, 48] or sizes(sides) == [48, 52]


def test_by_passage_no_passage_is_on_two_sides():
    rng = np.random.default_rng(0)
    judgements = [
        sorted({int(row), *rng.integers(max(0, row - 2), row + 1, 2).tolist()})
        for row in rng.integers(0, 400, 600)
    ]
    dataset = question_set(judgements, unasked=100)
    sides = split_by_passage(dataset, seed=3)
    corpora = [set(side.corpus) for side in sides]
    assert sum(map(len, corpora)) == len(dataset.corpus)
    assert set().union(*corpora) == set(dataset.corpus)
    for size, share in zip(sizes(sides), (0.8, 0.1, 0.1), strict=True):
        assert abs(size / 600 - share) < 0.02
    unasked = [sum(passage.startswith("u") for passage in corpus) for corpus in corpora]
    assert unasked == [80, 10, 10]


def test_by_passage_a_chain_of_shared_passages_stays_together():
    chain = [[row, row + 1] for row in range(10)]
    singles = [[100 + row] for row in range(10)]
    sides = split_by_passage(question_set(chain + singles), (0.5, 0.5))
    assert sizes(sides) == [10, 10]
    chained = [f"q{row}" for row in range(10)]
    assert list(sides[0].queries) == chained or list(sides[1].queries) == chained


def test_by_passage_the_same_text_is_never_on_two_sides():
    texts = [f"question {row % 30}" for row in range(60)]
    sides = split_by_passage(question_set([[row] for row in range(60)], texts), (0.5, 0.5))
    left, right = ({*side.queries.values()} for side in sides)
    assert not left & right


@pytest.mark.parametrize("seed", range(3))
def test_by_passage_equal_passages_are_never_on_two_sides(seed):
    """Thirty texts under two ids, a question about each id; ten more that nobody asks about."""
    ids = [f"n{row}" for row in range(60)]
    dataset = EmbeddingQAFinetuneDataset(
        queries={f"q{row}": f"question {row}" for row in range(60)},
        corpus={name: f"passage {row % 30}" for row, name in enumerate(ids)}
        | {f"u{row}": f"unasked {row % 10}" for row in range(20)},
        relevant_docs={f"q{row}": [name] for row, name in enumerate(ids)},
    )
    left, right = split_by_passage(dataset, (0.5, 0.5), seed=seed)
    assert sizes([left, right]) == [30, 30]
    assert not {*left.corpus.values()} & {*right.corpus.values()}
    assert len(left.corpus) == len(right.corpus) == 40


def test_by_passage_each_side_gets_large_and_small_groups():
    judgements = [[passage] for passage in range(120) for _ in range(1 + passage % 4)]
    sides = split_by_passage(question_set(judgements), (0.5, 0.25, 0.25))
    assert sizes(sides) == [150, 75, 75]
    for side in sides:
        asked = [ids[0] for ids in side.relevant_docs.values()]
        counts = np.bincount([asked.count(passage) for passage in set(asked)], minlength=5)[1:]
        assert counts.min() >= 0.8 * len(set(asked)) / 4


def test_one_large_group_goes_to_the_large_side_and_no_side_is_empty():
    dataset = question_set([[0]] * 98 + [[1], [2]])
    assert sizes(split_by_passage(dataset)) == [98, 1, 1]
    assert sorted(sizes(split_by_passage(question_set([[0]] * 10 + [[1]] * 10 + [[2]] * 10)))) == [
        10,
        10,
        10,
    ]


def test_small_sets_give_every_side_something(subtests):
    for n, expected in ((3, [1, 1, 1]), (5, [3, 1, 1]), (19, [15, 2, 2])):
        with subtests.test(n=n, expected=expected):
            assert sizes(split_by_query(question_set([[0]] * n))) == expected


def test_impossible_fractions_are_refused(subtests):
    for split in (split_by_query, split_by_passage):
        for fractions in (
            (0.8, 0.1),
            (1.0,),
            (),
            (0.5, 0.6, -0.1),
            (1.0, 0.0),
            (float("nan"), 0.5),
        ):
            with (
                subtests.test(split=split, fractions=fractions),
                pytest.raises(
                    InvalidOptionError, match="two or more positive numbers with the sum 1"
                ),
            ):
                split(two_each(5), fractions)


def test_a_set_too_small_for_its_sides_is_refused():
    with pytest.raises(InvalidDatasetError, match="has 2 distinct queries, too few for 3 sides"):
        split_by_query(question_set([[0], [1], [2]], ["a", "b", "a"]))
    with pytest.raises(
        InvalidDatasetError, match=r"has 1 groups of queries .* too few for 2 sides"
    ):
        split_by_passage(question_set([[0]] * 5), (0.5, 0.5))
