"""Pictures as files: decoding within limits, making them small, and keeping the results."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

THUMBNAIL = (360, 450)
UPLOAD = (1024, 1024)
_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
Image.init()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
_GROUND = (255, 255, 255)


class BadPicture(ValueError):
    """Not a picture that can be taken; `reason` names a text for people (see words.py)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def opened(content: bytes, *, max_pixels: int, fit: tuple[int, int]) -> Image.Image:
    """The picture, upright, RGB, no larger than `fit`. Raises `BadPicture`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > max_pixels:
                    raise BadPicture("too_many_pixels")
                picture.draft("RGB", fit)
                upright = ImageOps.exif_transpose(picture)
                flat = _flat(upright)
    except BadPicture:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadPicture("not_a_picture") from error
    flat.thumbnail(fit, Image.Resampling.LANCZOS)
    return flat


def encoded(picture: Image.Image, kind: str) -> bytes:
    """The picture as a file of that kind, "webp" or "jpeg", without any metadata."""
    out = io.BytesIO()
    if kind == "webp":
        picture.save(out, "WEBP", quality=82, method=3)
    else:
        picture.save(out, "JPEG", quality=85, optimize=True, progressive=True)
    return out.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def trim(folder: Path, most: int) -> None:
    """Delete the oldest files of a folder until `most` are left."""
    files = [entry for entry in os.scandir(folder) if entry.is_file()]
    if len(files) <= most:
        return
    for entry in sorted(files, key=lambda entry: entry.stat().st_mtime)[: len(files) - most]:
        Path(entry.path).unlink(missing_ok=True)


def _flat(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        above = picture.convert("RGBA")
        ground = Image.new("RGBA", above.size, (*_GROUND, 255))
        return Image.alpha_composite(ground, above).convert("RGB")
    return picture.convert("RGB")
