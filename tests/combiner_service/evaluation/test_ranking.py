import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service.evaluation import ranking
from combiner_service.evaluation.ranking import NONE, NOT_RANKED, group_ranks, target_ranks, top, unit
from tests.combiner_service.evaluation.examples import PALETTE

UNIT = unit(PALETTE)


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


def test_copies_of_a_picture_tie_wherever_they_stand() -> None:
    random = np.random.default_rng(0)
    gallery = unit(random.standard_normal((1000, 61)).astype(np.float32))
    copies = [0, 3, 17, 500, 998, 999]
    gallery[copies] = gallery[0]
    queries = unit(random.standard_normal((40, 61)).astype(np.float32))
    targets = np.tile(np.array(copies), (len(queries), 1))
    ranks = target_ranks(queries, gallery, targets)
    assert (np.diff(ranks, axis=1) == 1).all()


def test_a_model_that_gives_one_vector_for_everything_ranks_by_position() -> None:
    gallery = np.tile(UNIT[:1], (50, 1))
    ranks = target_ranks(UNIT[[0, 1]], gallery, np.array([[7], [49]]))
    assert ranks.tolist() == [[8], [50]]
    assert top(UNIT[[1]], gallery, 3).tolist() == [[0, 1, 2]]


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows = unit(np.array([[3, 4], [0, 0], [1e-30, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [1, 0]], atol=1e-7)


def test_float32_scores_that_rounding_swaps_are_put_right() -> None:
    """Two images whose scores differ by less than float32 can tell, in an order that float32 gets wrong."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        query = unit(random.standard_normal((1, 257)).astype(np.float32))
        base = random.standard_normal(257).astype(np.float32)
        gallery = unit(np.array([base, base + np.float32(1e-7) * random.standard_normal(257)], np.float32))
        exact = (query.astype(np.float64) * gallery).sum(axis=1)
        rough = (query @ gallery.T)[0]
        wrong += bool(rough[0] >= rough[1]) != bool(exact[0] >= exact[1])
        ranks = target_ranks(query, gallery, np.array([[0, 1]]))[0]
        assert ranks.tolist() == ([1, 2] if exact[0] >= exact[1] else [2, 1])
    assert wrong, "the example must hold pairs that float32 alone gets wrong"
