"""Hostile and damaged image files, and files that would start a program: refused, in bounded memory."""

from __future__ import annotations

import io
import random
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, PngImagePlugin

from cir.images.decode import Decoder, ImageError
from cir.images.formats import FORMATS
from embedder_service.images.preprocess import Preprocessor
from tests.embedder_service.sample_images import PHOTOS, encode, sample_image

BOMB = zlib.compress(bytes(200_000_000), 1)
PNG = encode(sample_image(20, 20), "PNG")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    """A good PNG with chunks between its header and its pixels."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def tiff(**tags: int) -> bytes:
    """A 10 x 10 TIFF with the given tags, whose pixels are 64 bytes of nothing."""
    numbers = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262}
    numbers |= {"samples": 277, "rows": 278, "strip": 273, "strip_bytes": 279}
    numbers |= {"tile_width": 322, "tile_height": 323, "tile": 324, "tile_bytes": 325}
    values = {"width": 10, "height": 10, "bits": 8, "compression": 5, "photometric": 1, "samples": 1} | tags
    entries = sorted((numbers[name], value) for name, value in values.items())
    fields = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4 + 64)


def many_directories() -> bytes:
    """A TIFF of 50,000 directories, each naming the next."""
    directories = [struct.pack("<HHHIII", 1, 256, 4, 1, 9, 8 + 18 * (i + 1)) for i in range(50_000)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories)


def gif_with_screen(width: int, height: int) -> bytes:
    content = bytearray(encode(sample_image(9, 9, "P"), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def webp_with_canvas(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = encode(sample_image(9, 9), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


HOSTILE = {
    "zTXt": (png_with(chunk(b"zTXt", b"k\0\0" + BOMB)), "IMAGE_TRUNCATED"),
    "iTXt": (png_with(chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB)), "IMAGE_TRUNCATED"),
    "iCCP": (png_with(chunk(b"iCCP", b"k\0\0" + BOMB)), "IMAGE_TRUNCATED"),
    "many zTXt": (
        png_with(*(chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(1_000_000))) for i in range(99))),
        "IMAGE_TRUNCATED",
    ),
    "TIFF tile": (
        tiff(tile_width=40_000, tile_height=40_000, tile=160, tile_bytes=64),
        "IMAGE_TOO_MANY_PIXELS",
    ),
    "TIFF strip": (tiff(rows=2**31, strip=140, strip_bytes=2**31 - 1), "IMAGE_TRUNCATED"),
    "TIFF size": (tiff(width=100_000, height=100_000), "IMAGE_TOO_MANY_PIXELS"),
    "TIFF directories": (many_directories(), "IMAGE_TRUNCATED"),
    "GIF screen": (gif_with_screen(65_535, 65_535), "IMAGE_TOO_MANY_PIXELS"),
    "WebP canvas": (webp_with_canvas(16_383, 16_383), "IMAGE_TOO_MANY_PIXELS"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_a_reason(name: str) -> None:
    content, reason = HOSTILE[name]
    with pytest.raises(ImageError) as caught:
        Decoder()(content)
    assert caught.value.reason == reason


@pytest.mark.service
def test_hostile_files_take_no_memory(tmp_path: Path) -> None:
    # In a process of its own, whose peak is not that of other tests.
    for number, (content, _) in enumerate(HOSTILE.values()):
        (tmp_path / str(number)).write_bytes(content)
    program = (
        "import pathlib, resource, sys\n"
        "from cir.images.decode import Decoder, ImageError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n"
        "        Decoder()(path.read_bytes())\n"
        "    except ImageError:\n"
        "        pass\n"
        "print((peak() - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(done.stdout) < 200, f"{done.stdout} MiB"


@pytest.mark.parametrize(
    "content",
    [
        png_with(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(3_000_000)))),
        png_with(chunk(b"iCCP", b"k\0\0no zlib")),
        png_with(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
        PNG[:-12] + chunk(b"zTXt", b"k\0\0" + BOMB) + PNG[-12:],
        encode(sample_image(20, 20), "JPEG", icc_profile=b"x" * 300_000),
        encode(sample_image(20, 20), "JPEG", exif=b"Exif\0\0" + b"II*\0\x08\0\0\0" + bytes(60_000)),
        encode(sample_image(20, 20), "JPEG", progressive=True),
        encode(sample_image(20, 20), "MPO", save_all=True, append_images=[sample_image(20, 20, seed=1)]),
        encode(sample_image(20, 20), "PNG", save_all=True, append_images=[sample_image(20, 20, seed=1)]),
        encode(sample_image(20, 20, "I;16"), "TIFF"),
        encode(Image.fromarray(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)), "TIFF"),
        encode(sample_image(20, 20, "LA"), "TIFF"),
        encode(sample_image(20, 20, "1"), "TIFF", compression="group4"),
        encode(sample_image(20, 20), "TIFF", compression="jpeg"),
    ],
    ids=[
        *("large profile", "damaged profile", "damaged EXIF", "text after the pixels", "odd JPEG profile"),
        *(
            "huge EXIF",
            "progressive",
            "MPO",
            "APNG",
            "16-bit TIFF",
            "float TIFF",
            "LA TIFF",
            "fax",
            "JPEG TIFF",
        ),
    ],
)
def test_odd_images_are_read(content: bytes) -> None:
    decoded = Decoder()(content)
    assert decoded.size == (20, 20)
    assert Preprocessor(size=32)(decoded).shape == (32, 32, 3)


def test_an_inverted_cmyk_jpeg_keeps_its_colours() -> None:
    # Pillow writes what Adobe does: inverted, with its marker.
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in content
    red, green, blue = np.asarray(Decoder()(content).convert("RGB"))[8, 8]
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_heic_is_read_and_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.new("RGB", (64, 32), "blue"), "HEIF", exif=exif)
    decoded = Decoder()(content)
    # pillow-heif turns what the container says, and clears the tag.
    assert np.asarray(decoded)[5, 5, 2] > 200
    with pytest.raises(ImageError) as caught:
        Decoder()(content[: len(content) // 2])
    assert caught.value.reason in ("IMAGE_TRUNCATED", "IMAGE_UNREADABLE")
    with pytest.raises(ImageError) as caught:
        Decoder(max_pixels=2047)(content)
    assert caught.value.reason == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (1, 20_000), (20_000, 1), (3, 9000)])
def test_extreme_sides_are_served_or_refused(size: tuple[int, int]) -> None:
    decoded = Decoder()(encode(sample_image(*size), "PNG"))
    assert decoded.size == size
    for preprocess in (Preprocessor(size=32, max_pixels=1_000_000), Preprocessor(size=32)):
        try:
            assert preprocess(decoded).shape == (32, 32, 3)
        except ImageError as error:
            assert error.reason == "IMAGE_TOO_MANY_PIXELS"  # noqa: PT017


def test_memory_that_cannot_be_had_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    for owner, name in ((Image, "open"), (PngImagePlugin.PngImageFile, "load")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            with pytest.raises(MemoryError):
                Decoder()(PNG)


def originals() -> list[bytes]:
    """Real photos where they are, and one drawn file of every format that is read."""
    photos = sorted(PHOTOS.glob("*.jpg"))[:300:100] if PHOTOS.is_dir() else []
    drawn = [encode(sample_image(40, 30), form) for form in FORMATS]
    real = [photo.read_bytes() for photo in photos]
    with Image.open(io.BytesIO(real[0] if real else drawn[0])) as photo:
        small = photo.convert("RGB").resize((60, 80))
    return real + drawn + [encode(small, form) for form in FORMATS]


ORIGINALS = originals()


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, len(ORIGINALS) - 1),
    seed=st.integers(0, 2**32),
    edits=st.integers(1, 12),
    near_the_start=st.booleans(),
)
def test_mutated_photos_are_decoded_or_refused_and_nothing_else(
    which: int, seed: int, edits: int, near_the_start: bool
) -> None:
    chance = random.Random(seed)
    content = bytearray(ORIGINALS[which])
    for _ in range(edits):
        # Headers hold what decoders trust; most of a file is pixels.
        place = chance.randrange(min(600, len(content)) if near_the_start else len(content))
        match chance.randrange(4):
            case 0:
                content[place] = chance.randrange(256)
            case 1:
                content[place : place + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
            case 2:
                del content[place : place + chance.randrange(1, 40)]
            case _:
                content[place:place] = content[:: max(1, len(content) // 50)]
        if not content:
            return
    before = peak_kib()
    try:
        decoded = Decoder(max_pixels=2_000_000)(bytes(content))
        pixels = Preprocessor(size=32, max_pixels=4_000_000)(decoded)
    except ImageError as error:
        assert error.reason.startswith("IMAGE_")  # noqa: PT017
    else:
        assert pixels.shape == (32, 32, 3)
    assert peak_kib() - before < 512 * 1024


def test_a_palette_image_without_its_palette_is_damaged() -> None:
    stored = io.BytesIO()
    Image.new("P", (8, 8), 3).save(stored, "PNG", transparency=1)
    content = stored.getvalue()
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    without = content[:start] + content[start + 12 + length :]
    for background in (None, (255, 255, 255)):
        decode = Decoder(max_bytes=10_000, max_pixels=10_000, background=background)
        with pytest.raises(ImageError, match="lacks its palette") as caught:
            decode(without)
        assert caught.value.reason == "IMAGE_TRUNCATED"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


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
        with pytest.raises(ImageError) as caught:
            Decoder()(opening + content)
        assert caught.value.reason in ("IMAGE_UNREADABLE", "IMAGE_TRUNCATED")
