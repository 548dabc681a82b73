"""Building a version in its own collection, and waiting until it is indexed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from qdrant_client import AsyncQdrantClient, models

from vector_store.base import VersionWriter
from vector_store.catalog_version import BackendItems
from vector_store.errors import StoreUnavailableError, VersionConflictError
from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.catalogs import COMPLETE, QdrantCatalogs, collection_name
from vector_store.qdrant.client import engine_errors
from vector_store.qdrant.config import INDEXING_THRESHOLD_KB, INT8
from vector_store.qdrant.lease import WriterLease
from vector_store.qdrant.points import QdrantPoints
from vector_store.types import VersionInfo, VersionState
from vector_store.versions import wants_int8


async def wait_for_index(
    client: AsyncQdrantClient, collection: str, *, act: str, looks: int, poll_s: float, timeout_s: float
) -> None:
    """Return when the collection was green `looks` times in a row.

    `act` names what waits for it. A server that was started again leaves a collection grey that has
    something to optimise, until anything changes it: that is done here.

    Raises:
        StoreUnavailableError: the optimiser failed, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    green = 0
    while True:
        with engine_errors(act):
            info = await client.get_collection(collection)
        if info.status is models.CollectionStatus.RED:
            raise StoreUnavailableError(f"cannot {act}: Qdrant's optimiser failed: {info.optimizer_status}")
        if info.status is models.CollectionStatus.GREY:
            with engine_errors(act):
                await client.update_collection(collection, optimizers_config=models.OptimizersConfigDiff())
        green = green + 1 if info.status is models.CollectionStatus.GREEN else 0
        if green >= looks:
            return
        if time.monotonic() >= deadline:
            raise StoreUnavailableError(
                f"cannot {act}: collection {collection!r} is {info.status.value}, not green, after "
                f"{timeout_s:.0f} s; wait until Qdrant has indexed it and try again, or allow more time"
            )
        await asyncio.sleep(poll_s)


# The optimiser starts a moment after a change, so one look at a green light proves nothing.
_GREEN_LOOKS = 3


class QdrantWriter(BackendItems, VersionWriter):
    """Writer of a version that is being built, as long as it holds the lease, which it returns."""

    def __init__(
        self,
        info: VersionInfo,
        client: AsyncQdrantClient,
        catalogs: QdrantCatalogs,
        lease: WriterLease,
        *,
        options: QdrantOptions,
        quantize_above_bytes: int,
        local: bool,
    ) -> None:
        self._collection = collection_name(info.catalog, info.version)
        self._name = info.label
        super().__init__(info, QdrantPoints(client, self._collection, self._name, local=local))
        self._client = client
        self._catalogs = catalogs
        self._lease = lease
        self._options = options
        self._quantize_above_bytes = quantize_above_bytes
        self._open = True

    async def notes(self) -> dict[str, str]:
        self._check_open()
        return await self._catalogs.notes(self.info)

    async def note(self, key: str, text: str) -> None:
        self._check_open()
        await self._lease.hold()
        await self._catalogs.note(self.info, {key: text})

    async def _changing(self) -> None:
        await self._lease.hold()

    async def finish(self) -> VersionInfo:
        self._check_open()
        try:
            await self._lease.confirm()
            self._open = False
            points, image_length = await self._engine.count(None), await self._image_length()
            int8 = wants_int8(self.info.spec, points, self._quantize_above_bytes)
            act = f"build the index of {self._name}"
            with engine_errors(act):
                await self._client.update_collection(
                    self._collection,
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD_KB),
                    quantization_config=INT8 if int8 else None,
                )
            await wait_for_index(
                self._client,
                self._collection,
                act=act,
                looks=_GREEN_LOOKS,
                poll_s=self._options.poll_s,
                timeout_s=self._options.index_timeout_s,
            )
            await self._lease.confirm()
            self.info = replace(self.info, points=points, image_length=image_length, state=VersionState.READY)
            await self._catalogs.note(self.info, dict.fromkeys(await self._catalogs.notes(self.info), ""))
            await self._catalogs.set_state(self.info, COMPLETE)
            return self.info
        finally:
            self._open = False
            await self._lease.release()

    async def abort(self) -> None:
        self._check_open()
        self._open = False
        await self._lease.release()
        await self._catalogs.remove(self.info.catalog, self.info.version)

    async def close(self) -> None:
        self._open = False
        await self._lease.release()

    def _check_open(self) -> None:
        if not self._open:
            raise VersionConflictError(f"the writer of {self._name} is closed; resume the version to go on")
        self._lease.check()
