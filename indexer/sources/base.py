"""The contract of every source: items with their payload, and references to where their images are."""

from __future__ import annotations

import os
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cir.fields import FieldType, Payload
from indexer.rejects import IMAGE_EMPTY, IMAGE_MISSING, IMAGE_NOT_READABLE, IMAGE_TOO_MANY_BYTES, Reject
from indexer.sources.passed_over import NOTHING_PASSED_OVER, PassedOverFiles


class ImageError(Exception):
    """The bytes cannot be had. `reason` is a name of `indexer.rejects`, `read` how many bytes were read."""

    def __init__(self, reason: str, problem: str, read: int | None = None) -> None:
        super().__init__(problem)
        self.reason = reason
        self.read = read


@dataclass(frozen=True, slots=True)
class FileStat:
    """Size in bytes and time of change, known without reading; (-1, -1) where unknown."""

    size: int = -1
    mtime_ns: int = -1


class ImageRef(ABC):
    """A place that bytes come from. All methods block; several threads may read at once."""

    @staticmethod
    def of(location: Location) -> ImageRef:
        """The image at a file path, or the image itself."""
        return FileImage(location) if isinstance(location, Path) else location

    @abstractmethod
    def stat(self) -> FileStat:
        """Return size and time of change without reading.

        Raises:
            ImageError: the image cannot be read.
        """

    @abstractmethod
    def read(self, max_bytes: int) -> bytes:
        """All bytes, never more than `max_bytes`.

        Raises:
            ImageError: the image cannot be read.
        """


Location = Path | ImageRef


@dataclass(frozen=True, slots=True)
class FileImage(ImageRef):
    """A file on disk."""

    path: Path

    def stat(self) -> FileStat:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, _missing(self.path)) from None
        except (OSError, ValueError) as error:
            raise _not_readable(error) from error
        return FileStat(status.st_size, status.st_mtime_ns)

    def read(self, max_bytes: int) -> bytes:
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise ImageError(IMAGE_NOT_READABLE, "is no regular file")
                if status.st_size > max_bytes:
                    raise too_large(status.st_size, max_bytes)
                # One byte more than allowed, so that a file that grew meanwhile is noticed.
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, _missing(self.path)) from None
        except (OSError, ValueError) as error:
            raise _not_readable(error) from error
        return check_content(content, max_bytes)

    def __str__(self) -> str:
        return str(self.path)


def _missing(path: Path) -> str:
    """Say that a file does not exist, and whether its name does in the other form of Unicode (NFC or NFD)."""
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        below = next((found / form for form in forms if os.path.lexists(found / form)), None)
        if below is None:
            return "does not exist"
        found = below
    if found == path:  # a link to nowhere, or a file that came just now
        return "does not exist"
    form = "NFD" if unicodedata.is_normalized("NFD", str(found)) else "NFC"
    return (
        f"does not exist, but {str(found)!a} does: the same letters in other code points ({form}). Names are "
        "told apart by their code points; write the name as the file has it, or rename the file"
    )


def check_content(content: bytes, max_bytes: int) -> bytes:
    """The bytes again, unless there are none or too many.

    Raises:
        ImageError: there are none or too many.
    """
    if not content:
        raise ImageError(IMAGE_EMPTY, "has no bytes", 0)
    if len(content) > max_bytes:
        problem = f"has more than the {max_bytes} bytes that the embedder takes"
        raise ImageError(IMAGE_TOO_MANY_BYTES, problem, max_bytes)
    return content


def too_large(size: int, max_bytes: int) -> ImageError:
    """The refusal of an image whose size is known before it is read."""
    return ImageError(
        IMAGE_TOO_MANY_BYTES,
        f"has {size} bytes, the embedder takes at most {max_bytes}; make it smaller",
    )


def _not_readable(error: Exception) -> ImageError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ImageError(IMAGE_NOT_READABLE, f"cannot be read: {reason}")


def _without_waiting(path: str, flags: int) -> int:
    # Opening a named pipe would wait for its writer, maybe for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@dataclass(frozen=True, slots=True)
class SourceItem:
    """An item as a source describes it. `image` is the location that is stored, `path` the file to read, or
    another place of an image (`indexer.sources.base`). `where` is its place in the source, for messages."""

    id: str
    path: Location
    image: str
    payload: Payload
    where: str = ""

    @property
    def image_ref(self) -> ImageRef:
        """The place that the bytes come from."""
        return ImageRef.of(self.path)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts of a source before its first image is read: the number of items and their payload's schema.

    `notes` are remarks for a person, such as a column whose values are of several types. `image_folders` are
    those that the items' locations lie in, to be recorded with the version. `passed_over` are the files that
    are no items.
    """

    total: int
    schema: Mapping[str, FieldType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    image_folders: tuple[str, ...] = ()
    passed_over: PassedOverFiles = NOTHING_PASSED_OVER


class Source(ABC):
    """Items in an order that is the same in every run over the same data. All methods block."""

    #: What the source is called in messages.
    name: str
    #: Beginning of the paths of files about the source, which lie next to it: that of the source itself.
    beside: Path

    def rejects_path(self, catalog: str) -> Path:
        """Return where the rejects of a run for `catalog` go unless the options say otherwise.

        No two catalogs of one source share the file: a run writes it anew, or deletes it.
        """
        return self.beside.with_name(f"{self.beside.name}.{catalog}.rejects.jsonl")

    @abstractmethod
    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        """Look over everything but the images once.

        `columns` are the payload fields that this survey and the items after it are restricted to; all
        without.

        Raises:
            SourceError: the source cannot be used.
        """

    @abstractmethod
    def items(self) -> Iterator[SourceItem | Reject]:
        """Yield every item once; those that cannot be read at all come as rejects.

        Raises:
            SourceError: the source cannot be read on.
        """


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
        """The location stored for the image at a POSIX path relative to the root."""
        return f"{self._base}{relative}"

    @property
    def location_folder(self) -> str:
        """The folder that every stored location lies in, or what stands for it in a URL."""
        return os.path.dirname(self._base)

    def contains(self, path: Path) -> bool:
        """Return whether `path`, with all symbolic links followed, lies below the root."""
        return path.resolve().is_relative_to(self.path)

    def resolve(self, image: str) -> tuple[Path, str]:
        """The file that `image`, relative to the root, means, and its POSIX path relative to the root.

        Raises:
            OutsideRoot: the file lies elsewhere; also for URLs and for names that no file can have.
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
