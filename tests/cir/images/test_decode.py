"""Decoding: the closed list of formats, orientation, transparency, deep greyscale, limits."""

from __future__ import annotations

import io
import random
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from cir.images import formats
from cir.images.decode import Decoder, ImageError
from cir.images.formats import FORMATS
from cir.images.upright import flatten, to_eight_bits
from tests.embedder_service.sample_images import encode, jpeg, png_header, sample_image


@pytest.mark.parametrize("form", ["ICO", "ICNS", "TGA", "PPM", "PCX", "SGI", "DDS", "MSP", "XBM"])
def test_other_formats_of_pillow_are_not_opened(form: str) -> None:
    content = encode(sample_image(32, 32, "1" if form in ("MSP", "XBM") else "RGB"), form)
    # Pillow itself would read it.
    assert Image.open(io.BytesIO(content)).size
    with pytest.raises(ImageError) as caught:
        Decoder()(content)
    assert caught.value.reason == "IMAGE_UNREADABLE"
    assert "JPEG, PNG, WEBP" in str(caught.value)


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_without_its_extra_heic_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(sample_image(32, 32), "HEIF")
    without = tuple(name for name in FORMATS if name != "HEIF")
    monkeypatch.setattr(formats, "FORMATS", without)
    with pytest.raises(ImageError, match=r"extra \[heif\] is not installed") as caught:
        Decoder()(content)
    assert caught.value.reason == "IMAGE_UNREADABLE"


def reason_of(content: bytes, decoder: Decoder = Decoder()) -> str:
    with pytest.raises(ImageError) as caught:
        decoder(content)
    return caught.value.reason


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
        pytest.param("AVIF", "RGB", marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="no AVIF here")),
    ],
)
def test_formats_are_read_as_they_are(form: str, mode: str) -> None:
    image = sample_image(33, 21, mode)
    decoded = Decoder()(encode(image, form))
    assert decoded.size == (33, 21)
    assert decoded.mode == mode
    if form in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(np.asarray(decoded.convert("RGB")), np.asarray(image.convert("RGB")))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    for form in ("GIF", "WEBP"):
        content = encode(frames[0], form, save_all=True, append_images=frames[1:], **_lossless(form))
        assert Decoder()(content).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


def _lossless(form: str) -> dict[str, object]:
    return {"lossless": True} if form == "WEBP" else {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_a_switch(orientation: int) -> None:
    image = sample_image(24, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(image, "PNG", exif=exif)
    turned = Decoder(orient=True)(content)
    assert turned.size == ((10, 24) if orientation > 4 else (24, 10))
    # A mark in the upper left corner ends where the orientation says.
    assert np.array_equal(np.asarray(Decoder(orient=False)(content)), np.asarray(image))
    expected = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }[orientation](np.asarray(image))
    np.testing.assert_array_equal(np.asarray(turned), expected)


def test_damaged_exif_does_not_cost_the_image() -> None:
    content = bytearray(jpeg())
    segment = b"\xff\xe1\x00\x10Exif\0\0" + b"MM\0*\xff\xff\xff\xff"
    content[2:2] = segment
    assert Decoder()(bytes(content)).size == (60, 80)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_flattened_or_dropped(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0)).convert(mode)
    content = encode(image, "PNG")
    flat = Decoder(background=(200, 100, 50))(content)
    assert flat.mode == "RGB"
    assert flat.getpixel((0, 0)) == (200, 100, 50)
    dropped = Decoder(background=None)(content)
    assert dropped.mode == mode
    np.testing.assert_array_equal(np.asarray(dropped), np.asarray(image))


def test_a_transparent_palette_colour_is_flattened() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    content = encode(image, "PNG", transparency=1)
    assert Decoder()(content).convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert Decoder(background=None)(content).convert("RGB").getpixel((0, 0)) == (9, 9, 9)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    image = sample_image(20, 20, "RGBA")
    image.putalpha(255)
    assert Decoder()(encode(image, "PNG")).mode == "RGBA"


def test_sixteen_bit_greyscale_is_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    decoded = Decoder()(encode(Image.fromarray(levels), "PNG"))
    assert decoded.mode == "L"
    np.testing.assert_array_equal(np.asarray(decoded), (levels >> 8).astype(np.uint8))


def test_draft_decoding_keeps_enough_pixels() -> None:
    decoded = Decoder(draft_size=64)(jpeg(800, 1000))
    assert 64 <= min(decoded.size) < 800


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"this is no image", "IMAGE_UNREADABLE"),
        (b"\0" * 500, "IMAGE_UNREADABLE"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "IMAGE_UNREADABLE"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "IMAGE_UNREADABLE"),
        (b"\xff\xd8\xff", "IMAGE_TRUNCATED"),
        (b"\x89PNG\r\n", "IMAGE_TRUNCATED"),
        (jpeg()[:-300], "IMAGE_TRUNCATED"),
        (encode(sample_image(60, 60), "PNG")[:-40], "IMAGE_TRUNCATED"),
        (encode(sample_image(60, 60), "WEBP")[:-40], "IMAGE_TRUNCATED"),
        (png_header(100, 100), "IMAGE_TRUNCATED"),
        (png_header(60_000, 60_000), "IMAGE_TOO_MANY_PIXELS"),
        (png_header(8_001, 8_000), "IMAGE_TOO_MANY_PIXELS"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    assert reason_of(content) == reason


def test_limits_are_the_decoders_own() -> None:
    content = jpeg(60, 80)
    assert Decoder(max_bytes=len(content), max_pixels=4800)(content).size == (60, 80)
    assert reason_of(content, Decoder(max_bytes=len(content) - 1)) == "IMAGE_TOO_MANY_BYTES"
    assert reason_of(content, Decoder(max_pixels=4799)) == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_mutated_files_are_decoded_or_refused_and_nothing_else(form: str) -> None:
    original = encode(sample_image(40, 30), form)
    chance = random.Random(form)
    decoder = Decoder(max_pixels=1_000_000)
    for _ in range(150):
        content = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(1, len(content)) :]
        try:
            decoder(bytes(content))
        except ImageError as error:
            assert error.reason.startswith("IMAGE_")  # noqa: PT017


def test_no_warning_of_pillow_escapes() -> None:
    truncated_exif = bytearray(jpeg())
    truncated_exif[2:2] = b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Decoder()(bytes(truncated_exif))
        Decoder(max_pixels=10**12, background=None)(encode(Image.new("1", (10_000, 9_500)), "PNG"))
    assert seen == []


RAMP = np.linspace(0, 1, 256, dtype=np.float64).reshape(16, 16)


@pytest.mark.parametrize(
    "levels",
    [
        (RAMP * 65_535).astype(np.uint16),
        (RAMP * 65_535).astype(np.int32),
        RAMP.astype(np.float32),
        (RAMP * 255).astype(np.float32),
        (RAMP * 65_535).astype(np.float32),
    ],
    ids=["16 bits", "32 bits", "floating point to 1", "to 255", "to 65535"],
)
def test_the_whole_range_is_kept(levels: np.ndarray) -> None:
    scaled = to_eight_bits(Image.fromarray(levels))
    assert scaled.mode == "L"
    assert np.abs(np.asarray(scaled).astype(int) - RAMP * 255).max() <= 1


def test_small_levels_in_a_wide_type_are_eight_bits_already() -> None:
    image = Image.fromarray((RAMP * 255).astype(np.int32))
    assert to_eight_bits(image) is image


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
        (np.array([[-100, 0, 155]], np.int32), [0, 72, 183]),
        (np.array([[-(2**31), 0, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 5e8, 1e9]], np.float32), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, -np.inf, np.inf, 2.0e5, 1.0e5]], np.float32), [0, 0, 255, 255, 128]),
        (np.array([[np.nan, np.inf]], np.float32), [0, 255]),
    ],
    ids=["bright", "negative", "all of 32 bits", "bright floats", "signed floats", "not finite", "no number"],
)
def test_levels_beyond_the_usual_range_are_scaled_as_well(levels: np.ndarray, expected: list[int]) -> None:
    assert np.asarray(to_eight_bits(Image.fromarray(levels))).tolist() == [expected]


def test_unsigned_integers_of_32_bits_have_no_sign() -> None:
    levels = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    content = bytearray(encode(Image.fromarray(levels.view(np.int32)), "TIFF"))
    place = content.index(struct.pack("<HHIHH", 339, 3, 1, 2, 0))
    content[place : place + 12] = struct.pack("<HHIHH", 339, 3, 1, 1, 0)
    assert np.asarray(Decoder()(bytes(content))).tolist() == [[0, 128, 255]]


def test_an_image_of_eight_bits_is_left_alone() -> None:
    image = Image.new("RGB", (3, 3))
    assert to_eight_bits(image) is image
    assert flatten(image, (1, 2, 3)) is image


def test_half_transparent_pixels_are_mixed_with_the_ground() -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert flatten(image, (255, 255, 255)).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)
