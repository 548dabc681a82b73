"""Sizes of a network, from the shapes of its tensors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes, sizes_from_shapes
from tests.combiner_service.examples import SMALL

widths = st.integers(1, 6000)


@given(st.builds(NetworkSizes, widths, widths, widths))
def test_sizes_are_read_back_from_shapes(sizes: NetworkSizes) -> None:
    assert sizes_from_shapes(sizes.shapes()) == sizes


@pytest.mark.parametrize(
    ("feature_dim", "parameters"),
    [(512, 37_765_633), (640, 59_003_521), (768, 84_960_001), (1024, 151_028_737)],
)
def test_parameter_counts_are_those_of_the_published_layout(feature_dim: int, parameters: int) -> None:
    sizes = NetworkSizes(feature_dim, projection_dim=4 * feature_dim, hidden_dim=8 * feature_dim)
    total = 0
    for shape in sizes.shapes().values():
        count = 1
        for width in shape:
            count *= width
        total += count
    assert total == parameters


@pytest.mark.parametrize("name", list(SMALL.shapes()))
def test_any_missing_tensor_is_named(name: str) -> None:
    shapes = SMALL.shapes()
    del shapes[name]
    with pytest.raises(InvalidCheckpointError, match=f"missing tensors: {name}"):
        sizes_from_shapes(shapes)


def test_unexpected_tensors_are_named_and_long_lists_cut() -> None:
    shapes = SMALL.shapes() | {f"visual.{index}": (1,) for index in range(50)}
    with pytest.raises(InvalidCheckpointError, match=r"unexpected tensors: visual\.0.* and 44 more"):
        sizes_from_shapes(shapes)


@pytest.mark.parametrize("name", list(SMALL.shapes()))
@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (0, 8), (2, 3, 4)])
def test_any_tensor_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidCheckpointError, match=r"has the shape"):
        sizes_from_shapes(SMALL.shapes() | {name: shape})
