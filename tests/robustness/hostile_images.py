"""Damaged pictures: real or drawn ones in every format that is read, changed in a few places."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence

from PIL import Image

from cir.images import FORMATS
from tests.embedder_service.sample_images import PHOTOS, encode, png_header, sample_image

_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
_SIDES = (0, 1, 2, 7, 65_535, 65_536, 0x7FFFFFFF, 0xFFFFFFFF)


def files(photos: int = 6) -> list[bytes]:
    """Sound picture files to start from: drawn ones, and real photos where they are there."""
    drawn = sample_image(48, 64)
    frames = [sample_image(40, 40, seed=seed).convert("P") for seed in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [
        encode(drawn, "JPEG", quality=80, exif=exif),
        encode(drawn, "JPEG", progressive=True),
        encode(sample_image(48, 64, "CMYK"), "JPEG"),
        encode(sample_image(48, 64, "L"), "JPEG"),
        *(encode(sample_image(40, 50, mode), "PNG") for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")),
        encode(drawn, "WEBP", quality=50),
        encode(sample_image(48, 64, "RGBA"), "WEBP", lossless=True),
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encode(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=[frames[1].convert("RGB")]),
        *(
            encode(drawn, "TIFF", compression=kind)
            for kind in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate")
        ),
        encode(sample_image(48, 64, "I;16"), "TIFF"),
        encode(drawn, "BMP"),
        *(encode(drawn, form) for form in ("AVIF", "JPEG2000", "HEIF") if form in FORMATS),
    ]
    for path in sorted(PHOTOS.glob("*.jp*g"))[:photos] if PHOTOS.is_dir() else ():
        with Image.open(path) as photo:
            photo.thumbnail((120, 120))
            small = photo.convert("RGB")
        found.extend(encode(small, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"))
    return found


def _flip(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    # Headers decide what is allocated, so half of the flips go there.
    reach = min(len(changed), source.choice((64, 64, 700, len(changed))))
    for _ in range(source.choice((1, 1, 3, 20))):
        changed[source.randrange(reach)] ^= 1 << source.randrange(8)
    return bytes(changed)


def _cut(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    return content[: source.randrange(len(content))]


def _splice(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    other = source.choice(others)
    return content[: source.randrange(1, len(content))] + other[source.randrange(len(other)) :]


def _extreme(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """A size, a count or an offset becomes an extreme one."""
    layout = source.choice((">H", "<H", ">I", "<I"))
    width = struct.calcsize(layout)
    place = source.randrange(max(1, min(len(content), source.choice((64, 400))) - width))
    value = source.choice(_EXTREMES) & (1 << 8 * width) - 1
    return content[:place] + struct.pack(layout, value) + content[place + width :]


def _blank(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    start = source.randrange(len(content))
    length = min(len(content) - start, source.choice((1, 16, 500)))
    return content[:start] + source.choice((b"\0", b"\xff")) * length + content[start + length :]


def _double(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    start = source.randrange(len(content))
    part = content[start : start + source.choice((8, 100, 4000))]
    return content[:start] + part * source.choice((2, 20)) + content[start:]


def _other_magic(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    length = source.choice((2, 4, 12, 16))
    return source.choice(others)[:length] + content[length:]


def _bomb(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    return png_header(source.choice(_SIDES), source.choice(_SIDES))


def _png_chunks(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """A damaged chunk of a PNG file under a correct checksum, so that the decoder believes it."""
    buffer = io.BytesIO(content[8:])
    out = bytearray(b"\x89PNG\r\n\x1a\n")
    while len(head := buffer.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data = bytearray(buffer.read(length))
        buffer.read(4)
        if data and source.random() < 0.5:
            data[source.randrange(len(data))] = source.choice((0, 1, 3, 16, 255))
        if source.random() < 0.05:
            kind = source.choice((b"IEND", b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"zTXt"))
        if source.random() < 0.05:
            data += zlib.compress(b"\0" * 3_000_000)
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + bytes(data)))
        if source.random() < 0.05:
            break
    return bytes(out)


_MUTATIONS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _splice,
    _extreme,
    _extreme,
    _blank,
    _double,
    _other_magic,
    _bomb,
)


def damage(sound: Sequence[bytes], source: random.Random) -> bytes:
    """One of the sound files after one or two changes."""
    content = source.choice(sound)
    if content.startswith(b"\x89PNG") and source.random() < 0.5:
        return _png_chunks(content, source, sound)
    for _ in range(source.choice((1, 1, 2))):
        content = source.choice(_MUTATIONS)(content, source, sound) or b"\0\0"
    return content
