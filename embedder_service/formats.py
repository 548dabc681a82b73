"""Which picture formats are read, and what a file's first bytes say before any decoder sees it.

The list is closed: Pillow tries no other format, so none that runs another program (EPS) or reads other files
is ever opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from PIL import Image, PngImagePlugin, features

# Pillow's own bomb check is a global that warns; the limits of the decoder are its own and refuse.
Image.MAX_IMAGE_PIXELS = None
# Text and colour profile of a PNG, inflated. Pillow's 1 MiB refuses pictures with a large profile.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 1024 * 1024


def _register_heif() -> bool:
    """HEIC comes from a package of its own, the extra [heif]."""
    try:
        register: Callable[[], None] = importlib.import_module("pillow_heif").register_heif_opener
    except ImportError:
        return False
    register()
    return True


FORMATS: tuple[str, ...] = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    *(("AVIF",) if features.check("avif") else ()),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
    *(("HEIF",) if _register_heif() else ()),
)
"""Formats that are read, by Pillow's names; JPEG includes the MPO files of phones and stereo cameras."""

# Openings that say "this is meant to be a picture", to tell a damaged one from something else.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGIC_JPEG2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}


def looks_like_a_picture(content: bytes) -> bool:
    """Whether the bytes begin like a file of one of FORMATS."""
    riff = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    jpeg2000 = "JPEG2000" in FORMATS and content.startswith(_MAGIC_JPEG2000)
    boxed = any(name in FORMATS and _has_brand(content, name) for name in _BRANDS)
    return riff or jpeg2000 or boxed or content.startswith(_MAGIC)


def is_heif(content: bytes) -> bool:
    """Whether the bytes begin like HEIC, read or not."""
    return _has_brand(content, "HEIF")


def webp_canvas(content: bytes) -> tuple[int, int]:
    """Width and height that an extended WebP file claims; 0 x 0 for any other.

    Its decoder takes memory for the whole canvas when it is opened, before Pillow tells the size.
    """
    if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8X" or len(content) < 30:
        return 0, 0
    width, height = (int.from_bytes(content[start : start + 3], "little") + 1 for start in (24, 27))
    return width, height


def _has_brand(content: bytes, name: str) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _BRANDS[name]
