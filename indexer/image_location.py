"""Pictures below a root folder: which file a path means, and how its location is written down."""

from __future__ import annotations

from pathlib import Path


class OutsideRoot(ValueError):
    """A path that leaves the root folder."""


class ImageRoot:
    """A folder that no path may leave, neither by `..`, nor by being absolute, nor through a symbolic link.

    The location stored with an item is `image_base` followed by its path relative to the root; without
    `image_base` it is the absolute path of the file.
    """

    def __init__(self, root: Path, image_base: str = "") -> None:
        self.path = root.resolve()
        self._base = image_base or f"{self.path.as_posix().rstrip('/')}/"

    def location(self, relative: str) -> str:
        """The location stored for the picture at a POSIX path relative to the root."""
        return f"{self._base}{relative}"

    def contains(self, path: Path) -> bool:
        """Whether `path`, with all symbolic links followed, lies below the root."""
        return path.resolve().is_relative_to(self.path)

    def resolve(self, image: str) -> tuple[Path, str]:
        """The file that `image`, relative to the root, means, and its POSIX path relative to the root.

        Raises `OutsideRoot`, also for URLs and for names that no file can have.
        """
        if "://" in image:
            raise OutsideRoot(f"image {image!r} is a URL; expected a file path relative to {self.path}")
        try:
            path = (self.path / image).resolve()
        except (ValueError, OSError, RuntimeError) as error:
            raise OutsideRoot(f"image {image!r} is no usable file path: {error}") from error
        if not path.is_relative_to(self.path) or path == self.path:
            raise OutsideRoot(f"image {image!r} lies outside {self.path}; expected a path relative to it")
        return path, path.relative_to(self.path).as_posix()
