"""Names of models: what each leads to, and what one line says where it leads nowhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
import pytest
import torch

from embedder_service.model.load import load
from embedder_service.model.weights import load_model
from embedder_service.settings import EmbedderSettings
from embedder_service.traits import read_traits
from service_runtime.errors import StartupError
from tests.embedder_service.model.families import PUBLISHED, publish, write_document
from tests.embedder_service.model.test_tokenizer import WORDS, save_tokenizer
from tests.embedder_service.small_config import CONFIG
from tests.embedder_service.small_model import load_small, save

pytestmark = pytest.mark.torch

SIGLIP = read_traits(PUBLISHED["siglip"], False)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a repository of the Hub holds it: the document, and weights of a usual name."""
    place = tmp_path / "published"
    write_document(place, CONFIG, PUBLISHED["siglip"])
    save(load_small(tmp_path, "random:3").module.state_dict(), place / "open_clip_model.safetensors")
    return place


def cached(cache: Path, repository: str, folder: Path) -> None:
    """Put a folder where a download of a repository would have put it."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / "1234")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1234")


def test_a_folder_has_the_pixels_of_its_document(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (f"local-dir:{folder}", str(folder)):
        loaded = load_model(name, "auto")
        assert loaded.traits == SIGLIP
        assert (loaded.architecture, loaded.pretrained) == (
            "local-dir:published",
            "open_clip_model.safetensors",
        )
    monkeypatch.chdir(folder.parent)
    assert load_model("local-dir:published", "auto").traits == SIGLIP
    assert load_model("published", "auto").traits == SIGLIP
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    theirs = model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in loaded.module.state_dict().items())


def test_a_repository_is_the_same_model_as_its_folder(folder: Path, tmp_path: Path) -> None:
    cached(tmp_path / "cache", "ORG/Some-Name", folder)
    loaded = load_model("hf-hub:ORG/Some-Name", "auto", cache_dir=tmp_path / "cache")
    assert loaded.traits == SIGLIP
    assert loaded.architecture == "hf-hub:ORG/Some-Name"
    names: dict[str, dict[str, Any]] = {
        "hub": {"architecture": "hf-hub:ORG/Some-Name", "weights_cache": tmp_path / "cache"},
        "folder": {"architecture": f"local-dir:{folder}"},
        "file": {
            "architecture": f"local-dir:{folder}",
            "pretrained": str(folder / "open_clip_model.safetensors"),
        },
        "config": {
            "architecture": "any",
            "model_config_file": folder / "open_clip_config.json",
            "pretrained": str(folder / "open_clip_model.safetensors"),
        },
    }
    infos = {
        name: load(EmbedderSettings(device="cpu", dtype="float32", **chosen)).info
        for name, chosen in names.items()
    }
    assert len({info.fingerprint for info in infos.values()}) == 1
    for info in infos.values():
        assert (info.resize_mode, info.preprocessing, list(info.mean)) == ("squash", "clip", [0.5] * 3)


def test_weights_of_ones_own_may_take_the_place_of_those_in_a_folder(folder: Path, tmp_path: Path) -> None:
    own = load_small(tmp_path, "random:9").module.state_dict()
    loaded = load_model(f"local-dir:{folder}", str(save(own, tmp_path / "own.pt")))
    assert torch.equal(loaded.module.state_dict()["visual.proj"], own["visual.proj"])
    assert loaded.traits == SIGLIP
    loaded = load_model(f"local-dir:{folder}", "random:9")
    assert (loaded.pretrained, loaded.traits) == ("random:9", SIGLIP)


def test_auto_takes_what_comes_with_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_model("cir-small", "auto").pretrained == "shipped"
    publish(monkeypatch, "tiny", "siglip")
    path = save(load_model("tiny", "random").module.state_dict(), tmp_path / "siglip.pt")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_, **__: str(path))
    assert load_model("tiny", "auto").pretrained == "siglip"
    publish(monkeypatch, "tiny", "siglip", "pe")
    with pytest.raises(StartupError, match=r"say which weights of tiny .*\(tags: siglip, pe\)"):
        load_model("tiny", "auto")


def empty(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()


def without_document(folder: Path) -> None:
    (folder / "open_clip_config.json").unlink()


def another_config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG | changes, "preprocess_cfg": {}})
    )  # type: ignore[return-value]


def other_preprocessing(**preprocess: Any) -> Callable[[Path], None]:
    return lambda folder: write_document(folder, CONFIG, preprocess)  # type: ignore[return-value]


TEXT = CONFIG["text_cfg"]
VISION = CONFIG["vision_cfg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty, "holds no weights; expected a file such as open_clip_model.safetensors"),
        (without_document, r"open_clip_config\.json cannot be used: .*No such file"),
        (
            other_preprocessing(mean=[0.5, 0.5]),
            r"open_clip_config\.json cannot be used: preprocess_cfg: mean is",
        ),
        (other_preprocessing(std=0), "preprocess_cfg: std is"),
        (other_preprocessing(resize_mode="crop"), "preprocess_cfg: resize_mode is 'crop'"),
        (other_preprocessing(interpolation="nearest"), "preprocess_cfg: interpolation is 'nearest'"),
        (other_preprocessing(mode="L"), "only RGB is served"),
        (another_config(embed_dim=48), r"does not fit the architecture.*\(32, 32\) instead of \(32, 48\)"),
        (another_config(text_cfg=TEXT | {"context_length": 100}), r"\(77, 32\) instead of \(100, 32\)"),
        (another_config(text_cfg=TEXT | {"context_length": "many"}), "cannot be built|context_length"),
        (another_config(text_cfg=TEXT | {"proj_type": "none"}), "unexpected.*text_projection"),
        (another_config(text_cfg=TEXT | {"tokenizer_kwargs": {"clean": "spotless"}}), "tokenizer_kwargs"),
        (
            another_config(text_cfg=TEXT | {"tokenizer_kwargs": {"reduction_mask": "random"}}),
            "reduction_mask",
        ),
        (another_config(text_cfg=TEXT | {"hf_tokenizer_name": "nobody/nothing"}), "put its files"),
        (another_config(vision_cfg=VISION | {"image_size": [32, 64]}), "only squares|does not fit"),
        (another_config(vision_cfg={"timm_model_name": "no_such_tower"}), "cannot be built.*no_such_tower"),
        (another_config(multimodal_cfg={}), "captioning models"),
        (another_config(text_cfg=[]), "must be objects"),
        (another_config(text_cfg=TEXT | {"tokenizer_kwargs": "lower"}), "tokenizer_kwargs of text_cfg must"),
        (another_config(text_cfg=TEXT | {"hf_model_name": True}), "hf_model_name of text_cfg is True"),
        (another_config(text_cfg=TEXT | {"hf_tokenizer_name": "a\nb"}), r"the tokenizer 'a\\nb' cannot be"),
    ],
)
def test_a_folder_that_cannot_be_served_is_told_in_one_line(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(StartupError, match=message) as caught:
        load(EmbedderSettings(architecture=f"local-dir:{folder}", device="cpu"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_tower_without_projection_is_told(tmp_path: Path, tower: str) -> None:
    parts = {
        "image": {"embed_dim": 32, "vision_cfg": VISION | {"width": 64}, "text_cfg": TEXT},
        "text": {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": TEXT | {"proj_type": "none"}},
    }[tower]
    if tower == "image":
        timm = {"timm_model_name": "vit_tiny_patch16_224", "timm_proj": "none", "image_size": 224}
        parts["vision_cfg"] = timm
    write_document(tmp_path / "model", parts, {})
    with pytest.raises(StartupError, match=rf"the {tower} tower of .* it has no projection"):
        load(
            EmbedderSettings(
                architecture=f"local-dir:{tmp_path / 'model'}", pretrained="random", device="cpu"
            )
        )


@pytest.mark.parametrize(
    ("architecture", "pretrained", "message"),
    [
        (
            "hf-hub:ORG/missing",
            "auto",
            r"open_clip_config\.json of hf-hub:ORG/missing cannot be downloaded: .*local-dir:PATH",
        ),
        ("hf-hub:", "auto", "names no repository"),
        ("hf-hub:a/b/c", "auto", "cannot be downloaded"),
        ("local-dir:/no/such/folder", "auto", "folder /no/such/folder does not exist"),
        ("local-dir:", "auto", r"names no folder; expected local-dir:PATH"),
        ("/no/such/folder", "auto", "is not known to open_clip"),
        ("ViT-X-99", "auto", "is not known to open_clip"),
        ("ViT-B-32", "shipped", r"no weights of 'ViT-B-32' are shipped \(there are: cir-small\)"),
        ("cir-small", "openai", r"neither a file, nor a tag of cir-small \(tags: none\)"),
        ("RN50", "/no/such/file.pt", r"neither a file, nor a tag of RN50 \(tags: openai, yfcc15m, cc12m\)"),
    ],
)
def test_names_that_lead_nowhere_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, pretrained: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match=message) as caught:
        load_model(architecture, pretrained, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """A text with a token that the tower does not know would fail in the middle of the model."""
    tokenizer = save_tokenizer(tmp_path / "words")
    names = {"hf_tokenizer_name": "words", "context_length": 16, "pool_type": "last"}
    for size in (15, 16, 17):
        write_document(tmp_path, CONFIG | {"text_cfg": TEXT | names | {"vocab_size": size}}, {})
        settings = EmbedderSettings(
            architecture=f"local-dir:{tmp_path}", pretrained="random", tokenizer=str(tokenizer), device="cpu"
        )
        if size < 5 + len(WORDS):
            with pytest.raises(StartupError, match=r"has 16 tokens, the text tower of .* knows 15"):
                load(settings)
        else:
            assert load(settings).info.context_length == 16


def test_a_tag_has_no_place_beside_a_folder(folder: Path) -> None:
    with pytest.raises(StartupError, match=r"neither a file, nor auto, for the weights in .*published"):
        load_model(f"local-dir:{folder}", "openai")
