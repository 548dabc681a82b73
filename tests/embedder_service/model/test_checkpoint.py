"""Checkpoints as people have them: every usual wrapping gives the same weights, and what is none is "
"described."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder_service.model.checkpoint import find_in_folder, one_line, read_checkpoint
from service_runtime.errors import StartupError
from tests.embedder_service.small_model import load_small, save

pytestmark = pytest.mark.torch

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return load_small(tmp_path_factory.mktemp("small"), "random:3").module.state_dict()


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def compiled_inside(state: State) -> State:
    """As if the transformers alone had been compiled."""
    return {name.replace("transformer.", "transformer._orig_mod."): value for name, value in state.items()}


PREFIXES = ["module.", "_orig_mod.", "model.", "clip."]
HOLDERS = ["state_dict", "model_state_dict", "model", "CLIP"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3),
    holders=st.lists(st.sampled_from(HOLDERS), max_size=2),
    inside=st.booleans(),
)
def test_wrappings_may_lie_in_one_another(
    state: State, tmp_path: Path, prefixes: list[str], holders: list[str], inside: bool
) -> None:
    content: Any = compiled_inside(state) if inside else dict(state)
    for prefix in prefixes:
        content = prefixed(prefix)(content)
    for holder in holders:
        content = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}, holder: content}
    checkpoint = read_checkpoint(save(content, tmp_path / "wrapped.pt"))
    assert same(checkpoint.state, state)
    assert checkpoint.is_openai is ("CLIP" in holders[-1:])


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "_orig_mod.module."]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ".pth"])
def test_a_wrapped_checkpoint_is_the_same_model(
    state: State, tmp_path: Path, prefix: str, suffix: str
) -> None:
    path = save(prefixed(prefix)(state), tmp_path / f"wrapped{suffix}")
    loaded = load_small(tmp_path, str(path))
    assert same(loaded.module.state_dict(), state)


def to_hugging_face(state: State) -> State:
    """The names and shapes of Hugging Face's CLIPModel, as its own conversion script makes them."""
    result: State = {"logit_scale": state["logit_scale"]}
    result["text_projection.weight"] = state["text_projection"].T.contiguous()
    result["visual_projection.weight"] = state["visual.proj"].T.contiguous()
    text, vision = "text_model", "vision_model"
    result[f"{text}.embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    result[f"{text}.embeddings.position_embedding.weight"] = state["positional_embedding"]
    result[f"{text}.embeddings.position_ids"] = torch.arange(len(state["positional_embedding"]))[None]
    result[f"{vision}.embeddings.class_embedding"] = state["visual.class_embedding"]
    result[f"{vision}.embeddings.patch_embedding.weight"] = state["visual.conv1.weight"]
    result[f"{vision}.embeddings.position_embedding.weight"] = state["visual.positional_embedding"]
    for kind in ("weight", "bias"):
        result[f"{text}.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        result[f"{vision}.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        result[f"{vision}.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    parts["attn.out_proj"] = "self_attn.out_proj"
    for tower, prefix in ((text, ""), (vision, "visual.")):
        for number in range(2):
            block, layer = f"{prefix}transformer.resblocks.{number}", f"{tower}.encoder.layers.{number}"
            for kind in ("weight", "bias"):
                for ours, theirs in parts.items():
                    result[f"{layer}.{theirs}.{kind}"] = state[f"{block}.{ours}.{kind}"]
                for name, value in zip("qkv", state[f"{block}.attn.in_proj_{kind}"].chunk(3), strict=True):
                    result[f"{layer}.self_attn.{name}_proj.{kind}"] = value.contiguous()
    return result


def test_weights_by_the_names_of_hugging_face_are_converted(state: State, tmp_path: Path) -> None:
    path = save(to_hugging_face(state), tmp_path / "model.safetensors")
    assert same(load_small(tmp_path, str(path)).module.state_dict(), state)


def test_features_are_those_of_hugging_face(state: State, tmp_path: Path) -> None:
    """The conversion against transformers itself: its own model, saved by itself."""
    transformers = pytest.importorskip("transformers")
    shape = {"num_hidden_layers": 2, "hidden_act": "quick_gelu", "projection_dim": 32}
    config = transformers.CLIPConfig(
        text_config=shape
        | {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 49408}
        | {"eos_token_id": 49407, "bos_token_id": 49406, "max_position_embeddings": 77},
        vision_config=shape
        | {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2}
        | {"image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    torch.manual_seed(5)
    model = transformers.CLIPModel(config).eval()
    path = save(model.state_dict(), tmp_path / "model.safetensors")
    ours: Any = load_small(tmp_path, str(path), quick_gelu=True).module
    images = torch.rand(2, 3, 32, 32)
    tokens = torch.zeros(2, 77, dtype=torch.long)
    tokens[:, 0], tokens[0, 5], tokens[1, 9] = 49406, 49407, 49407
    with torch.no_grad():
        vision = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
        text = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
        np.testing.assert_allclose(ours.encode_image(images), vision, atol=1e-5)
        np.testing.assert_allclose(ours.encode_text(tokens), text, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state | {"text_model.head.weight": torch.zeros(1)},
            r"first.*text_model\.head\.weight",
        ),
        (
            lambda state: state | {"vision_model.head.probe": torch.zeros(1)},
            "another model than its CLIPModel",
        ),
        (
            lambda state: {
                k: v for k, v in state.items() if not k.endswith("layers.0.self_attn.k_proj.bias")
            },
            "another model than its CLIPModel",
        ),
    ],
)
def test_other_models_of_hugging_face_are_told_apart(
    state: State, tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    path = save(change(to_hugging_face(state)), tmp_path / "model.safetensors")
    with pytest.raises(StartupError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "nothing"),
        ([torch.zeros(1)], "a list"),
        (torch.zeros(2), "a Tensor"),
        ({"epoch": 3, "loss": 0.5}, r"'epoch' \(int\), 'loss' \(float\)"),
        ({"state_dict": {}}, r"'state_dict' \(0 entries\)"),
        ({"generator": {"weight": torch.zeros(1)}, "step": 2}, r"'generator' \(1 entries\)"),
        ({"weight": torch.zeros(1), "note": "mine"}, r"'weight' \(tensor\), 'note' \(str\)"),
        ({3: torch.zeros(1)}, r"3 \(tensor\)"),
    ],
)
def test_a_file_without_weights_is_described(tmp_path: Path, content: Any, found: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(StartupError, match=f"holds no state dict.*found .*{found}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_an_object_that_is_not_built_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trained.pt"
    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(StartupError, match=r"it holds an object of argparse\.Namespace"):
        read_checkpoint(path)


def test_weights_of_another_kind_are_described(state: State, tmp_path: Path) -> None:
    resnet = {f"layer{number}.0.conv1.weight": torch.zeros(1) for number in range(1, 5)}
    path = save(resnet | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "resnet.pt")
    with pytest.raises(StartupError) as caught:
        load_small(tmp_path, str(path))
    assert re.search(r"found 6 tensors: .*fc\.weight \(1\)", str(caught.value))
    assert "layer1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_longer_context_than_the_weights_have_is_told(state: State, tmp_path: Path) -> None:
    path = save(dict(state), tmp_path / "clip.pt")
    text = {"context_length": 100, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    with pytest.raises(StartupError, match=r"positional_embedding: \(77, 32\) instead of \(100, 32\)"):
        load_small(tmp_path, str(path), text_cfg=text)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["open_clip_model.safetensors", "model.safetensors", "a.pt"], "open_clip_model.safetensors"),
        (["open_clip_pytorch_model.bin", "optimizer.pt"], "open_clip_pytorch_model.bin"),
        (["epoch_3.pt", "notes.txt"], "epoch_3.pt"),
    ],
)
def test_the_weights_of_a_folder_are_found(tmp_path: Path, names: list[str], found: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert find_in_folder(tmp_path).name == found


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no weights"),
        (["readme.md"], "holds no weights"),
        (["a.pt", "b.pt"], r"several .*\(a\.pt, b\.pt\)"),
    ],
)
def test_a_folder_that_does_not_say_its_weights_is_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(StartupError, match=message):
        find_in_folder(tmp_path)


@given(st.lists(st.text("ab", min_size=1, max_size=120), max_size=12).map(" ".join))
def test_a_long_line_of_an_error_is_cut_after_a_word(text: str) -> None:
    line = one_line(ValueError(text + "\nmore"))
    words = text.strip()
    if 0 < len(words) <= 300:
        assert line == words
    elif words:
        shown, _, rest = line.rpartition(" ...")
        assert rest == ""
        assert words.startswith(shown)
        assert len(shown) <= 300
        assert words[len(shown)] == " " or " " not in words[:300]
