"""The network in torch against the paper's formulae in numpy, and against the one that serves on CPUs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service.cpu_network import CpuNetwork
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes
from combiner_service.torch_network import CombinerNetwork, TorchRuntime
from tests.combiner_service.examples import SMALL, combine_by_formulae, features_of, weights_of

pytestmark = pytest.mark.torch

sizes_strategy = st.builds(NetworkSizes, st.integers(1, 48), st.integers(1, 64), st.integers(1, 96))


@given(sizes_strategy, st.integers(1, 17), st.integers(0, 2**16))
@settings(max_examples=80, deadline=None)
def test_output_equals_the_formulae_evaluated_in_numpy(sizes: NetworkSizes, count: int, seed: int) -> None:
    weights = weights_of(sizes, seed)
    image = features_of(count, sizes.feature_dim, seed)
    text = features_of(count, sizes.feature_dim, seed + 1)
    network = CombinerNetwork.from_weights(weights)

    query, scalar = network(torch.from_numpy(image), torch.from_numpy(text))

    expected_query, expected_scalar = combine_by_formulae(weights, image, text)
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
    weights = {name: np.zeros_like(array) for name, array in weights_of().items()}
    weights["dynamic_scalar.3.bias"] = np.array([50.0], np.float32)
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
    weights["output_layer.bias"] = np.zeros(3, np.float32)
    with pytest.raises(InvalidCheckpointError, match=r"output_layer\.bias"):
        CombinerNetwork.from_weights(weights)


@given(sizes_strategy, st.integers(0, 2**16), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_both_runtimes_answer_alike(sizes: NetworkSizes, seed: int, count: int) -> None:
    weights = weights_of(sizes, seed)
    image, text = features_of(count, sizes.feature_dim, seed), features_of(count, sizes.feature_dim, seed + 1)
    answers = [
        runtime(image, text)
        for runtime in (CpuNetwork(weights), TorchRuntime(CombinerNetwork.from_weights(weights)))
    ]
    for light, torchs in zip(*answers, strict=True):
        np.testing.assert_allclose(light, torchs, atol=1e-5)
