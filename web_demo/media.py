"""Image files: decoding within limits, thumbnails of items, and uploads that are kept for a limited time."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal

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

    def kept(self, image: str, image_folders: Sequence[str], format: Format) -> bytes | None:
        """Return the thumbnail of an image that was made before; None where it has to be made, or cannot be.

        The image is named by its location in a catalog and the folders recorded with that.
        """
        with suppress(OSError), self._opened(image, image_folders) as file:
            return None if file is None else self._path(file, format).read_bytes()
        return None

    def make(self, image: str, image_folders: Sequence[str], format: Format) -> bytes | None:
        """Make, keep and return the thumbnail of an image; None where there is none to show.

        `cir.local_images` says which files are read. Decoding takes time and memory, so that a caller bounds
        how many of these calls run at once.
        """
        with self._opened(image, image_folders) as file:
            if file is None:
                return None
            try:
                original = file.read(self._max_bytes + 1)
                if len(original) > self._max_bytes:
                    return None
                image_file = decode_image(original, max_pixels=self._max_pixels, fit=THUMBNAIL_SIZE)
                content = encode_image(image_file, format)
                write_bytes(self._path(file, format), content, mode=0o600, durable=False)
            except (BadImageError, OSError):
                return None
        self._made += 1
        if self._made % _DELETE_EVERY == 0:
            delete_oldest(self._folder, self._max_files)
        return content

    @contextmanager
    def _opened(self, image: str, image_folders: Sequence[str]) -> Iterator[BinaryIO | None]:
        file = open_image(image, image_folders, within=self._within)
        try:
            yield file
        finally:
            if file is not None:
                file.close()

    def _path(self, file: BinaryIO, format: Format) -> Path:
        # The file itself, whatever it is called: another one put in its place has another key.
        status = os.fstat(file.fileno())
        key = f"{status.st_dev}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_size}".encode()
        return self._folder / f"{blake2b(key, digest_size=16).hexdigest()}.{format}"


class Uploads:
    """Uploaded images: kept under random names, re-encoded, never served as they came.

    They are kept in `folder`, which is made when it is missing, for `lifetime_seconds` and at most
    `max_files` of them with `max_total_bytes` in all; the oldest make room. One may have `max_pixels` (width
    times height). Every method may block on files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_pixels: int,
        max_files: int,
        max_total_bytes: int,
        lifetime_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._max_files = max_files
        self._max_total_bytes = max_total_bytes
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
        """Delete uploads that are too old, and the oldest while they are too many or have too many bytes."""
        for path in self._folder.glob("*.jpg"):
            try:
                if self._clock() - path.stat().st_mtime > self._lifetime_seconds:
                    path.unlink(missing_ok=True)
            except OSError:
                continue
        delete_oldest(self._folder, self._max_files, self._max_total_bytes)

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


def delete_oldest(folder: Path, max_files: int, max_bytes: int | None = None) -> None:
    """Delete the oldest files of a folder until `max_files` are left, which have `max_bytes` in all."""
    found: list[tuple[float, int, str]] = []
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # another request deletes as well
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, entry.path))
    size = sum(bytes_ for _, bytes_, _ in found)
    for left, (_, bytes_, path) in zip(range(len(found), 0, -1), sorted(found), strict=True):
        if left <= max_files and (max_bytes is None or size <= max_bytes):
            return
        Path(path).unlink(missing_ok=True)
        size -= bytes_


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image as RGB, transparent parts on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        background = Image.new("RGBA", above.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(background, above).convert("RGB")
    return image.convert("RGB")
