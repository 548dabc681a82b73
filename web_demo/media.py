"""Image files: decoding within limits, thumbnails of items, and uploads that are kept for a limited time."""

from __future__ import annotations

import io
import os
import re
import secrets
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

THUMBNAIL_SIZE = (360, 450)
UPLOAD_SIZE = (1024, 1024)
_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
Image.init()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
_GROUND = (255, 255, 255)


class BadImageError(ValueError):
    """Not a picture that can be taken; `reason` names a text for people (see i18n.py)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_image(content: bytes, *, max_pixels: int, fit: tuple[int, int]) -> Image.Image:
    """The picture, upright, RGB, no larger than `fit`. Raises `BadImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > max_pixels:
                    raise BadImageError("too_many_pixels")
                picture.draft("RGB", fit)
                upright = ImageOps.exif_transpose(picture)
                flat = _flat(upright)
    except BadImageError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImageError("not_a_picture") from error
    flat.thumbnail(fit, Image.Resampling.LANCZOS)
    return flat


def encode_image(picture: Image.Image, kind: str) -> bytes:
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


def delete_oldest(folder: Path, most: int) -> None:
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


# Of the files that were made: looking at all of them each time would cost more than a few too many.
_TRIM_EVERY = 200


class Thumbnails:
    """Every method may block on files.

    Args:
        folder: where they are kept; made when it is not there.
        roots: folders below which an item's picture may lie; links that lead out of them are not followed.
        max_bytes, max_pixels: of the picture that a thumbnail is made from.
        most: thumbnails that are kept.
    """

    def __init__(
        self, folder: Path, roots: Sequence[Path], *, max_bytes: int, max_pixels: int, most: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._roots = [root.resolve() for root in roots]
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._most = most
        self._made = 0

    def source(self, image: str) -> Path | None:
        """The file of an item's picture, as the catalog names it; None where it may not be read."""
        if not image or "://" in image:
            return None
        try:
            path = Path(image).resolve(strict=True)
        except (OSError, ValueError):
            return None
        allowed = any(path.is_relative_to(root) for root in self._roots)
        return path if allowed and path.is_file() else None

    def of(self, image: str, kind: str) -> bytes | None:
        """A thumbnail as "webp" or "jpeg"; None where there is no picture."""
        path = self.source(image)
        if path is None:
            return None
        try:
            status = path.stat()
            key = f"{path}\0{status.st_mtime_ns}\0{status.st_size}".encode("utf-8", "surrogateescape")
            kept = self._folder / f"{blake2b(key, digest_size=16).hexdigest()}.{kind}"
            if kept.is_file():
                return kept.read_bytes()
            if status.st_size > self._max_bytes:
                return None
            picture = decode_image(path.read_bytes(), max_pixels=self._max_pixels, fit=THUMBNAIL_SIZE)
            content = encode_image(picture, kind)
            write_whole(kept, content)
        except (BadImageError, OSError):
            return None
        self._made += 1
        if self._made % _TRIM_EVERY == 0:
            delete_oldest(self._folder, self._most)
        return content


_NAME = re.compile(r"[0-9a-f]{32}")


class Uploads:
    """A folder of uploads. Every method may block on files.

    Args:
        folder: made when it is not there.
        max_pixels: width times height of one picture.
        most: uploads that are kept; the oldest make room.
        seconds: time after which one is deleted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_pixels: int,
        most: int,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._most = most
        self._seconds = seconds
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes) -> str:
        """Take a picture; returns its name. Raises `BadImageError`, OSError."""
        picture = decode_image(content, max_pixels=self._max_pixels, fit=UPLOAD_SIZE)
        name = secrets.token_hex(16)
        write_whole(self._path(name), encode_image(picture, "jpeg"))
        self.tidy()
        return name

    def read(self, name: str) -> bytes | None:
        """The picture, JPEG; None when it is gone or never was."""
        path = self._path(name)
        try:
            if self._clock() - path.stat().st_mtime > self._seconds:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def tidy(self) -> None:
        """Delete what is too old or too much."""
        for path in self._folder.glob("*.jpg"):
            try:
                if self._clock() - path.stat().st_mtime > self._seconds:
                    path.unlink(missing_ok=True)
            except OSError:
                continue
        delete_oldest(self._folder, self._most)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("not the name of an upload")
        return self._folder / f"{name}.jpg"
