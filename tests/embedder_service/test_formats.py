"""The closed list of formats, and what first bytes say."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import EpsImagePlugin, Image

from cir.common.v1 import errors_pb2 as pb
from embedder_service import decode, formats
from embedder_service.decode import Decoder
from embedder_service.formats import FORMATS, looks_like_a_picture, webp_canvas
from service_runtime.errors import ServiceError
from tests.embedder_service.pictures import encode, picture

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
UNWANTED = {"EPS", "PSD", "ICO", "ICNS", "PDF", "TGA", "PPM", "PCX", "SGI", "DDS", "FLI", "XPM", "WMF"}


def test_the_list_is_closed() -> None:
    assert set(FORMATS) <= {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "HEIF"}
    assert not set(FORMATS) & UNWANTED


@pytest.mark.parametrize("form", ["ICO", "ICNS", "TGA", "PPM", "PCX", "SGI", "DDS", "MSP", "XBM"])
def test_other_formats_of_pillow_are_not_opened(form: str) -> None:
    content = encode(picture(32, 32, "1" if form in ("MSP", "XBM") else "RGB"), form)
    # Pillow itself would read it.
    assert Image.open(io.BytesIO(content)).size
    with pytest.raises(ServiceError) as caught:
        Decoder()(content)
    assert caught.value.reason == pb.IMAGE_UNREADABLE
    assert "JPEG, PNG, WEBP" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        EPS,
        b"\xc5\xd0\xd3\xc6" + b"\x20\0\0\0" * 6 + EPS,
        b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x09\0\0\0\x09\0\x08\0\3" + bytes(64),
        b"%PDF-1.7\n1 0 obj\n",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_no_program_is_started_for_any_bytes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **options: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    for opening in (b"", b"\xff\xd8\xff\xe0", b"II*\0", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ServiceError) as caught:
            Decoder()(opening + content)
        assert caught.value.reason in (pb.IMAGE_UNREADABLE, pb.IMAGE_TRUNCATED)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_told_by_its_first_bytes(form: str) -> None:
    assert looks_like_a_picture(encode(picture(32, 32), form))


def test_the_canvas_of_a_webp_file_is_read_from_its_header() -> None:
    animated = encode(picture(33, 21), "WEBP", save_all=True, append_images=[picture(33, 21, seed=1)])
    assert webp_canvas(animated) == (33, 21)
    assert webp_canvas(encode(picture(33, 21), "WEBP")) == (0, 0)
    assert webp_canvas(animated[:29]) == (0, 0)


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_without_its_extra_heic_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(picture(32, 32), "HEIF")
    without = tuple(name for name in FORMATS if name != "HEIF")
    monkeypatch.setattr(decode, "FORMATS", without)
    monkeypatch.setattr(formats, "FORMATS", without)
    with pytest.raises(ServiceError, match=r"lacks its extra \[heif\]") as caught:
        Decoder()(content)
    assert caught.value.reason == pb.IMAGE_UNREADABLE


def test_a_missing_heif_package_is_no_fault() -> None:
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from embedder_service.formats import FORMATS\n"
        "assert 'HEIF' not in FORMATS and 'JPEG' in FORMATS"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
