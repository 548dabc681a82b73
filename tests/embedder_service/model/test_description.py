"""Preprocessing and activation of weights: as stated, as published, chosen, or refused; never guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedder_service.images.preprocess import Interpolation, ResizeMode
from embedder_service.model.description import (
    agreed_traits,
    flags,
    published_traits,
)
from embedder_service.model.weights import load_model
from embedder_service.served import choices_of
from embedder_service.settings import EmbedderSettings
from embedder_service.traits import Choices, Traits, read_traits
from service_runtime.errors import StartupError
from tests.embedder_service.model.families import PUBLISHED, publish, write_document
from tests.embedder_service.small_model import save

pytestmark = pytest.mark.torch


def state_of(name: str) -> dict[str, torch.Tensor]:
    return load_model(name, "random:3").module.state_dict()


def expected(family: str) -> Traits:
    return read_traits(PUBLISHED[family], PUBLISHED[family].get("quick_gelu", False))


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[str], str]:
    """The path of a checkpoint of an architecture that says nothing of itself."""
    return lambda name: str(save(state_of(name), tmp_path / f"{name}.safetensors"))


@pytest.mark.parametrize("family", list(PUBLISHED))
def test_a_bare_file_has_the_pixels_that_all_tags_of_its_architecture_share(
    family: str, monkeypatch: pytest.MonkeyPatch, bare: Callable[[str], str]
) -> None:
    publish(monkeypatch, "tiny", family)
    loaded = load_model("tiny", bare("tiny"))
    assert loaded.traits == expected(family)
    assert loaded.config["quick_gelu"] is (family == "openai")


@pytest.mark.parametrize(
    ("families", "named", "agreed"),
    [
        (
            ("clip", "openai"),
            ("--quick-gelu true", "--quick-gelu false"),
            ("--mean", "--std", "--resize-mode"),
        ),
        (
            ("siglip", "pe"),
            ("--interpolation bicubic", "--interpolation bilinear"),
            ("--mean", "--quick-gelu"),
        ),
        (("clip", "siglip"), ("--mean 0.5,0.5,0.5", "--std", "--resize-mode squash"), ("--interpolation",)),
        (("clip", "mobile"), ("--mean 0,0,0", "--std 1,1,1", "--interpolation bilinear"), ("--resize-mode",)),
    ],
)
def test_a_bare_file_is_refused_where_published_weights_differ(
    families: tuple[str, ...],
    named: tuple[str, ...],
    agreed: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    bare: Callable[[str], str],
) -> None:
    publish(monkeypatch, "tiny", *families)
    path = bare("tiny")
    with pytest.raises(StartupError) as caught:
        load_model("tiny", path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (path, "open_clip_config.json", *named, *families):
        assert part in message
    for part in agreed:
        assert part not in message


@given(
    stated=st.sets(st.sampled_from([field.name for field in fields(Choices)])),
    family=st.sampled_from(list(PUBLISHED)),
)
def test_a_bare_file_is_served_once_all_that_differs_is_said(stated: set[str], family: str) -> None:
    wanted = expected(family)
    choices = Choices(**{name: getattr(wanted, name) for name in stated})
    published = {name: expected(name) for name in PUBLISHED}
    differs = {
        field.name
        for field in fields(Choices)
        if len({getattr(traits, field.name) for traits in published.values()}) > 1
    }
    if differs <= stated:
        assert agreed_traits(published, choices, {}, of_what="a file") == wanted
    else:
        with pytest.raises(StartupError) as caught:
            agreed_traits(published, choices, {}, of_what="a file")
        for name in differs:
            assert (f"--{name.replace('_', '-')} " in str(caught.value)) is (name not in stated)


def test_the_options_of_a_message_are_those_of_the_service() -> None:
    for family in PUBLISHED:
        settings = EmbedderSettings.load(flags(expected(family)).split())
        assert choices_of(settings).over(expected("clip")) == expected(family)


def test_every_tag_of_open_clip_can_be_read() -> None:
    count = 0
    for name in open_clip.list_models():
        for traits in published_traits(name, open_clip.get_model_config(name)).values():
            assert len(traits.mean) == len(traits.std) == 3
            count += 1
    assert count > 150


def test_pixels_of_a_tag_are_those_of_open_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for family in PUBLISHED:
        publish(monkeypatch, "tiny", family)
        path = save(state_of("tiny"), tmp_path / f"{family}.pt")
        monkeypatch.setattr(open_clip, "download_pretrained", lambda *_, path=path, **__: str(path))
        loaded = load_model("tiny", family)
        assert loaded.traits == expected(family)
        assert loaded.pretrained == family
        chosen = load_model("tiny", family, choices=Choices(mean=(0.25,) * 3))
        assert chosen.traits == replace(expected(family), mean=(0.25,) * 3)


def test_a_download_that_fails_names_the_options_that_the_file_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "tiny", "mobile", "clip")

    def fail(*_: object, **__: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(StartupError) as caught:
        load_model("tiny", "mobile")
    message = str(caught.value)
    assert "cannot be had: no network;" in message
    assert f"--pretrained FILE {flags(expected('mobile'))}" in message
    assert "--mean 0,0,0 --std 1,1,1 --interpolation bilinear --resize-mode shortest" in message
    assert "\n" not in message


def test_a_document_with_the_weights_goes_before_the_tags(
    monkeypatch: pytest.MonkeyPatch, bare: Callable[[str], str], tmp_path: Path
) -> None:
    config = publish(monkeypatch, "tiny", "clip", "openai")
    path = bare("tiny")
    write_document(tmp_path, config | {"quick_gelu": True}, {**PUBLISHED["siglip"], "fill_color": 9})
    loaded = load_model("tiny", path)
    assert loaded.traits == replace(expected("siglip"), quick_gelu=True, fill=9)
    chosen = load_model("tiny", path, choices=Choices(resize_mode=ResizeMode.LONGEST))
    assert chosen.traits.resize_mode is ResizeMode.LONGEST


def test_a_document_without_preprocessing_settles_nothing(
    monkeypatch: pytest.MonkeyPatch, bare: Callable[[str], str], tmp_path: Path
) -> None:
    config = publish(monkeypatch, "tiny", "clip", "siglip")
    path = bare("tiny")
    own = tmp_path / "own.json"
    for config_file in (write_document(tmp_path, config, None), own):
        own.write_text(write_document(tmp_path / "other", config, None).read_text())
        with pytest.raises(StartupError, match=r"--mean .*--resize-mode squash \(as tiny/siglip\)"):
            load_model("any name", path, config_file=config_file)
    with pytest.raises(StartupError, match="differ"):
        load_model("tiny", path)


def test_a_document_of_another_architecture_is_not_mixed_in(
    monkeypatch: pytest.MonkeyPatch, bare: Callable[[str], str], tmp_path: Path
) -> None:
    publish(monkeypatch, "tiny", "clip")
    other = publish(monkeypatch, "other", "clip", "siglip")
    path = bare("tiny")
    write_document(tmp_path, other, PUBLISHED["siglip"])
    with pytest.raises(StartupError, match=r"describes another architecture than tiny.*local-dir:"):
        load_model("tiny", path)


def test_random_weights_keep_the_activation_of_their_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "tiny", "openai")
    assert load_model("tiny", "random").traits == expected("clip")
    publish(monkeypatch, "tiny", "pe")
    assert load_model("tiny", "random").traits == expected("pe")
    publish(monkeypatch, "tiny", "pe", "mobile")
    assert load_model("tiny", "random").traits == expected("clip")


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ({"mean": [0.5, 0.5]}, "mean is"),
        ({"mean": [0.5] * 4}, "one number or three"),
        ({"mean": "grey"}, "mean is"),
        ({"mean": [123.7, 116.3, 103.5]}, "from 0 to 1"),
        ({"mean": [True, True, True]}, "mean is"),
        ({"mean": {}}, "mean is"),
        ({"mean": [float("nan")] * 3}, "from 0 to 1"),
        ({"std": [0, 1, 1]}, "above 0"),
        ({"std": []}, "std is"),
        ({"interpolation": "lanczos"}, "expected bicubic or bilinear"),
        ({"interpolation": 3}, "expected bicubic or bilinear"),
        ({"resize_mode": "stretch"}, "expected shortest or longest or squash"),
        ({"fill_color": 256}, "from 0 to 255"),
        ({"fill_color": [1, 2, 3]}, "from 0 to 255"),
        ({"mode": "L"}, "only RGB"),
    ],
)
def test_values_that_are_not_possible_are_told(preprocess: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_traits(preprocess, False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preprocess", "traits"),
    [
        ({}, {}),
        ({"mean": 0.5, "std": [0.25]}, {"mean": (0.5,) * 3, "std": (0.25,) * 3}),
        ({"mean": None, "size": [256, 256], "unknown": 1}, {}),
        ({"interpolation": "random"}, {}),
        ({"interpolation": "bilinear"}, {"interpolation": Interpolation.BILINEAR}),
    ],
)
def test_what_a_document_leaves_out_is_as_in_open_clip(
    preprocess: dict[str, Any], traits: dict[str, Any]
) -> None:
    assert read_traits(preprocess, False) == replace(expected("clip"), **traits)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (["--mean", "0.5,0.5"], "one number or three"),
        (["--mean", "a"], "one number or three"),
        (["--std", "0"], "above 0"),
        (["--std", "58.4,57.1,57.4"], "above 0 and at most 1"),
        (["--interpolation", "nearest"], "'bicubic' or 'bilinear'"),
        (["--resize-mode", "crop"], "'shortest', 'longest' or 'squash'"),
        (["--quick-gelu", "maybe"], "quick_gelu"),
        (["--preprocessing", "stretch"], "preprocessing"),
    ],
)
def test_options_that_are_not_possible_are_told(argument: list[str], message: str) -> None:
    with pytest.raises(StartupError, match=message) as caught:
        EmbedderSettings.load(argument)
    assert "\n" not in str(caught.value)
