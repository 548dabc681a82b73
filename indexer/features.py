"""Features that need no encoding: kept in the ledger, made by partitions, or in the version built upon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.base import Base
from indexer.items import EmbeddedItem, KnownItem, LoadedItem, Reject
from indexer.ledger import Ledger
from indexer.parts import Parts
from indexer.reader import read_image
from vector_store.types import Item


class KnownFeatures:
    """Gives items their features of a model; `remark` hears when the base cannot be opened for that."""

    def __init__(
        self,
        ledger: Ledger,
        fingerprint: str,
        base: Base | None,
        remark: Callable[[str], None],
        parts: Parts | None = None,
    ) -> None:
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._base = base
        self._remark = remark
        self._parts = parts
        self._remarked = False

    async def take(
        self, items: Sequence[KnownItem], max_bytes: int
    ) -> tuple[list[EmbeddedItem], list[LoadedItem | Reject]]:
        """Items with their features, and those to encode after all, with their bytes.

        The latter were deleted or replaced in the base by somebody else, or the base is open in another
        process and no features were kept.
        """
        kept = await asyncio.to_thread(self._kept, items)
        pairs = zip(items, kept, strict=True)
        wanted = sorted({item.known_as for item, features in pairs if features is None and item.known_as})
        stored = await self._stored(wanted) if wanted else {}
        taken: list[EmbeddedItem] = []
        left: list[KnownItem] = []
        for item, features in zip(items, kept, strict=True):
            found = features
            if found is None and item.known_as in stored:
                found = stored[item.known_as].features
            if found is None:
                left.append(item)
            else:
                taken.append(EmbeddedItem(item.item, found, item.stamp, item.change))
        return taken, await asyncio.to_thread(_read_all, left, max_bytes)

    async def _stored(self, ids: Sequence[str]) -> dict[str, Item]:
        if self._base is None:
            return {}
        reader = await self._base.reader()
        if reader is not None:
            stored = await reader.retrieve(ids, with_features=True)
            return {item_id: item for item_id, item in stored.items() if not item.online}
        if not self._remarked:
            self._remarked = True
            self._remark(f"pictures that have not changed are encoded again: {self._base.locked}")
        return {}

    def _kept(self, items: Sequence[KnownItem]) -> list[NDArray[np.float32] | None]:
        return [self._kept_of(item.item.id, item.stamp.content) for item in items]

    def _kept_of(self, item_id: str, content: str) -> NDArray[np.float32] | None:
        kept = self._ledger.kept_features(self._fingerprint, content)
        if kept is None and self._parts is not None:
            return self._parts.features(item_id, content)
        return kept


def _read_all(items: Sequence[KnownItem], max_bytes: int) -> list[LoadedItem | Reject]:
    loaded = (read_image(item.item, max_bytes) for item in items)
    return [
        entry
        if isinstance(entry, Reject)
        else LoadedItem(entry.item, entry.content, entry.stamp, item.change)
        for item, entry in zip(items, loaded, strict=True)
    ]
