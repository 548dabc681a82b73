import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from combiner_service.errors import NotFiniteError
from combiner_service.simple import ImageCombiner, SumCombiner, TextCombiner
from tests.combiner_service.examples import features_of

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


@given(seeds, st.floats(0, 1))
def test_sum_weights_the_raw_features(seed: int, weight: float) -> None:
    image, text = features_of(5, seed=seed), features_of(5, seed=seed + 1)
    answer = SumCombiner().combine(image, text, weight)
    expected = unit((1 - weight) * image.astype(np.float64) + weight * text.astype(np.float64))  # type: ignore[arg-type]
    np.testing.assert_allclose(answer.query_vectors, expected, atol=1e-6)


@given(seeds)
def test_sum_ends_at_image_and_text(seed: int) -> None:
    image, text = features_of(5, seed=seed), features_of(5, seed=seed + 1)
    combiner = SumCombiner()
    np.testing.assert_array_equal(
        combiner.combine(image, text, 0.0).query_vectors, ImageCombiner().combine(image, text).query_vectors
    )
    np.testing.assert_array_equal(
        combiner.combine(image, text, 1.0).query_vectors, TextCombiner().combine(image, text).query_vectors
    )


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
