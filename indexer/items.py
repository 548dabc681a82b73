"""An item on its way: found, read, embedded. One object carries it, so its parts cannot be mixed up."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.changes import Change
from indexer.picture import Location, Picture
from vector_store.types import Payload


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a picture is known again: hash of its bytes, and size and time of change where it is a file.

    A `mtime_ns` of -1 matches nothing, so that the bytes are read the next time.
    """

    content: str = ""
    size: int = -1
    mtime_ns: int = -1


NO_STAMP = Stamp()


@dataclass(frozen=True, slots=True)
class SourceItem:
    """An item as a source describes it. `image` is the location that is stored, `path` the file to read, or
    another place of a picture (`indexer.picture`)."""

    id: str
    path: Location
    image: str
    payload: Payload

    @property
    def picture(self) -> Picture:
        """Where the bytes come from."""
        return Picture.of(self.path)


@dataclass(frozen=True, slots=True)
class LoadedItem:
    """An item with the bytes of its picture."""

    item: SourceItem
    content: bytes
    stamp: Stamp = field(default=NO_STAMP, compare=False)
    change: Change = field(default=Change.NEW, compare=False)


@dataclass(frozen=True, slots=True)
class KnownItem:
    """An item whose features are there already: those of item `known_as` of the version built upon, or,
    where that is empty, those that its partition made."""

    item: SourceItem
    stamp: Stamp
    change: Change
    known_as: str = ""


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """An item that an interrupted run has already written to the version being built."""

    item: SourceItem
    change: Change


@dataclass(frozen=True, slots=True)
class EmbeddedItem:
    """An item with its raw features, float32 (d,)."""

    item: SourceItem
    features: NDArray[np.float32]
    stamp: Stamp = NO_STAMP
    change: Change = Change.NEW


@dataclass(frozen=True, slots=True)
class Reject:
    """An item that is left out, and why.

    `reason` is a name of `indexer.reasons` or of `cir.common.v1.ErrorReason`; `bytes` is how many bytes of
    the picture were read, None when none were.
    """

    id: str
    image: str
    reason: str
    message: str
    bytes: int | None = None
