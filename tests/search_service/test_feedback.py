"""Rocchio feedback."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from search_service.feedback import rocchio
from search_service.turns import unit

NONE = np.empty((0, 6), dtype=np.float32)


def vectors(seed: int, count: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return np.stack([unit(row) for row in rows]) if count else NONE


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_likes_bring_the_query_closer_and_dislikes_push_it_away(seed: int, count: int) -> None:
    query, items = vectors(seed, 1)[0], vectors(seed + 1, count)
    mean = items.mean(axis=0)
    towards = rocchio(query, liked=items, disliked=NONE)
    away = rocchio(query, liked=NONE, disliked=items)
    assert towards @ mean >= query @ mean - 1e-5
    assert away @ mean <= query @ mean + 1e-5
    assert np.linalg.norm(towards) == pytest.approx(1, abs=1e-5)


def test_no_feedback_leaves_the_query_alone() -> None:
    query = vectors(3, 1)[0]
    assert rocchio(query, liked=NONE, disliked=NONE) is query


def test_weights_are_the_documented_ones() -> None:
    query, liked, disliked = vectors(1, 1)[0], vectors(2, 2), vectors(3, 3)
    expected = query + 0.75 * liked.mean(axis=0) - 0.15 * disliked.mean(axis=0)
    np.testing.assert_allclose(
        rocchio(query, liked=liked, disliked=disliked), expected / np.linalg.norm(expected), atol=1e-6
    )
