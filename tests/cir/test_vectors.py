from __future__ import annotations

import numpy as np
import pytest

from cir.common.v1 import vectors_pb2 as pb
from cir.errors import InvalidArgument
from cir.vectors import (
    Features,
    NoDirectionError,
    VectorError,
    from_batch,
    normalize,
    pack,
    split_lengths,
    to_batch,
)


def test_features_keep_values_and_fingerprint() -> None:
    features = Features(np.array([1.5, -2.0, 3.0], np.float32), "clip-1")
    back = from_batch(to_batch(features))
    assert back is not None
    assert back.model_fingerprint == "clip-1"
    assert np.array_equal(np.asarray(back), features.values)


def test_arrays_and_lists_are_features_of_an_unknown_model() -> None:
    for values in ([1.0, 2.0], np.array([1.0, 2.0]), np.array([[1.0, 2.0]])):
        batch = to_batch(values)
        assert (batch.dimension, batch.model_fingerprint) == (2, "")


@pytest.mark.parametrize("values", [[], [[1.0], [2.0]], np.zeros((2, 2, 2))])
def test_anything_but_one_vector_is_refused(values: object) -> None:
    with pytest.raises(InvalidArgument, match="expected one vector") as raised:
        to_batch(values)  # type: ignore[arg-type]
    assert raised.value.reason == "WRONG_DIMENSION"


def test_words_are_no_features() -> None:
    with pytest.raises(InvalidArgument, match="not numbers"):
        to_batch(["a"])


def test_an_answer_without_features_has_none_and_one_with_two_is_damaged() -> None:
    assert from_batch(pb.VectorBatch()) is None
    with pytest.raises(VectorError, match="the answer has 2"):
        from_batch(pack(np.zeros((2, 3), np.float32)))


def test_vectors_get_length_one_whatever_their_size() -> None:
    rows = np.array([[3e30, 4e30], [3e-30, 0], [0, -2]], np.float32)
    np.testing.assert_allclose(normalize(rows), [[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], atol=1e-6)
    assert normalize(rows).dtype == np.float32
    np.testing.assert_array_equal(normalize(rows[0]), normalize(rows)[0])


def test_a_vector_of_zeros_has_no_direction_and_is_named() -> None:
    rows = np.array([[1, 0], [0, 0]], np.float32)
    with pytest.raises(NoDirectionError, match="vector 1") as raised:
        normalize(rows)
    assert raised.value.row == 1
    units, lengths = split_lengths(rows)
    np.testing.assert_array_equal(units, rows)
    np.testing.assert_array_equal(lengths, [1, 0])
