"""The items of a version over any engine: checks, encoding, decoding."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from vector_store.catalogs import VersionInfo
from vector_store.contract import VersionItems
from vector_store.errors import InvalidQuery
from vector_store.filter_check import check_filter
from vector_store.filters import Filter
from vector_store.points import Item, PayloadBatch, PointBatch, point_id
from vector_store.points_engine import PointsEngine
from vector_store.stored_point import check_item_id, decode_item, encode_payloads, encode_points

# Items that are checked and encoded in the time that a thread would take to start on them.
_FEW = 16


class EngineItems(VersionItems):
    """Reads and changes items through `engine`. What is open and what goes with changes is the subclass's."""

    # Whether the version is finished.
    _online = False

    def __init__(self, info: VersionInfo, engine: PointsEngine) -> None:
        self.info = info
        self._engine = engine

    def _check_open(self) -> None:
        """Raise where nothing more may be read or written."""

    async def _changing(self) -> None:
        """Runs before each change; what it raises forbids it."""

    async def _changed(self, items: int) -> None:
        """Runs after each change, with the number of items that were given."""

    async def retrieve(self, ids: Sequence[str], *, with_features: bool = False) -> dict[str, Item]:
        self._check_open()
        for item_id in ids:
            check_item_id(item_id)
        if not ids:
            return {}
        engine_ids = [point_id(item_id) for item_id in dict.fromkeys(ids)]
        records = await self._engine.retrieve(engine_ids, with_vectors=with_features)
        items = {item.id: item for item in (decode_item(r.payload, r.vector) for r in records)}
        return {item_id: items[item_id] for item_id in ids if item_id in items}

    async def scroll(
        self, *, limit: int, after: str = "", where: Filter | None = None, with_features: bool = False
    ) -> tuple[list[Item], str]:
        self._check_open()
        if limit < 1:
            raise InvalidQuery(f"limit {limit}: expected 1 or more", field="limit")
        if after:
            after = _cursor(after)
        check_filter(where, self.info.spec.schema)
        records, cursor = await self._engine.scroll(
            limit=limit, after=after, where=where, with_vectors=with_features
        )
        return [decode_item(r.payload, r.vector) for r in records], cursor

    async def count(self, where: Filter | None = None) -> int:
        self._check_open()
        check_filter(where, self.info.spec.schema)
        return await self._engine.count(where)

    async def upsert(self, batch: PointBatch) -> None:
        self._check_open()
        if not len(batch):
            return
        if len(batch) <= _FEW:
            points = encode_points(batch, self.info.spec, online=self._online)
        else:
            points = await asyncio.to_thread(encode_points, batch, self.info.spec, online=self._online)
        await self._changing()
        await self._engine.upsert(points)
        await self._changed(len(batch))

    async def set_payloads(self, batch: PayloadBatch) -> int:
        self._check_open()
        if not len(batch):
            return 0
        documents = encode_payloads(batch, self.info.spec)
        found = await self._engine.retrieve(list(documents), with_vectors=False)
        existing = {point_id(record.payload["id"]) for record in found}
        if existing:
            await self._changing()
            await self._engine.set_payloads({key: documents[key] for key in documents if key in existing})
            await self._changed(len(existing))
        return len(existing)

    async def delete(self, ids: Sequence[str]) -> int:
        self._check_open()
        for item_id in ids:
            check_item_id(item_id)
        if not ids:
            return 0
        engine_ids = [point_id(item_id) for item_id in dict.fromkeys(ids)]
        existed = len(await self._engine.retrieve(engine_ids, with_vectors=False))
        if existed:
            await self._changing()
            await self._engine.delete(engine_ids)
            await self._changed(existed)
        return existed

    async def delete_where(self, where: Filter) -> int:
        self._check_open()
        if not where:
            raise InvalidQuery(
                "the filter is empty and would delete every item; delete the version or catalog instead",
                field="where",
            )
        check_filter(where, self.info.spec.schema)
        existed = await self._engine.count(where)
        if existed:
            await self._changing()
            await self._engine.delete_where(where)
            await self._changed(existed)
        return existed


def _cursor(after: str) -> str:
    try:
        return str(uuid.UUID(after))
    except ValueError:
        raise InvalidQuery(f"{after!r} is not a cursor that scroll returned", field="after") from None
