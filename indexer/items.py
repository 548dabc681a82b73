"""An item on its way: found, read, embedded. One object carries it, so its parts cannot be mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vector_store.points import Payload


@dataclass(frozen=True, slots=True)
class SourceItem:
    """An item as a source describes it. `image` is the location that is stored, `path` the file to read."""

    id: str
    path: Path
    image: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class LoadedItem:
    """An item with the bytes of its picture."""

    item: SourceItem
    content: bytes


@dataclass(frozen=True, slots=True)
class EmbeddedItem:
    """An item with its raw features, float32 (d,)."""

    item: SourceItem
    features: NDArray[np.float32]


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
