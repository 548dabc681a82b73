"""8-bit layers: near to float32, and the same whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder_service.host import read_cpu_flags
from embedder_service.model.clip import ClipModel
from embedder_service.model.int8 import Int8Linear, input_levels, quantize
from embedder_service.model.precision import verify_dtype
from embedder_service.probe import Int8Layers, probe_features, probe_images, smallest_cosine
from service_runtime.errors import StartupError
from tests.embedder_service.small_model import load_small

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
TEXTS = ["", "a red dress", "is longer, has a belt and no sleeves"]


LEVELS = input_levels(read_cpu_flags())


def test_inputs_use_the_range_that_the_cpu_bears() -> None:
    assert input_levels(frozenset({"avx2"})) == 63
    assert input_levels(frozenset({"avx2", "avx_vnni"})) == 63
    assert input_levels(frozenset({"avx512_vnni"})) == 127


@pytest.mark.parametrize("levels", sorted({63, LEVELS}))
def test_a_layer_is_near_to_its_float_twin(levels: int) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 40)
    values = torch.randn(5, 7, 96) * torch.tensor([0.01, 1, 100, 1, 1]).view(5, 1, 1) + 0.5
    with torch.inference_mode():
        expected = linear(values)
        found = Int8Linear(linear.weight, linear.bias, levels)(values)
    # Small tokens lose nothing to large ones next to them.
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_what_lies_next_to_a_token_does_not_change_it() -> None:
    torch.manual_seed(1)
    linear = torch.nn.Linear(32, 16)
    layer = Int8Linear(linear.weight, linear.bias, 63)
    token, giant = torch.randn(1, 32), 1e4 * torch.randn(3, 32)
    with torch.inference_mode():
        assert torch.equal(layer(torch.cat([giant, token]))[3:], layer(token))


def test_constant_tokens_give_what_they_give_in_float() -> None:
    linear = torch.nn.Linear(16, 8)
    layer = Int8Linear(linear.weight, linear.bias, 63)
    with torch.inference_mode():
        for level in (0.0, -3.0, 1e-30):
            values = torch.full((2, 16), level)
            torch.testing.assert_close(layer(values), linear(values), atol=1e-5, rtol=1e-5)


def test_batches_do_not_change_features(tmp_path: Path) -> None:
    model = ClipModel(load_small(tmp_path), CPU, torch.int8)
    pixels = probe_images(model.image_size)
    alone = np.concatenate([model.encode_images(row[None]) for row in pixels])
    assert smallest_cosine(alone, model.encode_images(pixels)) >= 1 - 1e-6
    texts = np.concatenate([model.encode_texts([text]) for text in TEXTS])
    assert smallest_cosine(texts, model.encode_texts(TEXTS)) >= 1 - 1e-6


@pytest.mark.parametrize("layers", list(Int8Layers))
def test_fewer_layers_and_the_model_itself_is_left_alone(tmp_path: Path, layers: Int8Layers) -> None:
    loaded = load_small(tmp_path)
    before = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    reduced = quantize(loaded.module, frozenset(), layers)
    attention = {
        name: type(part).__name__ for name, part in reduced.named_modules() if name.endswith(".attn")
    }
    is_float = {name: kind == "MultiheadAttention" for name, kind in attention.items()}
    expected: Callable[[str], bool] = {
        Int8Layers.ALL: lambda name: False,
        Int8Layers.IMAGE_AND_TEXT_MLPS: lambda name: not name.startswith("visual."),
        Int8Layers.MLPS: lambda name: True,
    }[layers]
    assert is_float == {name: expected(name) for name in attention}
    assert len(attention) == 4
    after = loaded.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("custom_text", [False, True])
def test_features_keep_the_bound_that_is_stated(tmp_path: Path, custom_text: bool) -> None:
    loaded = load_small(tmp_path, custom_text=custom_text)
    trued = verify_dtype(loaded, CPU, torch.int8, 0.99)
    assert trued.model.dtype is torch.int8
    exact = ClipModel(load_small(tmp_path, custom_text=custom_text), CPU, torch.float32)
    measured = smallest_cosine(probe_features(trued.model), probe_features(exact))
    assert 0.99 <= trued.cosine == pytest.approx(measured, abs=1e-6)
    assert trued.int8_layers in list(Int8Layers)


def test_layers_are_given_up_until_the_bound_is_kept(tmp_path: Path) -> None:
    loaded = load_small(tmp_path)
    exact = probe_features(ClipModel(load_small(tmp_path), CPU, torch.float32))
    cosines = {
        layers: smallest_cosine(probe_features(ClipModel(loaded, CPU, torch.int8, layers)), exact)
        for layers in Int8Layers
    }
    assert cosines[Int8Layers.ALL] < cosines[Int8Layers.MLPS]
    trued = verify_dtype(loaded, CPU, torch.int8, cosines[Int8Layers.MLPS] - 1e-7)
    assert trued.int8_layers != Int8Layers.ALL
    refused = verify_dtype(loaded, CPU, torch.int8, 1.0)
    assert (refused.model.dtype, refused.refused_dtype) == (torch.float32, "int8")
    assert refused.refused_cosine == pytest.approx(max(cosines.values()), abs=1e-6)


def test_models_without_such_layers_are_told() -> None:
    with pytest.raises(StartupError, match="this model has none"):
        quantize(torch.nn.Linear(2, 2), frozenset())


def test_other_devices_are_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="runs on the CPU only"):
        ClipModel(load_small(tmp_path), torch.device("meta"), torch.int8)


def test_a_torch_without_the_kernels_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(StartupError, match="no int8 kernels"):
        quantize(load_small(tmp_path).module, frozenset())
