"""Ranks against sorting, and metrics against walking down the list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.vectors import normalize, split_lengths
from combiner_training.evaluation import ranking
from combiner_training.evaluation.metrics import (
    arithmetic_mean,
    average_precision_at,
    dialogue_success,
    geometric_mean,
    harmonic_mean,
    mean_average_precision_at,
    mean_of,
    recall_at,
    unsteady_at,
)
from combiner_training.evaluation.ranking import NONE, NOT_RANKED, group_ranks, target_ranks, top
from tests.combiner_training.evaluation.examples import PALETTE

UNIT = normalize(PALETTE)


def sorted_positions(query: int, gallery: list[int], excluded: int = NONE) -> list[int]:
    """All positions by score in float64, ties by position, without what is excluded."""
    scores = (UNIT[query].astype(np.float64) * UNIT[gallery].astype(np.float64)).sum(axis=1)
    order = sorted(range(len(gallery)), key=lambda position: (-scores[position], position))
    return [position for position in order if position != excluded]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[int], np.ndarray, np.ndarray]:
    """Directions of gallery and queries (with many copies), targets, excluded positions."""
    gallery = draw(st.lists(st.integers(0, len(PALETTE) - 1), min_size=1, max_size=12))
    queries = draw(st.lists(st.integers(0, len(PALETTE) - 1), min_size=1, max_size=5))
    position = st.integers(NONE, len(gallery) - 1)
    targets = draw(
        st.lists(st.lists(position, min_size=2, max_size=2), min_size=len(queries), max_size=len(queries))
    )
    excluded = draw(st.lists(position, min_size=len(queries), max_size=len(queries)))
    return gallery, queries, np.array(targets, np.int64), np.array(excluded, np.int64)


@given(problems(), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_ranks_are_those_of_sorting_whatever_the_chunks(
    problem: tuple[list[int], list[int], np.ndarray, np.ndarray], chunk: int
) -> None:
    gallery, queries, targets, excluded = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_CHUNK_SCORES", chunk)
        patch.setattr(ranking, "_BLOCK_NUMBERS", chunk)
        kept = target_ranks(UNIT[queries], UNIT[gallery], targets)
        dropped = target_ranks(UNIT[queries], UNIT[gallery], targets, excluded)
        best = top(UNIT[queries], UNIT[gallery], 4, excluded)
    for row, query in enumerate(queries):
        for ranks, out in ((kept, NONE), (dropped, excluded[row])):
            order = sorted_positions(query, gallery, out)
            for slot, target in enumerate(targets[row]):
                expected = order.index(target) + 1 if target in order else NOT_RANKED
                assert ranks[row, slot] == expected
        order = sorted_positions(query, gallery, excluded[row])[:4]
        assert best[row].tolist() == order + [NONE] * (4 - len(order))


@given(problems(), st.data())
@settings(max_examples=100, deadline=None)
def test_ranks_within_a_group_are_those_of_sorting(
    problem: tuple[list[int], list[int], np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    gallery, queries, targets, _ = problem
    groups = [data.draw(st.lists(st.integers(0, len(gallery) - 1), unique=True, max_size=5)) for _ in queries]
    members = np.full((len(queries), 5), NONE, np.int64)
    for row, group in enumerate(groups):
        members[row, : len(group)] = group
    ranks = group_ranks(UNIT[queries], UNIT[gallery], members, targets)
    for row, query in enumerate(queries):
        order = [position for position in sorted_positions(query, gallery) if position in groups[row]]
        for slot, target in enumerate(targets[row]):
            assert ranks[row, slot] == (order.index(target) + 1 if target in order else NOT_RANKED)


def test_copies_of_an_image_tie_wherever_they_stand() -> None:
    random = np.random.default_rng(0)
    gallery = normalize(random.standard_normal((1000, 61)).astype(np.float32))
    copies = [0, 3, 17, 500, 998, 999]
    gallery[copies] = gallery[0]
    queries = normalize(random.standard_normal((40, 61)).astype(np.float32))
    targets = np.tile(np.array(copies), (len(queries), 1))
    ranks = target_ranks(queries, gallery, targets)
    assert (np.diff(ranks, axis=1) == 1).all()


def test_a_model_that_gives_one_vector_for_everything_ranks_by_position() -> None:
    gallery = np.tile(UNIT[:1], (50, 1))
    ranks = target_ranks(UNIT[[0, 1]], gallery, np.array([[7], [49]]))
    assert ranks.tolist() == [[8], [50]]
    assert top(UNIT[[1]], gallery, 3).tolist() == [[0, 1, 2]]


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows, _ = split_lengths(np.array([[3, 4], [0, 0], [1e-30, 0]], np.float32))
    expected = np.array([[0.6, 0.8], [0, 0], [1, 0]])
    np.testing.assert_allclose(rows, expected, atol=1e-7)


def test_float32_scores_that_rounding_swaps_are_put_right() -> None:
    """Two images whose scores differ by less than float32 can tell, in an order that float32 gets wrong."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        query = normalize(random.standard_normal((1, 257)).astype(np.float32))
        base = random.standard_normal(257).astype(np.float32)
        gallery = normalize(
            np.array([base, base + np.float32(1e-7) * random.standard_normal(257)], np.float32)
        )
        exact = (query.astype(np.float64) * gallery).sum(axis=1)
        rough = (query @ gallery.T)[0]
        wrong += bool(rough[0] >= rough[1]) != bool(exact[0] >= exact[1])
        ranks = target_ranks(query, gallery, np.array([[0, 1]]))[0]
        assert ranks.tolist() == ([1, 2] if exact[0] >= exact[1] else [2, 1])
    assert wrong, "the example must hold pairs that float32 alone gets wrong"


RANKS = st.lists(
    st.lists(st.one_of(st.integers(1, 12), st.just(NOT_RANKED)), min_size=3, max_size=3),
    min_size=1,
    max_size=6,
)


@given(RANKS, st.integers(1, 14))
def test_recall_counts_queries_with_a_target_among_the_first(ranks: list[list[int]], k: int) -> None:
    hits = [any(rank <= k for rank in row) for row in ranks]
    assert recall_at(np.array(ranks), k) == pytest.approx(sum(hits) / len(hits))


@given(
    st.lists(st.sets(st.integers(1, 12), max_size=4), min_size=1, max_size=6),
    st.integers(1, 14),
    st.integers(0, 3),
)
def test_average_precision_is_that_of_walking_down_the_list(
    found: list[set[int]], k: int, unranked: int
) -> None:
    width = max(1, *(len(places) for places in found)) + unranked
    ranks = np.full((len(found), width), NOT_RANKED, np.int64)
    counts = np.array([len(places) + unranked or 1 for places in found], np.int64)
    expected = []
    for row, places in enumerate(found):
        ranks[row, : len(places)] = list(places)
        hits, total = 0, 0.0
        for place in range(1, k + 1):
            if place in places:
                hits += 1
                total += hits / place
        expected.append(total / min(k, int(counts[row])))
    np.testing.assert_allclose(average_precision_at(ranks, counts, k), expected)
    assert mean_average_precision_at(ranks, counts, k) == pytest.approx(np.mean(expected))


def test_no_queries_have_no_metrics() -> None:
    with pytest.raises(ValueError, match="some queries"):
        recall_at(np.empty((0, 1), np.int64), 1)
    with pytest.raises(ValueError, match="at least one"):
        arithmetic_mean([])


def test_means() -> None:
    assert arithmetic_mean([0.2, 0.4]) == pytest.approx(0.3)
    assert harmonic_mean([0.2, 0.4]) == pytest.approx(2 / (1 / 0.2 + 1 / 0.4))
    assert geometric_mean([0.2, 0.8]) == pytest.approx(0.4)
    assert harmonic_mean([0.0, 1.0]) == geometric_mean([0.0, 1.0]) == 0.0
    assert mean_of([{"a": 0.0, "b": 1.0}, {"a": 0.5, "b": 0.0}]) == {"a": 0.25, "b": 0.5}


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
def test_wishes_are_unsteady_that_some_of_their_wordings_answer(queries: list[tuple[int, bool]]) -> None:
    ranks = np.array([[3 if hit else 11] for _, hit in queries])
    wishes = [wish for wish, _ in queries]
    answers = [
        {hit for wish, hit in queries if wish == each} for each in set(wishes) if wishes.count(each) > 1
    ]
    if not answers:
        with pytest.raises(ValueError, match="no wish has two queries"):
            unsteady_at(ranks, wishes, 10)
    else:
        expected = sum(len(each) == 2 for each in answers) / len(answers)
        assert unsteady_at(ranks, wishes, 10) == pytest.approx(expected)


def test_success_of_dialogues_is_by_turn() -> None:
    first, second = np.array([[1], [20]]), np.array([[NOT_RANKED, 9]])
    assert dialogue_success([first, second], 10) == (0.5, 1.0)
