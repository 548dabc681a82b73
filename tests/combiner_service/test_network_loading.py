from pathlib import Path

import numpy as np
import pytest
import torch

from combiner_service.combiner import CombinerInfo
from combiner_service.network_loading import LoadOptions, chosen_device, load_network
from combiner_service.network_sizes import NetworkSizes
from combiner_service.reduced_linear import Bfloat16Linear, Int8Linear
from combiner_service.weight_type import WeightType
from tests.combiner_service.examples import evaluate, features_of, save_published, weights_of

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
        wanted, _ = evaluate(weights_of(SIZES), image, text, weight)
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
    wanted, _ = evaluate(weights_of(SIZES), image, text)
    np.testing.assert_allclose(exact.combine(image, text).query_vectors, wanted, atol=1e-5)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [chosen_device(name) for name in ("cpu", "auto", "cuda", "cuda:0")] == [
        *("cpu", "cuda", "cuda", "cuda:0")
    ]
    with pytest.raises(ValueError, match="cuda:1 is not there; torch sees 1 CUDA devices"):
        chosen_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="use cpu or auto"):
        chosen_device("cuda")
