"""Image formats that are read: their names, the endings of their files and the bytes that they begin with.

The list is closed: Pillow tries no other format, so none that runs another program (EPS) or reads other files
is ever opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from PIL import features

#: Formats by Pillow's names, with the endings of their files, in lower case. JPEG includes the MPO files of
#: phones and stereo cameras.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),
}

#: Endings of image files in lower case, with the dot. They do not depend on what is installed here: who looks
#: for files is not always who decodes them.
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def _register_heif() -> bool:
    """Register Pillow's reader of HEIC, a separate package (the extra [heif]); return False without it."""
    try:
        register: Callable[[], None] = importlib.import_module("pillow_heif").register_heif_opener
    except ImportError:
        return False
    register()
    return True


def _is_read(name: str) -> bool:
    match name:
        case "AVIF":
            # Before Pillow 11.2 there is no such feature.
            return "avif" in features.modules and bool(features.check("avif"))
        case "JPEG2000":
            return bool(features.check("jpg_2000"))
        case "HEIF":
            return _register_heif()
    return True


#: Formats that are read here, by Pillow's names.
FORMATS: tuple[str, ...] = tuple(name for name in SUFFIXES if _is_read(name))

# First bytes of a file, by format.
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG",),
    "GIF": (b"GIF8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*"),
    "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
}
_BRANDS: dict[bytes, str] = dict.fromkeys((b"avif", b"avis"), "AVIF") | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevm", b"hevs", b"hevx", b"mif1", b"msf1"), "HEIF"
)


def format_of(content: bytes) -> str:
    """Return the name of the format that the bytes begin like, be it read here or not; empty for others."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "")
    return next((name for name, magic in _MAGIC.items() if content.startswith(magic)), "")
