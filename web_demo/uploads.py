"""Uploaded pictures: kept for a limited time under random names, re-encoded, never served as they came."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from web_demo.picture_files import UPLOAD, encoded, opened, trim, write_whole

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
        """Take a picture; returns its name. Raises `BadPicture`, OSError."""
        picture = opened(content, max_pixels=self._max_pixels, fit=UPLOAD)
        name = secrets.token_hex(16)
        write_whole(self._path(name), encoded(picture, "jpeg"))
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
        trim(self._folder, self._most)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("not the name of an upload")
        return self._folder / f"{name}.jpg"
