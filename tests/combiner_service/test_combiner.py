"""The contract that all combiners keep, each held to the same properties."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from combiner_service.builtin import BUILTIN, ImageCombiner, TextCombiner
from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, Pairs, unit_rows
from combiner_service.cpu_network import CpuNetwork
from combiner_service.errors import (
    InvalidFeaturesError,
    NotFiniteError,
    TextWeightNotTakenError,
    TextWeightOutOfRangeError,
    WrongDimensionError,
)
from combiner_service.network import NetworkCombiner, meaningful_lambdas
from tests.combiner_service.examples import SMALL, features_of, weights_of

pytestmark = pytest.mark.torch


def network_combiner() -> Combiner:
    info = CombinerInfo("combiner/small", "", takes_text_weight=True, dimension=SMALL.feature_dim)
    return NetworkCombiner(info, CpuNetwork(weights_of()))


def ready(combiner: Combiner) -> Callable[[], Combiner]:
    return lambda: combiner


ALL: list[Callable[[], Combiner]] = [*map(ready, BUILTIN), network_combiner]
every_combiner = pytest.mark.parametrize("make", ALL)

# Values of float32 from tiny to large; a row of zeros is refused and has tests of its own.
values = st.floats(-1e4, 1e4, width=32).map(lambda value: np.float32(value))
batches = st.integers(1, 6).flatmap(
    lambda count: st.tuples(
        arrays(np.float32, (count, SMALL.feature_dim), elements=values),
        arrays(np.float32, (count, SMALL.feature_dim), elements=values),
    )
)


@every_combiner
@given(pair=batches, weight=st.none() | st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_answers_are_finite_unit_vectors_or_the_row_is_refused(
    make: Callable[[], Combiner], pair: tuple[Float32, Float32], weight: float | None
) -> None:
    combiner = make()
    if not combiner.info.takes_text_weight:
        weight = None
    try:
        answer = combiner.combine(*pair, weight)
    except NotFiniteError:
        return
    assert answer.query_vectors.dtype == answer.text_weights.dtype == np.float32
    assert answer.query_vectors.shape == pair[0].shape
    assert answer.text_weights.shape == (len(pair[0]),)
    np.testing.assert_allclose(np.linalg.norm(answer.query_vectors, axis=1), 1, atol=1e-5)
    assert ((answer.text_weights >= 0) & (answer.text_weights <= 1)).all()
    if weight is not None:
        np.testing.assert_allclose(answer.text_weights, weight, atol=1e-6)


@every_combiner
@given(
    seed=st.integers(0, 2**16),
    image_length=st.floats(0.01, 100),
    text_length=st.floats(0.01, 100),
    weight=st.floats(0, 1),
)
@settings(max_examples=25, deadline=None)
def test_a_text_weight_moves_the_answer_at_an_even_pace_or_is_refused(
    make: Callable[[], Combiner], seed: int, image_length: float, text_length: float, weight: float
) -> None:
    combiner = make()
    image = features_of(3, seed=seed) * np.float32(image_length)
    text = features_of(3, seed=seed + 1) * np.float32(text_length)
    if not combiner.info.takes_text_weight:
        with pytest.raises(TextWeightNotTakenError):
            combiner.combine(image, text, weight)
        return
    ends, own = (unit_rows(image), unit_rows(text)), unit_rows(combiner.combine(image, text).query_vectors)
    at = combiner.own_weight
    end = ends[weight > at]
    share = (weight - at) / (1 - at) if weight > at else 1 - weight / at
    there = unit_rows(combiner.combine(image, text, weight).query_vectors)
    whole = np.arccos(np.clip((own * end).sum(axis=1), -1, 1))
    gone = np.arccos(np.clip((own * there).sum(axis=1), -1, 1))
    np.testing.assert_allclose(gone, share * whole, atol=2e-3)
    np.testing.assert_allclose(gone + np.arccos(np.clip((there * end).sum(axis=1), -1, 1)), whole, atol=4e-3)


def test_lambda_is_told_where_it_is_a_share_and_nowhere_else() -> None:
    image, text = features_of(200, seed=3), features_of(200, seed=4)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    network = network_combiner()
    alike, uneven = network.combine(image * 3, text * 2), network.combine(image * 30, text * 2)
    assert alike.lambdas is not None
    assert uneven.lambdas is not None
    np.testing.assert_array_equal(alike.lambdas, alike.text_weights)
    assert np.isnan(uneven.lambdas).all()
    saturated = np.array([0.0, 0.005, 0.02, 0.5, 0.98, 0.995, 1.0], np.float32)
    told = meaningful_lambdas(saturated, image[:7], text[:7])
    assert np.isnan(told).tolist() == [True, True, False, False, False, True, True]
    assert all(combiner.combine(image, text).lambdas is None for combiner in BUILTIN)


@every_combiner
@given(seed=st.integers(0, 2**16), count=st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_a_row_does_not_depend_on_the_others(make: Callable[[], Combiner], seed: int, count: int) -> None:
    combiner = make()
    image, text = features_of(count, seed=seed), features_of(count, seed=seed + 1)
    together = combiner.combine(image, text)
    for row in range(count):
        alone = combiner.combine(image[row : row + 1], text[row : row + 1])
        np.testing.assert_allclose(together.query_vectors[row], alone.query_vectors[0], atol=1e-5)
        np.testing.assert_allclose(together.text_weights[row], alone.text_weights[0], atol=1e-5)


@every_combiner
@given(
    seed=st.integers(0, 2**16),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    weight=st.none() | st.floats(0, 1),
    faulty=st.sets(st.integers(0, 5)),
)
@settings(max_examples=25, deadline=None)
def test_calls_combined_at_once_get_what_each_gets_alone(
    make: Callable[[], Combiner], seed: int, counts: list[int], weight: float | None, faulty: set[int]
) -> None:
    combiner = make()
    calls = []
    for index, count in enumerate(counts):
        image, text = features_of(count, seed=seed + index), features_of(count, seed=seed - index - 1)
        if index in faulty:
            image[-1, 0] = np.nan
        # Some calls bring a weight, others leave it to the combiner.
        calls.append(Pairs(image, text, weight if index % 2 and combiner.info.takes_text_weight else None))
    for call, answer in zip(calls, combiner.combine_all(calls), strict=True):
        if isinstance(answer, NotFiniteError):
            with pytest.raises(NotFiniteError) as refused:
                combiner.combine(call.image_features, call.text_features, call.text_weight)
            assert (str(answer), answer.field) == (str(refused.value), refused.value.field)
            continue
        assert isinstance(answer, Combined)
        alone = combiner.combine(call.image_features, call.text_features, call.text_weight)
        np.testing.assert_allclose(answer.query_vectors, alone.query_vectors, atol=1e-5)
        np.testing.assert_allclose(answer.text_weights, alone.text_weights, atol=1e-5)


@every_combiner
def test_input_is_left_as_it_was_and_may_be_read_only(make: Callable[[], Combiner]) -> None:
    image, text = features_of(3), features_of(3, seed=1)
    before = image.copy(), text.copy()
    image.flags.writeable = text.flags.writeable = False
    make().combine(image, text)
    assert np.array_equal(image, before[0])
    assert np.array_equal(text, before[1])


@every_combiner
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_field_and_row(
    make: Callable[[], Combiner], value: float
) -> None:
    text = features_of(4, seed=1)
    text[2, 5] = value
    with pytest.raises(NotFiniteError, match=r"text_features, row 2: NaN or infinity") as refused:
        make().combine(features_of(4), text)
    assert refused.value.field == "text_features"


@every_combiner
def test_zero_vectors_are_refused_with_field_and_row(make: Callable[[], Combiner]) -> None:
    image = features_of(4)
    image[1] = 0
    with pytest.raises(NotFiniteError, match=r"image_features, row 1: all values are zero"):
        make().combine(image, features_of(4, seed=1))


@every_combiner
def test_another_number_of_rows_is_refused(make: Callable[[], Combiner]) -> None:
    with pytest.raises(InvalidFeaturesError, match="3 image features but 2 text features"):
        make().combine(features_of(3), features_of(2))


@every_combiner
def test_another_dimension_in_each_is_refused(make: Callable[[], Combiner]) -> None:
    with pytest.raises(WrongDimensionError, match="8 values, text features 5"):
        make().combine(features_of(2, 8), features_of(2, 5))


@every_combiner
@pytest.mark.parametrize("shape", [(0, 8), (2, 0), (8,), (1, 2, 4)])
def test_what_is_no_matrix_is_refused(make: Callable[[], Combiner], shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidFeaturesError, match="at least one row"):
        make().combine(np.ones(shape, np.float32), np.ones(shape, np.float32))


@every_combiner
@pytest.mark.parametrize("weight", [-0.001, 1.001, np.nan, np.inf, -np.inf])
def test_text_weights_out_of_range_are_refused(make: Callable[[], Combiner], weight: float) -> None:
    with pytest.raises(TextWeightOutOfRangeError, match="from 0"):
        make().combine(features_of(1), features_of(1), weight)


@pytest.mark.parametrize("make", [ImageCombiner, TextCombiner])
def test_image_and_text_take_no_text_weight(make: Callable[[], Combiner]) -> None:
    with pytest.raises(TextWeightNotTakenError, match="leave text_weight out"):
        make().combine(features_of(1), features_of(1), 0.5)
