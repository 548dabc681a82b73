"""Building a version in its own collection."""

from __future__ import annotations

from dataclasses import replace

from qdrant_client import AsyncQdrantClient, models

from vector_store.auto_quantization import wants_int8
from vector_store.catalogs import VersionInfo, VersionState
from vector_store.contract import VersionWriter
from vector_store.engine_items import EngineItems
from vector_store.errors import VersionConflict
from vector_store.qdrant_catalogs import COMPLETE, QdrantCatalogs
from vector_store.qdrant_config import INDEXING_THRESHOLD_KB, INT8
from vector_store.qdrant_errors import engine_errors
from vector_store.qdrant_green import wait_until_green
from vector_store.qdrant_lease import WriterLease
from vector_store.qdrant_names import collection_name
from vector_store.qdrant_options import QdrantOptions
from vector_store.qdrant_points import QdrantPoints

# The optimiser starts a moment after a change, so one look at a green light proves nothing.
_GREEN_LOOKS = 3


class QdrantWriter(EngineItems, VersionWriter):
    """Writes to a version that is being built, as long as it holds the lease, which it gives back."""

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
        self._name = f"version {info.version} of catalog {info.catalog!r}"
        super().__init__(info, QdrantPoints(client, self._collection, self._name, local=local))
        self._client = client
        self._catalogs = catalogs
        self._lease = lease
        self._options = options
        self._quantize_above_bytes = quantize_above_bytes
        self._open = True

    async def finish(self) -> VersionInfo:
        self._check_open()
        try:
            await self._lease.confirm()
            self._open = False
            points = await self._engine.count(None)
            int8 = wants_int8(self.info.spec, points, self._quantize_above_bytes)
            act = f"build the index of {self._name}"
            with engine_errors(act):
                await self._client.update_collection(
                    self._collection,
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD_KB),
                    quantization_config=INT8 if int8 else None,
                )
            await wait_until_green(
                self._client,
                self._collection,
                act=act,
                looks=_GREEN_LOOKS,
                poll_s=self._options.poll_s,
                timeout_s=self._options.index_timeout_s,
            )
            await self._lease.confirm()
            self.info = replace(self.info, points=points, state=VersionState.READY)
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
            raise VersionConflict(f"the writer of {self._name} is closed; resume the version to go on")
        self._lease.check()
