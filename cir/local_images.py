"""Image files of this machine that the items of a catalog name, opened only below the catalog's own folders.

The location of an item may have been written by anybody with the write scope, so it is believed no further
than the folders that the indexer recorded with the version: no `..`, symbolic link, prefix or relative path
leads out of them, the root of the file system is no such folder, and only regular files are read. A hard link
is the file itself and cannot be told from it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from cir.member_names import reason_for_path

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Opening a named pipe would wait for its writer, maybe for ever.
_FLAGS = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def usable_folder(folder: str | os.PathLike[str]) -> Path | None:
    """Return a folder with all links followed; None for a relative path and for the root of a file system."""
    text = os.fspath(folder)
    if not os.path.isabs(text):
        return None
    try:
        path = Path(text).resolve()
    except (OSError, RuntimeError, ValueError):
        return None
    return None if path == path.parent else path


def open_image(
    location: str, folders: Iterable[str | os.PathLike[str]], *, within: Sequence[Path] | None = None
) -> BinaryIO | None:
    """Open the regular file at an item's location, if it lies below one of `folders`; else return None.

    Below the folder no name may be one that is never a member of a data set, such as a hidden one. `within`
    bounds `folders` further: the file has to lie below one of them too, None for no such bound. Nothing is
    waited for.
    """
    if not os.path.isabs(location) or "://" in location:
        return None
    try:
        path = Path(location).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    if within is not None and not any(path.is_relative_to(root.resolve()) for root in within):
        return None
    for folder in folders:
        root = usable_folder(folder)
        if root is None or not path.is_relative_to(root) or path == root:
            continue
        relative = path.relative_to(root)
        if reason_for_path(relative.as_posix()) is None:
            return _open_below(root, relative)
    return None


def read_image(location: str, folders: Iterable[str | os.PathLike[str]], *, max_bytes: int) -> bytes | None:
    """Return the bytes of the file that `open_image` opens; None where there is none or it has more bytes."""
    file = open_image(location, folders)
    if file is None:
        return None
    with file:
        try:
            content = file.read(max_bytes + 1)
        except OSError:
            return None
    return content if content and len(content) <= max_bytes else None


def _open_below(root: Path, relative: Path) -> BinaryIO | None:
    """Open a file by one folder after the other, so that a link put in place meanwhile is not followed."""
    opened: list[int] = []
    try:
        if os.open in os.supports_dir_fd and _NO_FOLLOW:
            folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
            opened.append(folder)
            for name in relative.parts[:-1]:
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW, dir_fd=folder)
                opened.append(folder)
            descriptor = os.open(relative.name, _FLAGS, dir_fd=folder)
        else:
            descriptor = os.open(root / relative, _FLAGS)
    except OSError:
        return None
    finally:
        for number in opened:
            os.close(number)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")
