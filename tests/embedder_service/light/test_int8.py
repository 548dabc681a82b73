"""Linear layers in int8: channels that are far larger than the others cost no precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder_service.light.int8 import Linear, input_ranges, quantize
from service_runtime.openvino_core import core, openvino, precision
from service_runtime.openvino_core import opset13 as ops

WIDTH, ROWS = 256, 8
Array = npt.NDArray[np.float32]

pytestmark = pytest.mark.skipif(
    "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no int8 products",
)


def two_layers(first: Array, last: Array, *, is_transposed: bool = True) -> openvino.Model:
    """Return a model of two products; weights are (outputs, inputs). The last one is never quantised."""
    given_ = ops.parameter([-1, WIDTH], np.float32)
    weight = first if is_transposed else np.ascontiguousarray(first.T)
    hidden = ops.relu(ops.matmul(given_, ops.constant(weight), False, is_transposed))
    return openvino.Model([ops.matmul(hidden, ops.constant(last), False, True)], [given_], "layers")


def run(model: Any, rows: Array, dtype: str) -> Array:
    return np.array(
        core.compile_model(model, "CPU", precision(dtype)).create_infer_request().infer([rows])[0]
    )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sets(st.integers(0, WIDTH - 1), min_size=1, max_size=4),
    factor=st.floats(20, 60),
    is_transposed=st.booleans(),
)
def test_outlying_channels_are_evened_out(
    seed: int, channels: set[int], factor: float, is_transposed: bool
) -> None:
    """As trained weights have them: what reads a channel that is so large is as small."""
    rng = np.random.default_rng(seed)
    rows, first, last = (
        rng.standard_normal(shape, np.float32) for shape in ((ROWS, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH))
    )
    places = sorted(channels)
    rows[:, places] *= np.float32(factor)
    first[:, places] /= np.float32(factor)

    def model() -> openvino.Model:
        return two_layers(first, last, is_transposed=is_transposed)

    exact = run(model(), rows, "float32")
    ranges = input_ranges(model(), [(row[None],) for row in rows])
    assert [len(values) for values in ranges] == [WIDTH]

    def error(found: Sequence[Array] | None) -> float:
        quantised = model()
        quantize(quantised, Linear.ALL, found)
        return float(np.linalg.norm(run(quantised, rows, "int8") - exact) / np.linalg.norm(exact))

    assert error(ranges) < min(0.02, error(None) / 2)


def test_ranges_are_the_largest_values_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, WIDTH), np.float32)
    eye = np.eye(WIDTH, dtype=np.float32)
    (found,) = input_ranges(two_layers(eye, eye), [(row[None],) for row in rows])
    assert np.array_equal(found, np.abs(rows).max(axis=0))


def test_layers_may_read_one_value() -> None:
    rng = np.random.default_rng(1)
    given_, eye = ops.parameter([-1, WIDTH], np.float32), np.eye(WIDTH, dtype=np.float32)
    one, other = (ops.matmul(given_, ops.constant(eye), False, True) for _ in range(2))
    last = ops.matmul(ops.relu(ops.add(one, other)), ops.constant(eye), False, True)
    rows = rng.standard_normal((2, WIDTH), np.float32)
    found = input_ranges(openvino.Model([last], [given_], "layers"), [(row[None],) for row in rows])
    assert len(found) == 2
    assert all(np.array_equal(values, np.abs(rows).max(axis=0)) for values in found)
