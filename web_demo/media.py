"""Image files: decoding within limits, thumbnails of items, and uploads that are kept for a limited time."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image

from cir.images import Decoder, ImageError
from cir.images.decode import MAX_BYTES, Fitting
from cir.local_images import open_image
from service_runtime.files import write_bytes
from service_runtime.image_reader import DecodeBudget, ImageBusyError, ImageReader
from web_demo.web_images import is_on_the_web

THUMBNAIL_SIZES = {"small": (360, 450), "large": (1200, 1500)}
UPLOAD_SIZE = (1024, 1024)
_UPLOAD_NAME = re.compile(r"[0-9a-f]{32}")
# Of the thumbnails that were made: scanning the folder each time would cost more than a few files too many.
_DELETE_EVERY = 200

# Texts of the locales by reason, where "not a picture" says too little.
_TEXTS = {"IMAGE_TOO_MANY_PIXELS": "too_many_pixels", "IMAGE_TOO_COSTLY": "too_costly"}

Format = Literal["jpeg", "webp"]


class BadImageError(ValueError):
    """An image that cannot be taken; `reason` is the key of a text in the locales."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Thumbnails:
    """Small images of items: made once, kept on disk; files are read only from the folders of their catalog.

    They are kept in `folder`, which is made when it is missing, at most `max_files` of them; those of images
    on the web for `web_seconds`. `within` bounds the folders of every catalog further, None for no such
    bound. An image may have at most `max_bytes` and `max_pixels` (width times height), and take `budget`
    to decode. Every method may block on files.
    """

    def __init__(
        self,
        folder: Path,
        within: Sequence[Path] | None = None,
        *,
        max_bytes: int,
        max_pixels: int,
        max_files: int,
        web_seconds: float = 86_400.0,
        budget: DecodeBudget = DecodeBudget(),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._within = within
        self._web_seconds = web_seconds
        self._max_bytes = max_bytes
        self._readers = {
            size: FittingReader(fit=fit, max_bytes=max_bytes, max_pixels=max_pixels, budget=budget)
            for size, fit in THUMBNAIL_SIZES.items()
        }
        self._max_files = max_files
        self._made = 0

    def kept(
        self, image: str, image_folders: Sequence[str], format: Format, size: str = "small"
    ) -> bytes | None:
        """Return the thumbnail of an image that was made before; None where it has to be made, or cannot be.

        The image is named by its location in a catalog and the folders recorded with that; `size` is a name
        of `THUMBNAIL_SIZES`.
        """
        with suppress(OSError):
            if is_on_the_web(image):
                path = self._path_of_url(image, format, size)
                is_fresh = time.time() - path.stat().st_mtime <= self._web_seconds
                return path.read_bytes() if is_fresh else None
            with self._opened(image, image_folders) as file:
                return None if file is None else self._path(file, format, size).read_bytes()
        return None

    def make(
        self, image: str, image_folders: Sequence[str], format: Format, size: str = "small"
    ) -> bytes | None:
        """Make, keep and return the thumbnail of an image file; None where there is none to show.

        `cir.local_images` says which files are read. Decoding takes time and memory, so that a caller bounds
        how many of these calls run at once.
        """
        with self._opened(image, image_folders) as file:
            if file is None:
                return None
            try:
                original = file.read(self._max_bytes + 1)
            except OSError:
                return None
            return self._make(original, self._path(file, format, size), format, size)

    def make_fetched(self, url: str, original: bytes, format: Format, size: str = "small") -> bytes | None:
        """Make, keep and return the thumbnail of an image that was fetched; None where it is no image."""
        return self._make(original, self._path_of_url(url, format, size), format, size)

    def _make(self, original: bytes, path: Path, format: Format, size: str) -> bytes | None:
        if len(original) > self._max_bytes:
            return None
        try:
            content = encode_image(self._readers[size].read(original), format)
            write_bytes(path, content, mode=0o600, durable=False)
        except (BadImageError, OSError):
            return None
        self._made += 1
        if self._made % _DELETE_EVERY == 0:
            delete_oldest(self._folder, self._max_files)
        return content

    def close(self) -> None:
        """End what was started for reading images."""
        for reader in self._readers.values():
            reader.close()

    @contextmanager
    def _opened(self, image: str, image_folders: Sequence[str]) -> Iterator[BinaryIO | None]:
        file = open_image(image, image_folders, within=self._within)
        try:
            yield file
        finally:
            if file is not None:
                file.close()

    def _path(self, file: BinaryIO, format: Format, size: str) -> Path:
        # The file itself, whatever it is called: another one put in its place has another key.
        status = os.fstat(file.fileno())
        key = f"{size}\0{status.st_dev}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_size}"
        return self._path_of(key, format)

    def _path_of_url(self, url: str, format: Format, size: str) -> Path:
        return self._path_of(f"{size}\0{url}", format)

    def _path_of(self, key: str, format: Format) -> Path:
        return self._folder / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.{format}"


class Uploads:
    """Uploaded images: kept under random names, re-encoded, never served as they came.

    They are kept in `folder`, which is made when it is missing, for `lifetime_seconds` and at most
    `max_files` of them with `max_total_bytes` in all; the oldest make room. One may have `max_bytes`
    and `max_pixels` (width times height), and take `budget` to decode. Every method may block on files.
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
        max_bytes: int = MAX_BYTES,
        budget: DecodeBudget = DecodeBudget(),
    ) -> None:
        self._folder = folder
        self._reader = FittingReader(
            fit=UPLOAD_SIZE, max_bytes=max_bytes, max_pixels=max_pixels, budget=budget
        )
        self._max_files = max_files
        self._max_total_bytes = max_total_bytes
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, content: bytes) -> str:
        """Store an image file as a JPEG and return its name.

        Raises:
            BadImageError: see `FittingReader.read`.
            OSError: the disk is full, for example.
        """
        image = self._reader.read(content)
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

    def close(self) -> None:
        """End what was started for reading images."""
        self._reader.close()

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


class FittingReader:
    """Reader of image files as upright RGB that fits into `fit` (width, height), within a budget."""

    def __init__(
        self, *, fit: tuple[int, int], max_bytes: int, max_pixels: int, budget: DecodeBudget
    ) -> None:
        decoder = Decoder(max_bytes=max_bytes, max_pixels=max_pixels, draft_size=max(fit))
        self._reader = ImageReader(Fitting(decoder, fit), budget)

    def read(self, content: bytes) -> Image.Image:
        """Return an image file's image.

        Raises:
            BadImageError: it is no image that is read, or one that is too large or too costly.
        """
        try:
            return Image.fromarray(self._reader.read(content))
        except ImageError as error:
            raise BadImageError(_TEXTS.get(error.reason, "not_a_picture")) from error
        except ImageBusyError as error:
            raise BadImageError("too_many_uploads") from error

    def close(self) -> None:
        """End what was started for reading."""
        self._reader.close()


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
