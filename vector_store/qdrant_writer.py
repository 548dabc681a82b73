"""Building a version in its own collection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from qdrant_client import AsyncQdrantClient, models

from vector_store.auto_quantization import wants_int8
from vector_store.catalogs import VersionInfo, VersionState
from vector_store.contract import VersionWriter
from vector_store.engine_reader import delete_items
from vector_store.errors import StoreUnavailable, VersionConflict
from vector_store.points import PointBatch
from vector_store.qdrant_catalogs import COMPLETE, QdrantCatalogs
from vector_store.qdrant_config import INDEXING_THRESHOLD_KB, INT8
from vector_store.qdrant_errors import engine_errors
from vector_store.qdrant_names import collection_name
from vector_store.qdrant_points import QdrantPoints
from vector_store.stored_point import encode_points

# The optimiser starts a moment after a change, so one look at a green light proves nothing.
_GREEN_LOOKS = 3


class QdrantWriter(VersionWriter):
    """Writes to a version that is being built; `poll_s` is the time between looks at the optimiser."""

    def __init__(
        self,
        info: VersionInfo,
        client: AsyncQdrantClient,
        catalogs: QdrantCatalogs,
        *,
        quantize_above_bytes: int,
        poll_s: float,
        local: bool,
    ) -> None:
        self.info = info
        self._client = client
        self._catalogs = catalogs
        self._quantize_above_bytes = quantize_above_bytes
        self._poll_s = poll_s
        self._collection = collection_name(info.catalog, info.version)
        self._name = f"version {info.version} of catalog {info.catalog!r}"
        self._points = QdrantPoints(client, self._collection, self._name, local=local)
        self._open = True

    async def upsert(self, batch: PointBatch) -> None:
        self._check_open()
        if len(batch):
            await self._points.upsert(await asyncio.to_thread(encode_points, batch, self.info.spec))

    async def delete(self, ids: Sequence[str]) -> int:
        self._check_open()
        return await delete_items(self._points, ids)

    async def count(self) -> int:
        self._check_open()
        return await self._points.count(None)

    async def finish(self) -> VersionInfo:
        self._check_open()
        self._open = False
        points = await self._points.count(None)
        int8 = wants_int8(self.info.spec, points, self._quantize_above_bytes)
        with engine_errors(f"build the index of {self._name}"):
            await self._client.update_collection(
                self._collection,
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD_KB),
                quantization_config=INT8 if int8 else None,
            )
        await self._wait_until_indexed()
        self.info = replace(self.info, points=points, state=VersionState.READY)
        await self._catalogs.set_state(self.info, COMPLETE)
        return self.info

    async def abort(self) -> None:
        self._check_open()
        self._open = False
        await self._catalogs.remove(self.info.catalog, self.info.version)

    async def close(self) -> None:
        self._open = False

    async def _wait_until_indexed(self) -> None:
        green = 0
        while green < _GREEN_LOOKS:
            with engine_errors(f"build the index of {self._name}"):
                info = await self._client.get_collection(self._collection)
            if info.status is models.CollectionStatus.RED:
                raise StoreUnavailable(
                    f"Qdrant failed to build the index of {self._name}: {info.optimizer_status}"
                )
            green = green + 1 if info.status is models.CollectionStatus.GREEN else 0
            if green < _GREEN_LOOKS:
                await asyncio.sleep(self._poll_s)

    def _check_open(self) -> None:
        if not self._open:
            raise VersionConflict(f"the writer of {self._name} is closed; resume the version to go on")
