"""Folders that a source's images lie in, as they are recorded with a version: few, and never a whole machine.

What opens the locations of items later (the web demo, contact sheets) opens nothing outside these folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cir.limits import is_text
from indexer.sources.base import ImageRoot, OutsideRoot

MAX_FOLDERS = 32
# Folders that are remembered before they are folded.
_REMEMBERED = 4096


def fold_folders(folders: Iterable[str]) -> tuple[str, ...]:
    """Return at most about `MAX_FOLDERS` folders that hold all of `folders`, sorted.

    Folders inside others are left out; while there are too many, the deepest are replaced by their parents,
    which ends below the root of the file system. Relative paths, URLs, the root itself and names that are no
    Unicode are dropped.
    """
    paths = {PurePosixPath(os.path.normpath(folder)) for folder in folders if _is_recordable(folder)}
    paths = {path for path in paths if path != path.parent}
    while True:
        paths = {path for path in paths if paths.isdisjoint(path.parents)}
        deepest = max((len(path.parts) for path in paths), default=0)
        if len(paths) <= MAX_FOLDERS or deepest <= 2:
            return tuple(sorted(map(str, paths)))
        paths = {path.parent if len(path.parts) == deepest else path for path in paths}


def _is_recordable(folder: str) -> bool:
    return folder.startswith("/") and "://" not in folder and is_text(folder)


class ImageFolders:
    """The folders of the images of a manifest, whose paths are relative to `root`."""

    def __init__(self, root: ImageRoot) -> None:
        self._root = root
        # By folder as written: where it lies, and what is recorded of it.
        self._known: dict[str, tuple[str, str | None]] = {}
        self._found: set[str] = set()

    def add(self, image: str) -> None:
        """Count in the folder of an image's stored location; images outside the root are none."""
        folder, slash, name = image.rpartition("/")
        folder = folder or slash
        try:
            if folder not in self._known:
                path = (self._root.path / folder).resolve()
                self._known[folder] = str(path), self._recorded(path)
            resolved, recorded = self._known[folder]
            # Asked for each file, since its location is stored with all links followed.
            if os.path.islink(f"{resolved}/{name}"):
                recorded = self._recorded(self._root.resolve(image)[0].parent)
        except (OutsideRoot, OSError, ValueError, RuntimeError):
            return
        if recorded is not None:
            self._found.add(recorded)
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        if len(self._found) > _REMEMBERED:
            self._found = set(fold_folders(self._found))

    def _recorded(self, path: Path) -> str | None:
        """Return a folder as it is recorded; None for one outside the root."""
        if not path.is_relative_to(self._root.path):
            return None
        relative = path.relative_to(self._root.path).as_posix()
        return os.path.dirname(self._root.location("" if relative == "." else f"{relative}/"))

    def folded(self) -> tuple[str, ...]:
        """Return the folders to record."""
        return fold_folders(self._found)
