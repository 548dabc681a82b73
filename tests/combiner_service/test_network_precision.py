import numpy as np
import pytest
import torch

from combiner_service.network import CombinerNetwork
from combiner_service.network_precision import reduced, smallest_cosine
from combiner_service.network_sizes import NetworkSizes
from combiner_service.weight_type import WeightType
from tests.combiner_service.examples import evaluate, features_of, weights_of

MEDIUM = NetworkSizes(feature_dim=64, projection_dim=128, hidden_dim=192)
narrow_types = pytest.mark.parametrize("weight_type", [WeightType.BFLOAT16, WeightType.INT8])


@narrow_types
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_narrow_weights_answer_within_the_stated_bound(weight_type: WeightType, rows: int) -> None:
    weights = weights_of(MEDIUM)
    network = reduced(CombinerNetwork.from_weights(weights), weight_type)
    image, text = features_of(rows, MEDIUM.feature_dim), features_of(rows, MEDIUM.feature_dim, seed=1)
    with torch.inference_mode():
        query, scalar = network(torch.from_numpy(image), torch.from_numpy(text))
    wanted, wanted_scalar = evaluate(weights, image, text)
    cosines = (query.double().numpy() * wanted).sum(axis=1)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(scalar.numpy(), wanted_scalar, atol=0.02)


@narrow_types
def test_the_measured_cosine_is_near_one_and_the_exact_network_is_left_as_it_was(
    weight_type: WeightType,
) -> None:
    exact = CombinerNetwork.from_weights(weights_of(MEDIUM))
    assert smallest_cosine(exact, exact) == pytest.approx(1, abs=1e-9)
    assert 0.999 < smallest_cosine(exact, reduced(exact, weight_type)) < 1
    assert exact.combiner_layer.weight.dtype == torch.float32
    assert smallest_cosine(exact, CombinerNetwork.from_weights(weights_of(MEDIUM))) == pytest.approx(1)


def test_layers_that_int8_does_not_take_stay_exact() -> None:
    exact = CombinerNetwork.from_weights(weights_of())
    assert smallest_cosine(exact, reduced(exact, WeightType.INT8)) == pytest.approx(1, abs=1e-9)


def test_another_network_is_far_away() -> None:
    first, second = (CombinerNetwork.from_weights(weights_of(MEDIUM, seed)) for seed in (0, 1))
    assert smallest_cosine(first, second) < 0.99
