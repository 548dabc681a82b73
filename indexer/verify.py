"""Proving a finished version before anyone is sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from heapq import heappush, heapreplace

import numpy as np

from indexer.errors import VersionIncomplete
from indexer.items import EmbeddedItem
from vector_store.base import CatalogVersion, SearchOptions, VectorStore
from vector_store.types import version_label

# Quantised or half-precision storage may move a vector a little; another item's vector is further away.
_SAME = 0.999


class Sample:
    """A few items that do not depend on the order in which they come: those whose ids hash lowest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str, EmbeddedItem]] = []

    def offer(self, items: Sequence[EmbeddedItem]) -> None:
        """Consider items; ids never repeat within a run."""
        for item in items if self._size else ():
            digest = blake2b(item.item.id.encode(), digest_size=8).digest()
            entry = (-int.from_bytes(digest), item.item.id, item)
            if len(self._heap) < self._size:
                heappush(self._heap, entry)
            elif entry > self._heap[0]:
                heapreplace(self._heap, entry)

    @property
    def items(self) -> list[EmbeddedItem]:
        """The sample, by id."""
        return sorted((item for _, _, item in self._heap), key=lambda item: item.item.id)


async def verify_version(store: VectorStore, catalog: str, version: str, sample: Sample, points: int) -> None:
    """Count the version's items, read the sample back and search for it.

    Raises `VersionIncomplete` unless there are exactly `points` items, and each item of the sample has its
    payload, image and features, and is found first by its own features (or shares the first place with an
    item that looks the same).
    """
    async with store.reader(catalog, version) as reader:
        count = await reader.count()
        if count != points:
            raise VersionIncomplete(
                f"{version_label(catalog, version)} holds {count} items where {points} were indexed"
            )
        stored = await reader.retrieve([entry.item.id for entry in sample.items], with_features=True)
        for entry in sample.items:
            found = stored.get(entry.item.id)
            if (
                found is None
                or found.image != entry.item.image
                or dict(found.payload) != dict(entry.item.payload)
                or found.features is None
                or _cosine(found.features, entry.features) < _SAME
            ):
                raise VersionIncomplete(
                    f"item {entry.item.id!r} of {version_label(catalog, version)} does not read back "
                    "as it was written"
                )
            await _search_itself(reader, entry)


async def _search_itself(reader: CatalogVersion, entry: EmbeddedItem) -> None:
    best = await reader.query(entry.features, limit=1, options=SearchOptions(exact=True))
    if not best or (best[0].item.id != entry.item.id and best[0].score < _SAME):
        raise VersionIncomplete(f"item {entry.item.id!r} is not found by its own features")


def _cosine(a: np.typing.NDArray[np.float32], b: np.typing.NDArray[np.float32]) -> float:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float(a64 @ b64 / (np.linalg.norm(a64) * np.linalg.norm(b64)))
