"""Headers: sizes as the decoders find them, and bounds that hold for every file that is called bounded."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cir.images.formats import FORMATS
from cir.images.header import is_sound, read_header, webp_size
from tests.embedder_service.sample_images import encode, jpeg, sample_image
from tests.robustness.hostile_images import damage, files

SOUND = files()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(33, 21), (1, 1), (300, 7)])
def test_the_size_is_read_from_the_header(form: str, size: tuple[int, int]) -> None:
    header = read_header(encode(sample_image(*size), form))
    assert header.format == form
    if form in ("AVIF", "HEIF"):
        # Coded in whole blocks.
        assert header.width >= size[0]
        assert header.height >= size[1]
    else:
        assert (header.width, header.height) == size
    assert header.bounded == (form in ("JPEG", "PNG", "WEBP"))
    assert header.memory_bytes >= header.image_bytes >= size[0] * size[1]


def test_scans_are_counted() -> None:
    assert read_header(jpeg()).scans == 1
    assert 6 <= read_header(encode(sample_image(64, 64), "JPEG", progressive=True)).scans <= 12


def test_a_draft_takes_less_memory() -> None:
    content = jpeg(1600, 1600)
    assert read_header(content, draft_size=200).image_bytes * 64 == read_header(content).image_bytes


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"save_all": True}])
def test_the_canvas_of_a_webp_file_is_read_from_its_header(options: dict[str, object]) -> None:
    frames = {"append_images": [sample_image(33, 21, seed=1)]} if "save_all" in options else {}
    content = encode(sample_image(33, 21), "WEBP", **options, **frames)
    assert webp_size(content) == (33, 21)
    assert webp_size(content[:20]) == (0, 0)


def test_exif_data_of_a_camera_is_sound_and_repeated_values_are_not() -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description" * 20, 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    assert is_sound(content)
    assert is_sound(b"")
    assert is_sound(content[:9])
    many = b"II*\0\x08\0\0\0\x90\x01" + b"\x0e\x01\x07\0\0\x40\0\0\x08\0\0\0" * 400 + bytes(16_384)
    assert not is_sound(many)


@given(st.integers(0, 2**32))
def test_any_bytes_have_a_header(seed: int) -> None:
    content = damage(SOUND, random.Random(seed))
    header = read_header(content)
    assert min(header.width, header.height, header.memory_bytes, header.seconds) >= 0
    if not header.bounded:
        return
    try:
        with Image.open(io.BytesIO(content), formats=[header.format]) as image:
            width, height = image.size
    except Exception:
        return  # refused when it is opened: nothing is decoded
    assert width * height <= header.width * header.height
