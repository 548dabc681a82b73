"""The closed list of formats, the endings of their files and their first bytes."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image

from cir.images.formats import FORMATS, IMAGE_SUFFIXES, SUFFIXES, format_of
from tests.embedder_service.sample_images import encode, sample_image


def test_the_list_is_closed() -> None:
    assert set(FORMATS) <= set(SUFFIXES)
    assert not set(FORMATS) & {"EPS", "PSD", "ICO", "ICNS", "PDF", "TGA", "PPM", "PCX", "SGI", "DDS", "WMF"}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_told_by_its_first_bytes(form: str) -> None:
    assert format_of(encode(sample_image(32, 32), form)) == form


def test_every_ending_that_the_image_library_has_for_a_format_is_listed() -> None:
    Image.init()
    known = {ending for ending, form in Image.EXTENSION.items() if form in (*FORMATS, "MPO", "DIB")}
    assert known <= IMAGE_SUFFIXES


def test_other_files_have_no_format() -> None:
    assert format_of(b"") == ""
    assert format_of(b"%!PS-Adobe-3.0") == ""
    assert format_of(b"\0\0\0\x18ftypqt  ") == ""
    assert format_of(encode(sample_image(8, 8), "ICO")) == ""


def test_a_heic_file_is_told_from_an_avif_file() -> None:
    for form in {"AVIF", "HEIF"} & set(FORMATS):
        content = encode(sample_image(32, 32), form)
        assert format_of(content) == form
        assert Image.open(io.BytesIO(content), formats=FORMATS).format == form


@pytest.mark.service
def test_a_missing_heif_package_is_no_fault() -> None:
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from cir.images import FORMATS, IMAGE_SUFFIXES\n"
        "assert 'HEIF' not in FORMATS and 'JPEG' in FORMATS and '.heic' in IMAGE_SUFFIXES"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
