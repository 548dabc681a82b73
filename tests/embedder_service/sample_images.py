"""Images for the tests: drawn from a seed, encoded as asked; and real photos where they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "clothing" / "images"


def sample_image(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise of 8-pixel cells over a gradient, in the given mode."""
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65_536, (height, width), dtype=np.uint16))
    cells = random.integers(0, 256, (-(-height // 8), -(-width // 8), 4), dtype=np.uint8)
    levels = cells.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    base = Image.fromarray(np.ascontiguousarray(levels))
    if mode == "RGBA":
        return base
    if mode == "P":
        return base.convert("RGB").quantize(64)
    if mode in ("LA", "La", "RGBa"):
        return base.convert("LA") if mode == "LA" else base.convert(mode)
    return base.convert("RGB").convert(mode)


def encode(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(width: int = 60, height: int = 80, seed: int = 0) -> bytes:
    """A small JPEG file."""
    return encode(sample_image(width, height, seed=seed), "JPEG", quality=90)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and has next to no data: the opening of a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")
