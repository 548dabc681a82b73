"""Turns of a query, and images as clients give them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

import cir.turns
from cir.errors import InvalidArgument
from cir.images import Decoder
from cir.search.v1 import search_pb2 as pb
from cir.turns import ImageSource, Turn, encode_image

NOISE = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"any bytes at all")
    for source in (path, str(path), b"any bytes at all", bytearray(b"any bytes at all")):
        assert encode_image(source) == b"any bytes at all"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA"])
def test_pil_images_are_sent_without_loss(mode: str) -> None:
    picture = Image.fromarray(NOISE).convert(mode)
    sent = Image.open(io.BytesIO(encode_image(picture)))
    assert sent.format == "PNG"
    assert np.array_equal(np.asarray(sent.convert("RGBA")), np.asarray(picture.convert("RGBA")))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_modes_that_png_lacks_are_sent_as_rgb(mode: str) -> None:
    picture = Image.new(mode, (4, 4))
    assert Image.open(io.BytesIO(encode_image(picture))).mode == "RGB"


def test_the_orientation_of_a_camera_travels_along() -> None:
    picture = Image.fromarray(NOISE)
    exif = picture.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as photo:
        assert Image.open(io.BytesIO(encode_image(photo))).getexif()[0x0112] == 6


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_transparency_travels_along(mode: str) -> None:
    picture = Image.new("RGBA", (4, 4), (90, 90, 90, 0))
    picture = picture.convert("LA").convert("La") if mode == "La" else picture.convert(mode)
    sent = Image.open(io.BytesIO(encode_image(picture))).convert("RGBA")
    assert sent.getpixel((1, 1))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "white"),
    [
        (np.uint16, 65_535),
        *((np.int32, white) for white in (255, 65_535, 2**31 - 1)),
        *((np.float32, white) for white in (1, 255, 65_535, 1e9)),
    ],
)
def test_deep_greyscale_keeps_its_range(kind: type[np.generic], white: float) -> None:
    levels = np.linspace(0, 1, 256).reshape(16, 16)
    shown = Decoder()(encode_image(Image.fromarray((levels * white).astype(kind))))
    assert np.abs(np.asarray(shown.convert("L")).astype(int) - levels * 255).max() <= 1


def test_big_endian_greyscale_keeps_its_range() -> None:
    levels = np.linspace(0, 65_535, 256).astype(">u2")
    picture = Image.frombytes("I;16B", (16, 16), levels.tobytes())
    shown = np.asarray(Decoder()(encode_image(picture)))
    assert np.array_equal(shown.ravel(), (levels >> 8).astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG"])
def test_an_opened_file_is_sent_upright_once(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "secret place"
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, form, exif=exif)
    content = encode_image(Image.open(buffer))
    assert b"secret" not in content
    upright = Decoder()(buffer.getvalue())
    assert np.array_equal(np.asarray(Decoder()(content)), np.asarray(upright))


def test_a_damaged_pil_image_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).resize((90, 90)).save(buffer, "JPEG")
    picture = Image.open(io.BytesIO(buffer.getvalue()[:-200]))
    with pytest.raises(InvalidArgument, match="cannot be sent") as raised:
        encode_image(picture)
    assert raised.value.reason == "IMAGE_UNREADABLE"


def test_what_cannot_be_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(InvalidArgument, match=r"empty\.jpg is empty") as raised:
        encode_image(empty)
    assert raised.value.reason == "IMAGE_EMPTY"
    with pytest.raises(InvalidArgument, match="no bytes"):
        encode_image(b"")
    with pytest.raises(InvalidArgument, match=r"missing\.jpg cannot be read: No such file"):
        encode_image(tmp_path / "missing.jpg")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        encode_image(tmp_path)
    with pytest.raises(InvalidArgument, match="a int is no image"):
        encode_image(cast("ImageSource", 3))
    monkeypatch.setattr(cir.turns, "MAX_MESSAGE_BYTES", 3)
    large = tmp_path / "large.jpg"
    large.write_bytes(b"1234")
    with pytest.raises(InvalidArgument, match="has 4 bytes, a message at most 3") as raised:
        encode_image(large)
    assert raised.value.reason == "IMAGE_TOO_MANY_BYTES"


def test_each_reference_has_its_field() -> None:
    assert Turn(image=b"abc").message().reference.image == b"abc"
    assert Turn(item="a/b").message().reference.item_id == "a/b"
    assert Turn(features=[1.0, 2.0]).message().reference.features.dimension == 2


def test_a_turn_without_reference_leaves_it_unset() -> None:
    message = Turn(text="in red", liked=["a"], disliked=["b"]).message()
    assert message == pb.Turn(text="in red", liked_item_ids=["a"], disliked_item_ids=["b"])
    assert not message.HasField("reference")
    assert not message.HasField("text_weight")


def test_a_text_weight_of_zero_is_not_the_same_as_none() -> None:
    assert Turn(text="x", text_weight=0.0).message().HasField("text_weight")


def test_a_lone_id_is_one_id() -> None:
    assert list(Turn(liked="abc").message().liked_item_ids) == ["abc"]


def test_two_references_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="this one has image and item"):
        Turn(image=b"abc", item="x").message()
