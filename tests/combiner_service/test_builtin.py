"""The combiners without weights, against their formulae in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from combiner_service.builtin import ImageCombiner, SlerpCombiner, SumCombiner, TextCombiner
from combiner_service.errors import NotFiniteError
from tests.combiner_service.examples import features_of

pytestmark = pytest.mark.torch

seeds = st.integers(0, 2**16)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return result


@given(seeds)
def test_sum_adds_the_raw_features(seed: int) -> None:
    image, text = features_of(5, seed=seed), features_of(5, seed=seed + 1) * 7
    answer = SumCombiner().combine(image, text)
    np.testing.assert_allclose(answer.query_vectors, unit(image + text), atol=1e-6)
    assert (answer.text_weights == 0.5).all()


@given(seeds, st.floats(2**-10, 2**10))
def test_sum_keeps_its_direction_when_both_are_scaled_alike(seed: int, scale: float) -> None:
    image, text = features_of(3, seed=seed), features_of(3, seed=seed + 1)
    scaled = SumCombiner().combine(image * np.float32(scale), text * np.float32(scale))
    np.testing.assert_allclose(
        scaled.query_vectors, SumCombiner().combine(image, text).query_vectors, atol=1e-5
    )


def test_sum_follows_the_longer_vector() -> None:
    image, text = features_of(1), features_of(1, seed=1)
    towards_text = SumCombiner().combine(image, text * np.float32(100)).query_vectors
    assert float((towards_text * unit(text)).sum()) > 0.999


def test_sum_of_opposite_features_is_refused_with_the_row() -> None:
    image = features_of(3)
    text = features_of(3, seed=1)
    text[2] = -image[2]
    with pytest.raises(NotFiniteError, match=r"row 2: .*cancel out"):
        SumCombiner().combine(image, text)


@pytest.mark.parametrize("magnitude", [1e-45, 1e-30, 1e30, 3e38])
def test_the_whole_range_of_float32_is_taken(magnitude: float) -> None:
    features = np.full((1, 8), magnitude, dtype=np.float32)
    for combiner in (SumCombiner(), ImageCombiner(), TextCombiner()):
        answer = combiner.combine(features, features)
        np.testing.assert_allclose(answer.query_vectors, np.full((1, 8), 8**-0.5), atol=1e-6)


def test_image_and_text_ignore_the_other() -> None:
    image, text = features_of(4), features_of(4, seed=1)
    by_image, by_text = ImageCombiner().combine(image, text), TextCombiner().combine(image, text)
    np.testing.assert_allclose(by_image.query_vectors, unit(image), atol=1e-6)
    np.testing.assert_allclose(by_text.query_vectors, unit(text), atol=1e-6)
    assert (by_image.text_weights == 0).all()
    assert (by_text.text_weights == 1).all()


weights = st.floats(0, 1)


def angles(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles between unit rows, exact for small and for nearly straight ones (Kahan)."""
    result: NDArray[np.float64] = 2 * np.arctan2(
        np.linalg.norm(first - second, axis=1), np.linalg.norm(first + second, axis=1)
    )
    return result


@given(seeds, weights)
def test_the_answer_is_the_textbook_formula(seed: int, weight: float) -> None:
    image, text = features_of(4, seed=seed), features_of(4, seed=seed + 1)
    answer = SlerpCombiner().combine(image, text, weight)
    start, end = unit(image), unit(text)
    angle = np.arccos((start * end).sum(axis=1))[:, None]
    expected = (np.sin((1 - weight) * angle) * start + np.sin(weight * angle) * end) / np.sin(angle)
    np.testing.assert_allclose(answer.query_vectors, expected, atol=1e-5)


def test_nearer_to_the_text_is_the_default() -> None:
    image, text = features_of(4), features_of(4, seed=1)
    answer, near = SlerpCombiner().combine(image, text), SlerpCombiner().combine(image, text, 0.6)
    np.testing.assert_allclose(answer.query_vectors, near.query_vectors, atol=1e-7)
    np.testing.assert_allclose(answer.text_weights, 0.6, rtol=1e-6)


@given(seeds)
def test_it_ends_at_image_and_text(seed: int) -> None:
    image, text = features_of(4, seed=seed), features_of(4, seed=seed + 1)
    np.testing.assert_allclose(
        SlerpCombiner().combine(image, text, 0.0).query_vectors, unit(image), atol=1e-6
    )
    np.testing.assert_allclose(SlerpCombiner().combine(image, text, 1.0).query_vectors, unit(text), atol=1e-6)


@given(seeds, weights, st.floats(2**-10, 2**10), st.floats(2**-10, 2**10))
def test_lengths_play_no_part(seed: int, weight: float, image_scale: float, text_scale: float) -> None:
    image, text = features_of(2, seed=seed), features_of(2, seed=seed + 1)
    scaled = SlerpCombiner().combine(image * np.float32(image_scale), text * np.float32(text_scale), weight)
    plain = SlerpCombiner().combine(image, text, weight)
    np.testing.assert_allclose(scaled.query_vectors, plain.query_vectors, atol=1e-5)


@given(seeds, weights, st.sampled_from([0.0, 1e-9, 1e-7, 1e-6, 1e-4, 1e-2]), st.booleans())
def test_nearly_parallel_and_nearly_opposite_vectors_share_the_angle(
    seed: int, weight: float, distance: float, opposite: bool
) -> None:
    image = features_of(3, seed=seed)
    text = (image + np.float32(distance) * features_of(3, seed=seed + 1)) * np.float32(-1 if opposite else 1)
    answer = SlerpCombiner().combine(image, text, weight).query_vectors.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1, atol=1e-6)
    whole = angles(unit(image), unit(text))
    np.testing.assert_allclose(angles(unit(image), answer), weight * whole, atol=1e-5)
    np.testing.assert_allclose(angles(answer, unit(text)), (1 - weight) * whole, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_exactly_opposite_vectors_get_the_same_circle_every_time(weight: float) -> None:
    image = features_of(3)
    first = SlerpCombiner().combine(image, -image, weight)
    second = SlerpCombiner().combine(image * np.float32(4), -image, weight)
    np.testing.assert_allclose(first.query_vectors, second.query_vectors, atol=1e-6)


def test_vectors_of_one_value_are_taken() -> None:
    one = np.ones((1, 1), np.float32)
    assert SlerpCombiner().combine(one, one).query_vectors.tolist() == [[1.0]]
    assert SlerpCombiner().combine(one, -one, 0.9).query_vectors.tolist() == [[-1.0]]
