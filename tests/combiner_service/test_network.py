"""The network against the paper's formulae in numpy, and sizes from the shapes of its tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service.errors import InvalidCheckpointError
from combiner_service.network import CombinerNetwork
from combiner_service.network_spec import NetworkSizes, sizes_from_shapes
from tests.combiner_service.examples import SMALL, combine_by_formulae, features_of, weights_of

pytestmark = pytest.mark.torch

sizes_strategy = st.builds(NetworkSizes, st.integers(1, 48), st.integers(1, 64), st.integers(1, 96))
text_weights = st.none() | st.floats(0, 1)


@given(sizes_strategy, st.integers(1, 17), st.integers(0, 2**16), text_weights)
@settings(max_examples=80, deadline=None)
def test_output_equals_the_formulae_evaluated_in_numpy(
    sizes: NetworkSizes, count: int, seed: int, text_weight: float | None
) -> None:
    weights = weights_of(sizes, seed)
    image = features_of(count, sizes.feature_dim, seed)
    text = features_of(count, sizes.feature_dim, seed + 1)
    network = CombinerNetwork.from_weights(weights)

    query, scalar = network(torch.from_numpy(image), torch.from_numpy(text), text_weight)

    expected_query, expected_scalar = combine_by_formulae(weights, image, text, text_weight)
    np.testing.assert_allclose(query.numpy(), expected_query, atol=1e-5)
    np.testing.assert_allclose(scalar.numpy(), expected_scalar, atol=1e-5)


def test_output_equals_the_formulae_at_a_published_feature_width() -> None:
    sizes = NetworkSizes(feature_dim=640, projection_dim=512, hidden_dim=1024)
    weights = weights_of(sizes)
    image, text = features_of(32, 640), features_of(32, 640, seed=1)
    query, scalar = CombinerNetwork.from_weights(weights)(torch.from_numpy(image), torch.from_numpy(text))
    expected_query, expected_scalar = combine_by_formulae(weights, image, text)
    np.testing.assert_allclose(query.numpy(), expected_query, atol=1e-5)
    np.testing.assert_allclose(scalar.numpy(), expected_scalar, atol=1e-5)


def test_lambda_weights_the_text() -> None:
    weights = {name: torch.zeros_like(tensor) for name, tensor in weights_of().items()}
    weights["dynamic_scalar.3.bias"] = torch.tensor([50.0])
    image, text = torch.from_numpy(features_of(3)), torch.from_numpy(features_of(3, seed=1))
    query, scalar = CombinerNetwork.from_weights(weights)(image, text)
    torch.testing.assert_close(query, torch.nn.functional.normalize(text, dim=-1))
    torch.testing.assert_close(scalar, torch.ones(3))


def test_state_dict_has_exactly_the_published_names() -> None:
    state = CombinerNetwork(SMALL).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == SMALL.shapes()


def test_dropout_acts_in_training_only() -> None:
    network = CombinerNetwork.from_weights(weights_of())
    image, text = torch.from_numpy(features_of(4)), torch.from_numpy(features_of(4, seed=1))
    assert torch.equal(network(image, text)[0], network(image, text)[0])
    network.train()
    assert not torch.equal(network(image, text)[0], network(image, text)[0])


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = weights_of()
    weights["output_layer.bias"] = torch.zeros(3)
    with pytest.raises(InvalidCheckpointError, match=r"output_layer\.bias"):
        CombinerNetwork.from_weights(weights)


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
