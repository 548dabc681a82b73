"""Pixels against the published transform, composed of torchvision directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from cir.images import Decoder, ImageError
from embedder_service.images.preprocess import (
    Interpolation,
    PaddingMode,
    Preprocessor,
    ResizeMode,
    prepare_with,
)
from tests.embedder_service.sample_images import encode, sample_image

pytestmark = pytest.mark.torch


def published(image: Image.Image, mode: PaddingMode, size: int, ratio: float) -> Any:
    """TargetPad or SquarePad, Resize, CenterCrop, RGB, as the paper's code composes them."""
    width, height = image.size
    longest = max(width, height)
    side = {PaddingMode.TARGETPAD: longest / ratio, PaddingMode.SQUAREPAD: longest, PaddingMode.CLIP: 0}[mode]
    if mode is not PaddingMode.TARGETPAD or longest / min(width, height) >= ratio:
        across = max(int((side - width) / 2), 0)
        down = max(int((side - height) / 2), 0)
        image = functional.pad(image, [across, down, across, down], 0, "constant")
    tail = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
        ]
    )
    return np.asarray(tail(image).convert("RGB"))


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    size=st.sampled_from([7, 32, 48]),
    mode=st.sampled_from(list(PaddingMode)),
    ratio=st.sampled_from([1.0, 1.25, 1.5, 2.0]),
    pixels=st.sampled_from(["RGB", "RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "I;16", "YCbCr", "I", "F"]),
    seed=st.integers(0, 5),
)
def test_pixels_are_those_of_the_published_transform(
    width: int, height: int, size: int, mode: PaddingMode, ratio: float, pixels: str, seed: int
) -> None:
    image = sample_image(width, height, pixels, seed)
    ours = Preprocessor(mode, size, ratio)(image)
    assert ours.dtype == np.uint8
    assert ours.shape == (size, size, 3)
    np.testing.assert_array_equal(ours, published(image, mode, size, ratio))


def published_by_open_clip(image: Image.Image, size: int, mode: str, interpolation: str, fill: int) -> Any:
    """What open_clip prepares for evaluation, before normalisation."""
    transform = image_transform(
        size, False, (0.0,) * 3, (1.0,) * 3, resize_mode=mode, interpolation=interpolation, fill_color=fill
    )
    return (transform(image) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@settings(max_examples=400)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    size=st.sampled_from([7, 32, 48]),
    mode=st.sampled_from(list(ResizeMode)),
    interpolation=st.sampled_from(list(Interpolation)),
    fill=st.sampled_from([0, 0, 1, 127, 255]),
    pixels=st.sampled_from(["RGB", "RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "I;16", "YCbCr", "I", "F"]),
    seed=st.integers(0, 5),
)
def test_pixels_are_those_of_open_clip_in_every_mode(
    width: int,
    height: int,
    size: int,
    mode: ResizeMode,
    interpolation: Interpolation,
    fill: int,
    pixels: str,
    seed: int,
) -> None:
    # Of a long side resized nothing may be left of the short one: there open_clip fails.
    assume(mode is not ResizeMode.LONGEST or round(min(width, height) * size / max(width, height)) > 0)
    image = sample_image(width, height, pixels, seed)
    preprocessor = Preprocessor(
        PaddingMode.CLIP, size, resize_mode=mode, interpolation=interpolation, fill=fill
    )
    ours = preprocessor(image)
    assert ours.dtype == np.uint8
    assert ours.shape == (size, size, 3)
    np.testing.assert_array_equal(ours, published_by_open_clip(image, size, mode, interpolation, fill))


@pytest.mark.parametrize("size", [(400, 600), (533, 400), (900, 1200), (256, 256), (225, 224), (1, 1)])
@pytest.mark.parametrize("mode", list(ResizeMode))
@pytest.mark.parametrize("interpolation", list(Interpolation))
def test_pixels_of_open_clip_at_the_size_of_models(
    size: tuple[int, int], mode: ResizeMode, interpolation: Interpolation
) -> None:
    image = sample_image(*size)
    ours = Preprocessor(PaddingMode.CLIP, 256, resize_mode=mode, interpolation=interpolation)(image)
    np.testing.assert_array_equal(ours, published_by_open_clip(image, 256, mode, interpolation, 0))


@pytest.mark.parametrize("size", [(1, 900), (2000, 3)])
@pytest.mark.parametrize("mode", list(ResizeMode))
@pytest.mark.parametrize("padding", list(PaddingMode))
def test_every_mode_takes_thin_images(size: tuple[int, int], mode: ResizeMode, padding: PaddingMode) -> None:
    assert Preprocessor(padding, 32, resize_mode=mode)(Image.new("RGB", size)).shape == (32, 32, 3)


@pytest.mark.parametrize("size", [(400, 533), (533, 400), (900, 1200), (224, 224), (225, 224), (1, 1)])
@pytest.mark.parametrize("mode", list(PaddingMode))
def test_pixels_at_the_size_of_clip(size: tuple[int, int], mode: PaddingMode) -> None:
    image = sample_image(*size)
    np.testing.assert_array_equal(Preprocessor(mode, 224)(image), published(image, mode, 224, 1.25))


def test_padding_is_black_and_truncated() -> None:
    white = Image.new("RGB", (100, 201), (255, 255, 255))
    pixels = Preprocessor(PaddingMode.TARGETPAD, 32)(white)
    # 201 / 1.25 = 160.8: int(60.8 / 2) = 30 on each side, 160 in all.
    assert pixels[16, 0].tolist() == [0, 0, 0]
    assert pixels[16, 16].tolist() == [255, 255, 255]


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1)])
@pytest.mark.parametrize("mode", [PaddingMode.SQUAREPAD, PaddingMode.TARGETPAD, PaddingMode.CLIP])
def test_an_image_that_would_explode_is_refused(size: tuple[int, int], mode: PaddingMode) -> None:
    with pytest.raises(ImageError, match="crop it first") as caught:
        Preprocessor(mode, 224)(Image.new("L", size))
    assert caught.value.reason == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize("size", [(1, 2_000), (3_000, 2)])
@pytest.mark.parametrize("mode", list(PaddingMode))
def test_a_thin_image_is_served(size: tuple[int, int], mode: PaddingMode) -> None:
    assert Preprocessor(mode, 32)(Image.new("RGB", size)).shape == (32, 32, 3)


def test_a_pixel_format_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(ImageError, match="pixel format La") as caught:
        Preprocessor(size=32)(sample_image(20, 20, "La"))
    assert caught.value.reason == "IMAGE_UNREADABLE"


def test_what_an_image_would_become_is_known_before_it_is_decoded() -> None:
    preprocessor = Preprocessor(PaddingMode.TARGETPAD, 224)
    preprocessor.check_size(8000, 8000)
    with pytest.raises(ImageError, match="becomes 51199999 x 64000000"):
        preprocessor.check_size(1, 64_000_000)
    prepare = prepare_with(Decoder(max_pixels=10**9), preprocessor)
    with pytest.raises(ImageError, match="crop it first"):
        prepare(encode(Image.new("1", (1, 20_000)), "PNG"))
    assert prepare(encode(sample_image(30, 40), "PNG")).shape == (224, 224, 3)


def test_enlarging_a_thin_image_is_counted_as_memory() -> None:
    assert Preprocessor(PaddingMode.CLIP, 224).memory_bytes(1, 2_000) > 300_000_000
    assert Preprocessor(PaddingMode.TARGETPAD, 224).memory_bytes(8_000, 8_000) < 10_000_000
