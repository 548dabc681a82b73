"""Points in and points out: what an item is to a store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A value of the payload. Datetimes travel as RFC 3339 strings, geo points as {"lat": .., "lon": ..}.
PayloadValue = str | int | float | bool | None | Mapping[str, float] | Sequence["PayloadValue"]
Payload = Mapping[str, PayloadValue]

_NAMESPACE = uuid.UUID("5b1c3c1e-0d6f-4a55-9c5a-6d0f6f6a3c42")


def point_id(item_id: str) -> str:
    """The engine's id of an item: a UUID that depends on the item id alone, the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Items to write, row i of every member belonging to the same item.

    `features` is float32 (n, d), the raw features of the model. The store keeps the L2-normalised
    vector and the norm. `images` are the items' image locations, empty where unknown.
    """

    ids: Sequence[str]
    features: NDArray[np.float32]
    payloads: Sequence[Payload]
    images: Sequence[str]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.features), len(self.payloads), len(self.images)}
        if len(lengths) != 1:
            raise ValueError(f"ids, features, payloads and images differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class PayloadBatch:
    """New payloads of items that are stored already, row i of every member belonging to the same item.

    Each replaces the whole payload of its item. `images` replaces the image locations, None keeps them.
    """

    ids: Sequence[str]
    payloads: Sequence[Payload]
    images: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.payloads), len(self.ids if self.images is None else self.images)}
        if len(lengths) != 1:
            raise ValueError(f"ids, payloads and images differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Item:
    """A stored item. `features` are raw (vector times norm), float32 (d,), None unless asked for.

    `online` says that it was written into the finished version, not when that was built.
    """

    id: str
    payload: Payload
    image: str
    norm: float
    features: NDArray[np.float32] | None = None
    online: bool = False


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item with its cosine similarity to the query, in [-1, 1]."""

    item: Item
    score: float


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a payload field and how many items have it."""

    value: str | int | bool
    count: int
