"""Feedback after Rocchio, and as the engine recommends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from search_service.feedback import average_vector, rocchio
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


@given(
    st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4), st.sampled_from([rocchio, average_vector])
)
def test_the_query_stays_finite_and_of_length_one(
    seed: int, liked: int, disliked: int, feedback: object
) -> None:
    query = vectors(seed, 1)[0]
    moved = feedback(query, liked=vectors(seed + 1, liked), disliked=vectors(seed + 2, disliked))  # type: ignore[operator]
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
    if not liked and not disliked:
        assert moved is query


@pytest.mark.parametrize("feedback", [rocchio, average_vector])
def test_feedback_that_would_cancel_the_query_leaves_it(feedback: object) -> None:
    query = vectors(1, 1)[0]
    opposite = -query[None, :]
    liked = np.repeat(opposite, 4, axis=0) if feedback is rocchio else opposite
    moved = feedback(query, liked=liked, disliked=NONE)  # type: ignore[operator]
    assert np.isfinite(moved).all()
    if feedback is average_vector:  # the mean of a vector and its opposite
        assert moved is query


@pytest.mark.filterwarnings("ignore:Local mode")
@pytest.mark.parametrize(("liked", "disliked"), [(0, 0), (2, 0), (0, 3), (1, 1), (3, 2)])
def test_recommending_means_what_the_engine_means(liked: int, disliked: int) -> None:
    client = QdrantClient(":memory:")
    config = models.VectorParams(size=6, distance=models.Distance.COSINE)
    client.create_collection("items", vectors_config=config)
    items = vectors(5, 60)
    client.upsert(
        "items", [models.PointStruct(id=number, vector=row.tolist()) for number, row in enumerate(items)]
    )
    query, likes, dislikes = vectors(6, 1)[0], vectors(7, liked), vectors(8, disliked)
    recommend = models.RecommendInput(
        positive=[query.tolist(), *likes.tolist()],
        negative=dislikes.tolist(),
        strategy=models.RecommendStrategy.AVERAGE_VECTOR,
    )
    theirs = client.query_points("items", query=models.RecommendQuery(recommend=recommend), limit=60).points
    ours = items @ average_vector(query, liked=likes, disliked=dislikes)
    assert [point.id for point in theirs] == np.argsort(-ours, kind="stable").tolist()
    np.testing.assert_allclose([point.score for point in theirs], np.sort(ours)[::-1], atol=1e-5)
    client.close()
