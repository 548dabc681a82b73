"""Images as callers have them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import cir.image_source
from cir import requests
from cir.errors import InvalidArgument
from cir.image_source import ImageSource, encode_image
from cir.images import Decoder
from cir.items import ItemWrite
from cir.search.v1 import catalog_pb2, search_pb2

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
    monkeypatch.setattr(cir.image_source, "MAX_MESSAGE_BYTES", 3)
    large = tmp_path / "large.jpg"
    large.write_bytes(b"1234")
    with pytest.raises(InvalidArgument, match="has 4 bytes, a message at most 3") as raised:
        encode_image(large)
    assert raised.value.reason == "IMAGE_TOO_MANY_BYTES"


SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=20).flatmap(
    lambda sides: st.sampled_from([sides, (*sides, 3), (*sides, 4)])
)


@given(arrays.arrays(np.uint8, SHAPES), st.booleans())
def test_arrays_are_sent_without_loss(pixels: np.ndarray, turned: bool) -> None:
    """Of any strides, as a slice or a transposed array has them."""
    if turned:
        pixels = pixels[::-1, ::2]
    sent = Image.open(io.BytesIO(encode_image(pixels)))
    assert (sent.format, sent.mode) == (
        "PNG",
        {3: "RGB", 4: "RGBA"}.get(pixels.shape[-1] * (pixels.ndim == 3), "L"),
    )
    assert np.array_equal(np.asarray(sent), pixels)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((4, 5, 3), np.float32), r"float32 and shape \(4, 5, 3\).*\* 255"),
        (np.zeros((4, 5, 3), np.int64), "int64"),
        (np.zeros((4, 5), bool), "bool"),
        (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\).*moveaxis"),
        (np.zeros((4, 5, 1), np.uint8), r"\(4, 5, 1\)"),
        (np.zeros((4, 5, 2), np.uint8), r"\(4, 5, 2\)"),
        (np.zeros(12, np.uint8), r"\(12,\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"\(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.array([[b"a"]]), "S1"),
    ],
)
def test_other_arrays_are_refused(array: Any, word: str) -> None:
    with pytest.raises(InvalidArgument, match=word) as raised:
        encode_image(array)
    assert raised.value.field == "image"


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/a.jpg",
        "HTTP://example.com/a.jpg",
        "s3://bucket/a.jpg",
        Path("https://example.com/a.jpg"),
    ],
)
def test_urls_are_not_fetched_and_it_is_said(location: ImageSource) -> None:
    with pytest.raises(InvalidArgument, match="URLs are not fetched: download the image"):
        encode_image(location)


def test_other_urls_have_their_own_cure() -> None:
    with pytest.raises(InvalidArgument, match="base64"):
        encode_image("data:image/png;base64," + "A" * 100_000)
    with pytest.raises(InvalidArgument, match="give the file's path"):
        encode_image("file:///a.jpg")
    for path in ("C:/missing.jpg", "a\0b", "no:/url"[1:]):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            encode_image(path)


def test_a_file_whose_name_looks_like_a_url_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "https:").mkdir()
    (tmp_path / "https:" / "a.jpg").write_bytes(b"photo")
    assert encode_image("https://a.jpg") == b"photo"


def test_file_objects_are_read_from_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"xphoto")
    with path.open("rb") as file:
        file.read(1)
        assert encode_image(file) == b"photo"
        with pytest.raises(InvalidArgument, match=r"no bytes left; .*seek\(0\)") as raised:
            encode_image(file)
        assert raised.value.reason == "IMAGE_EMPTY"
    with pytest.raises(InvalidArgument, match="closed file"):
        encode_image(file)
    with path.open() as text, pytest.raises(InvalidArgument, match="binary mode"):
        encode_image(cast("ImageSource", text))
    with path.open("wb") as written, pytest.raises(InvalidArgument, match="cannot be read"):
        encode_image(written)
    monkeypatch.setattr(cir.image_source, "MAX_MESSAGE_BYTES", 3)
    with pytest.raises(InvalidArgument, match="more bytes, a message at most 3") as raised:
        encode_image(io.BytesIO(b"1234"))
    assert raised.value.reason == "IMAGE_TOO_MANY_BYTES"


def test_a_file_object_that_is_awaited_is_refused() -> None:
    class Upload:
        async def read(self, _size: int) -> bytes:
            return b"photo"

    with pytest.raises(InvalidArgument, match="awaited"):
        encode_image(cast("ImageSource", Upload()))


@pytest.mark.parametrize(
    "source", [np.zeros((2, 2, 3), np.uint8), io.BytesIO(b"photo"), Image.new("RGB", (2, 2)), b"photo"]
)
def test_every_door_takes_every_kind(source: Any) -> None:
    def again() -> Any:
        return io.BytesIO(b"photo") if isinstance(source, io.BytesIO) else source

    sent = encode_image(again())
    search = requests.search("shop", image=again()).request
    assert isinstance(search, search_pb2.SearchRequest)
    assert search.turns[0].reference.image == sent
    upsert = requests.upsert("shop", [ItemWrite("a", again())]).request
    assert isinstance(upsert, catalog_pb2.BatchUpsertItemsRequest)
    assert upsert.items[0].content == sent
