import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_service.evaluation.metrics import (
    arithmetic_mean,
    average_precision_at,
    dialogue_success,
    geometric_mean,
    harmonic_mean,
    mean_average_precision_at,
    mean_of,
    recall_at,
)
from combiner_service.evaluation.ranking import NOT_RANKED

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


def test_success_of_dialogues_is_by_turn() -> None:
    first, second = np.array([[1], [20]]), np.array([[NOT_RANKED, 9]])
    assert dialogue_success([first, second], 10) == (0.5, 1.0)
