"""Small pictures of items: made once, kept on disk, read only from the folders that are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from web_demo.picture_files import THUMBNAIL, BadPicture, encoded, opened, trim, write_whole

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
            picture = opened(path.read_bytes(), max_pixels=self._max_pixels, fit=THUMBNAIL)
            content = encoded(picture, kind)
            write_whole(kept, content)
        except (BadPicture, OSError):
            return None
        self._made += 1
        if self._made % _TRIM_EVERY == 0:
            trim(self._folder, self._most)
        return content
