"""An item on its way: found, read, embedded, and the hashes by which it is recognized in the next run.

One object carries an item, so that its parts cannot be mixed up. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from cir.fields import Payload
from indexer.sources.base import SourceItem


class Change(StrEnum):
    """NEW and CHANGED items are encoded, the others keep their features. CARRIED ones the source lacks."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    RENAMED = "renamed"
    PAYLOAD = "payload_only"
    CARRIED = "carried"

    @property
    def encoded(self) -> bool:
        """Return whether the image had to be encoded."""
        return self in (Change.NEW, Change.CHANGED)


@dataclass(frozen=True, slots=True)
class ContentStamp:
    """Identity of an image: hash of its bytes, and size and time of change where it is a file.

    A `mtime_ns` of -1 matches nothing, so that the bytes are read the next time.
    """

    content: str = ""
    size: int = -1
    mtime_ns: int = -1


NO_STAMP = ContentStamp()


@dataclass(frozen=True, slots=True)
class LoadedItem:
    """An item with the bytes of its image."""

    item: SourceItem
    content: bytes
    stamp: ContentStamp = field(default=NO_STAMP, compare=False)
    change: Change = field(default=Change.NEW, compare=False)


@dataclass(frozen=True, slots=True)
class KnownItem:
    """An item whose features are there already: those of item `known_as` of the version built upon, or,
    where that is empty, those that its partition made."""

    item: SourceItem
    stamp: ContentStamp
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
    stamp: ContentStamp = NO_STAMP
    change: Change = Change.NEW


def content_hash(content: bytes) -> str:
    """The identity of an image's bytes: BLAKE2b, 40 hexadecimal digits."""
    return blake2b(content, digest_size=20).hexdigest()


def payload_hash(payload: Payload, image: str) -> str:
    """The identity of everything stored with an item but its vector; the order of fields does not matter."""
    text = json.dumps([image, _plain(payload)], sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(element) for name, element in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(element) for element in value]
    return value
