"""Image files: decoding within limits, thumbnails of items, and uploads that are kept for a limited time."""

from __future__ import annotations

import io
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from cir.local_images import open_image
from service_runtime.files import write_bytes

THUMBNAIL_SIZE = (360, 450)
UPLOAD_SIZE = (1024, 1024)
_ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
Image.init()
FORMATS = tuple(name for name in _ACCEPTED_FORMATS if name in Image.OPEN)
_BACKGROUND = (255, 255, 255)
_UPLOAD_NAME = re.compile(r"[0-9a-f]{32}")
# Of the thumbnails that were made: scanning the folder each time would cost more than a few files too many.
_DELETE_EVERY = 200

Format = Literal["jpeg", "webp"]


class BadImageError(ValueError):
    """An image that cannot be taken; `reason` is the key of a text in the locales."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Thumbnails:
    """Small images of items: made once, kept on disk, read only from the folders of their catalog.

    They are kept in `folder`, which is made when it is missing, at most `max_files` of them. `within` bounds
    the folders of every catalog further, None for no such bound. An image may have at most `max_bytes` and
    `max_pixels` (width times height). Every method may block on files.
    """

    def __init__(
        self,
        folder: Path,
        within: Sequence[Path] | None = None,
        *,
        max_bytes: int,
        max_pixels: int,
        max_files: int,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._within = within
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._max_files = max_files
        self._made = 0

    def get(self, image: str, image_folders: Sequence[str], format: Format) -> bytes | None:
        """Return the thumbnail of an image, by its location in a catalog and the folders recorded with that.

        None where there is none to show: `cir.local_images` says which files are read.
        """
        file = open_image(image, image_folders, within=self._within)
        if file is None:
            return None
        with file:
            try:
                status = os.fstat(file.fileno())
                # The file itself, whatever it is called: another one put in its place has another key.
                key = f"{status.st_dev}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_size}".encode()
                kept = self._folder / f"{blake2b(key, digest_size=16).hexdigest()}.{format}"
                if kept.is_file():
                    return kept.read_bytes()
                if status.st_size > self._max_bytes:
                    return None
                original = file.read(self._max_bytes + 1)
                if len(original) > self._max_bytes:
                    return None
                image_file = decode_image(original, max_pixels=self._max_pixels, fit=THUMBNAIL_SIZE)
                content = encode_image(image_file, format)
                write_bytes(kept, content, mode=0o600, durable=False)
            except (BadImageError, OSError):
                return None
        self._made += 1
        if self._made % _DELETE_EVERY == 0:
            delete_oldest(self._folder, self._max_files)
        return content


class Uploads:
    """Uploaded images: kept under random names, re-encoded, never served as they came.

    They are kept in `folder`, which is made when it is missing, for `lifetime_seconds` and at most
    `max_files` of them; the oldest make room. One may have `max_pixels` (width times height). Every method
    may block on files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_pixels: int,
        max_files: int,
        lifetime_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._max_files = max_files
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, content: bytes) -> str:
        """Store an image file as a JPEG and return its name.

        Raises:
            BadImageError: see `decode_image`.
            OSError: the disk is full, for example.
        """
        image = decode_image(content, max_pixels=self._max_pixels, fit=UPLOAD_SIZE)
        name = secrets.token_hex(16)
        write_bytes(self._path(name), encode_image(image, "jpeg"), mode=0o600, durable=False)
        self.delete_expired()
        return name

    def read(self, name: str) -> bytes | None:
        """Return an upload's JPEG file, None when it was deleted.

        Raises:
            ValueError: the name is not one that `store` gives.
        """
        path = self._path(name)
        try:
            if self._clock() - path.stat().st_mtime > self._lifetime_seconds:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def delete_expired(self) -> None:
        """Delete uploads that are too old, and the oldest while there are too many."""
        for path in self._folder.glob("*.jpg"):
            try:
                if self._clock() - path.stat().st_mtime > self._lifetime_seconds:
                    path.unlink(missing_ok=True)
            except OSError:
                continue
        delete_oldest(self._folder, self._max_files)

    def _path(self, name: str) -> Path:
        if not _UPLOAD_NAME.fullmatch(name):
            raise ValueError("not the name of an upload")
        return self._folder / f"{name}.jpg"


def decode_image(content: bytes, *, max_pixels: int, fit: tuple[int, int]) -> Image.Image:
    """Return an image file's image: upright, RGB, no larger than `fit` (width, height).

    Raises:
        BadImageError: it is not an image of `FORMATS`, or has more than `max_pixels`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise BadImageError("too_many_pixels")
                image.draft("RGB", fit)
                flat = _flatten(ImageOps.exif_transpose(image))
    except BadImageError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImageError("not_a_picture") from error
    flat.thumbnail(fit, Image.Resampling.LANCZOS)
    return flat


def encode_image(image: Image.Image, format: Format) -> bytes:
    """Return the image as a file of that format, without any metadata."""
    out = io.BytesIO()
    if format == "webp":
        image.save(out, "WEBP", quality=82, method=3)
    else:
        image.save(out, "JPEG", quality=85, optimize=True, progressive=True)
    return out.getvalue()


def delete_oldest(folder: Path, max_files: int) -> None:
    """Delete the oldest files of a folder until `max_files` are left."""
    files = [entry for entry in os.scandir(folder) if entry.is_file()]
    if len(files) <= max_files:
        return
    for entry in sorted(files, key=lambda entry: entry.stat().st_mtime)[: len(files) - max_files]:
        Path(entry.path).unlink(missing_ok=True)


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image as RGB, transparent parts on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        background = Image.new("RGBA", above.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(background, above).convert("RGB")
    return image.convert("RGB")
