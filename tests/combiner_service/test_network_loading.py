"""Networks as they are loaded: devices, narrow weights, and the layers that hold them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from combiner_service.combiner import CombinerInfo
from combiner_service.network import CombinerNetwork
from combiner_service.network_loading import LoadOptions, choose_device, load_network
from combiner_service.network_spec import NetworkSizes, WeightType
from combiner_service.quantize import Bfloat16Linear, Int8Linear, quantize, smallest_cosine
from tests.combiner_service.examples import combine_by_formulae, features_of, save_published, weights_of

pytestmark = pytest.mark.torch

SIZES = NetworkSizes(feature_dim=64, projection_dim=128, hidden_dim=192)
INFO = CombinerInfo("combiner/a", "", takes_text_weight=True, dimension=64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_published(tmp_path / "a.pt", weights_of(SIZES))


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("weight_type", list(WeightType))
@pytest.mark.parametrize("max_threads", [0, 1, 2])
def test_a_network_is_served_as_its_file_says_whatever_the_options(
    path: Path, device: str, weight_type: WeightType, max_threads: int
) -> None:
    combiner = load_network(path, INFO, LoadOptions(device, weight_type, 0.999, max_threads))
    image, text = features_of(4, 64), features_of(4, 64, seed=1)
    for weight in (None, 0.25):
        answer = combiner.combine(image, text, weight)
        wanted, _ = combine_by_formulae(weights_of(SIZES), image, text, weight)
        assert (answer.query_vectors * wanted).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    ("weight_type", "layer"), [(WeightType.BFLOAT16, Bfloat16Linear), (WeightType.INT8, Int8Linear)]
)
def test_weights_are_narrowed_within_the_bound_and_kept_exact_below_it(
    path: Path, weight_type: WeightType, layer: type
) -> None:
    narrow = load_network(path, INFO, LoadOptions(weight_type=weight_type))
    assert isinstance(narrow._network.combiner_layer, layer)
    exact = load_network(path, INFO, LoadOptions(weight_type=weight_type, min_cosine=1.0))
    assert isinstance(exact._network.combiner_layer, torch.nn.Linear)
    image, text = features_of(3, 64), features_of(3, 64, seed=1)
    wanted, _ = combine_by_formulae(weights_of(SIZES), image, text)
    np.testing.assert_allclose(exact.combine(image, text).query_vectors, wanted, atol=1e-5)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [choose_device(name) for name in ("cpu", "auto", "cuda", "cuda:0")] == [
        *("cpu", "cuda", "cuda", "cuda:0")
    ]
    with pytest.raises(ValueError, match="cuda:1 is not there; torch sees 1 CUDA devices"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="use cpu or auto"):
        choose_device("cuda")


MEDIUM = NetworkSizes(feature_dim=64, projection_dim=128, hidden_dim=192)
narrow_types = pytest.mark.parametrize("weight_type", [WeightType.BFLOAT16, WeightType.INT8])


@narrow_types
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_narrow_weights_answer_within_the_stated_bound(weight_type: WeightType, rows: int) -> None:
    weights = weights_of(MEDIUM)
    network = quantize(CombinerNetwork.from_weights(weights), weight_type)
    image, text = features_of(rows, MEDIUM.feature_dim), features_of(rows, MEDIUM.feature_dim, seed=1)
    with torch.inference_mode():
        query, scalar = network(torch.from_numpy(image), torch.from_numpy(text))
    wanted, wanted_scalar = combine_by_formulae(weights, image, text)
    cosines = (query.double().numpy() * wanted).sum(axis=1)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(scalar.numpy(), wanted_scalar, atol=0.02)


@narrow_types
def test_the_measured_cosine_is_near_one_and_the_exact_network_is_left_as_it_was(
    weight_type: WeightType,
) -> None:
    exact = CombinerNetwork.from_weights(weights_of(MEDIUM))
    assert smallest_cosine(exact, exact) == pytest.approx(1, abs=1e-9)
    assert 0.999 < smallest_cosine(exact, quantize(exact, weight_type)) < 1
    assert exact.combiner_layer.weight.dtype == torch.float32
    assert smallest_cosine(exact, CombinerNetwork.from_weights(weights_of(MEDIUM))) == pytest.approx(1)


def test_layers_that_int8_does_not_take_stay_exact() -> None:
    exact = CombinerNetwork.from_weights(weights_of())
    assert smallest_cosine(exact, quantize(exact, WeightType.INT8)) == pytest.approx(1, abs=1e-9)


def test_another_network_is_far_away() -> None:
    first, second = (CombinerNetwork.from_weights(weights_of(MEDIUM, seed)) for seed in (0, 1))
    assert smallest_cosine(first, second) < 0.99


both = pytest.mark.parametrize("narrow", [Bfloat16Linear, Int8Linear])


def linear_of(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs)


@both
@pytest.mark.parametrize("rows", [1, 3, 63, 64, 65])
@pytest.mark.parametrize(("inputs", "outputs"), [(640, 64), (64, 192), (128, 256)])
def test_products_are_those_of_float32_to_a_hundredth(
    narrow: type[Bfloat16Linear | Int8Linear], rows: int, inputs: int, outputs: int
) -> None:
    exact = linear_of(inputs, outputs)
    features = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        wanted, got = exact(features), narrow(exact)(features)
    assert got.dtype == torch.float32
    assert got.shape == wanted.shape
    assert float((got - wanted).norm() / wanted.norm()) < 0.01


def test_int8_keeps_rows_of_very_different_sizes_apart() -> None:
    exact = linear_of(64, 64)
    with torch.no_grad():
        exact.weight[0] *= 1e-4
        exact.weight[1] *= 1e4
        exact.weight[2] = 0
        exact.bias.zero_()
    features = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, got = exact(features), Int8Linear(exact)(features)
    for row in range(2):
        assert float((got[:, row] - wanted[:, row]).norm() / wanted[:, row].norm()) < 0.02
    assert (got[:, 2] == 0).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(640, 33), (40, 64), (7, 5), (8, 12)])
def test_int8_refuses_sizes_that_its_product_would_read_beyond(inputs: int, outputs: int) -> None:
    layer = linear_of(inputs, outputs)
    assert not Int8Linear.takes(layer)
    with pytest.raises(ValueError, match="does not fit int8 blocks"):
        Int8Linear(layer)


@pytest.mark.parametrize(("inputs", "outputs"), [(640, 33), (7, 5)])
def test_bfloat16_takes_any_size(inputs: int, outputs: int) -> None:
    exact = linear_of(inputs, outputs)
    features = torch.randn(5, inputs, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        wanted, got = exact(features), Bfloat16Linear(exact)(features)
    assert float((got - wanted).norm() / wanted.norm()) < 0.01


def test_weights_take_half_and_a_quarter_of_the_memory() -> None:
    exact = linear_of(640, 64)
    bytes_of = {t: t(exact).weight.nbytes for t in (Bfloat16Linear, Int8Linear)}
    assert bytes_of[Bfloat16Linear] * 2 == bytes_of[Int8Linear] * 4 == exact.weight.nbytes
