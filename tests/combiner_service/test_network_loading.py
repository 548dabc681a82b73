"""Networks as they are loaded: devices, and weights within the bound to float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

from combiner_service import network_loading
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.combiner import CombinerInfo
from combiner_service.cpu_network import CpuNetwork
from combiner_service.network_loading import LoadOptions, choose_device, load_network
from combiner_service.network_spec import NetworkSizes, WeightType
from service_runtime import gpu
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
    answer = combiner.combine(image, text)
    wanted, _ = combine_by_formulae(weights_of(SIZES), image, text)
    assert (answer.query_vectors * wanted).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("weight_type", [WeightType.BFLOAT16, WeightType.INT8])
def test_weights_are_narrowed_within_the_bound_and_kept_exact_below_it(
    path: Path, weight_type: WeightType
) -> None:
    narrow = load_network(path, INFO, LoadOptions(weight_type=weight_type))
    assert isinstance(narrow.runtime, CpuNetwork)
    assert narrow.runtime.weight_type is weight_type
    exact = load_network(path, INFO, LoadOptions(weight_type=weight_type, min_cosine=1.1))
    assert isinstance(exact.runtime, CpuNetwork)
    assert exact.runtime.weight_type is WeightType.FLOAT32
    image, text = features_of(3, 64), features_of(3, 64, seed=1)
    wanted, _ = combine_by_formulae(weights_of(SIZES), image, text)
    np.testing.assert_allclose(exact.combine(image, text).query_vectors, wanted, atol=1e-5)


def test_outliers_that_int8_cannot_hold_keep_the_network_exact(tmp_path: Path) -> None:
    weights = weights_of(SIZES)
    generator = np.random.default_rng(5)
    # A few inputs of each row are some thousand times the rest, which one scale a row cannot tell apart.
    for name in ("output_layer.weight", "combiner_layer.weight"):
        weights[name][:, generator.choice(weights[name].shape[1], 2)] *= 4000
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights, CheckpointMetadata())
    served = load_network(path, INFO, LoadOptions(weight_type=WeightType.INT8, min_cosine=0.999))
    image, text = features_of(50, 64), features_of(50, 64, seed=1)
    wanted, _ = combine_by_formulae(weights, image, text)
    answer = served.combine(image, text)
    assert (answer.query_vectors * wanted).sum(axis=1).min() > 0.999


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "_DRIVERS", (tmp_path,))
    assert [choose_device(name) for name in ("cpu", "auto", "cuda", "cuda:0")] == [
        *("cpu", "cuda", "cuda", "cuda:0")
    ]
    with pytest.raises(ValueError, match="cuda:1 is not there; torch sees 1 CUDA devices"):
        choose_device("cuda:1")
    monkeypatch.setattr(gpu, "_DRIVERS", (tmp_path / "none",))
    assert choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="use cpu or auto"):
        choose_device("cuda")
    for module in (gpu, network_loading):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(gpu, "_DRIVERS", (tmp_path,))
    assert choose_device("auto") == "cpu"
    with pytest.raises(ValueError, match="device cuda needs torch"):
        choose_device("cuda")
