"""The store on a Qdrant server or cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from weakref import WeakSet

from qdrant_client import AsyncQdrantClient, models

from vector_store.base import CatalogVersion, VectorStore
from vector_store.catalog_version import BackendVersion
from vector_store.errors import (
    CatalogNotFoundError,
    InvalidQueryError,
    StoreUnavailableError,
    VersionConflictError,
)
from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.catalogs import BUILDING, DROPPED, QdrantCatalogs, collection_name
from vector_store.qdrant.client import AlreadyExistsError, engine_errors
from vector_store.qdrant.config import field_indexes, hnsw_config, quantization_config, vector_params
from vector_store.qdrant.lease import WriterLease, held_by
from vector_store.qdrant.points import QdrantPoints
from vector_store.qdrant.writer import QdrantWriter, wait_for_index
from vector_store.types import CatalogInfo, VersionInfo, VersionSpec, VersionState, check_catalog_name
from vector_store.validation import check_spec
from vector_store.versions import (
    QUANTIZE_ABOVE_BYTES,
    PublishHistory,
    check_rollback,
    next_version,
    versions_to_drop,
)

# Other processes may create versions at the same moment.
_TRIES = 5

# Seconds that running calls have to finish when the store is closed.
_CLOSE_GRACE_S = 10.0


class QdrantStore(VectorStore):
    """Catalogs on the server behind `client`, which the store owns and closes.

    A dropped version that is being read in this process is hidden, and deleted when the last reader is done.
    Readers in other processes are not known here: `keep` is what protects them.

    `local` says that the client is in its local mode, which has no indexes and warns when one is asked for.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        location: str,
        options: QdrantOptions = QdrantOptions(),
        quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES,
        local: bool = False,
    ) -> None:
        self._client = client
        self._location = location
        self._quantize_above_bytes = quantize_above_bytes
        self._local = local
        self._options = options
        self._catalogs = QdrantCatalogs(client)
        self._pins: Counter[tuple[str, str]] = Counter()
        self._hidden: set[tuple[str, str]] = set()
        # Versions that are known to be marked as changed online.
        self._marked: set[tuple[str, str]] = set()
        self._writers: WeakSet[QdrantWriter] = WeakSet()
        self._closed = False

    async def list_catalogs(self) -> list[CatalogInfo]:
        self._check_open()
        names = list(await self._catalogs.collections())
        found = await asyncio.gather(
            *(self._catalogs.versions(name) for name in names), return_exceptions=True
        )
        infos = []
        for name, versions in zip(names, found, strict=True):
            if isinstance(versions, CatalogNotFoundError):
                continue
            if isinstance(versions, BaseException):
                raise versions
            published = [v for v in versions if v.state is VersionState.PUBLISHED]
            infos.append(CatalogInfo(name, published[0] if published else None))
        return infos

    async def get_catalog(self, catalog: str) -> CatalogInfo:
        self._check_open()
        try:
            return CatalogInfo(catalog, await self._catalogs.published(catalog))
        except CatalogNotFoundError:
            await self._catalogs.versions(catalog)
            return CatalogInfo(catalog, None)

    async def list_versions(self, catalog: str) -> list[VersionInfo]:
        self._check_open()
        return await self._catalogs.versions(catalog)

    @asynccontextmanager
    async def open_version(self, catalog: str, version: str = "") -> AsyncIterator[CatalogVersion]:
        self._check_open()
        if version:
            info = await self._catalogs.version(catalog, version)
            if info.state is VersionState.BUILDING:
                raise VersionConflictError(f"{info.label} is still being built")
        else:
            info = await self._catalogs.published(catalog)
        key = (info.catalog, info.version)
        self._pins[key] += 1
        try:
            points = QdrantPoints(self._client, collection_name(*key), info.label, local=self._local)
            yield BackendVersion(info, points, before_change=partial(self._mark_changed, info))
        finally:
            self._pins[key] -= 1
            if not self._pins[key]:
                del self._pins[key]
                if key in self._hidden:
                    self._hidden.discard(key)
                    await self._catalogs.remove(*key)

    async def create_version(self, catalog: str, spec: VersionSpec) -> QdrantWriter:
        self._check_open()
        try:
            check_catalog_name(catalog)
        except ValueError as error:
            raise InvalidQueryError(str(error), field="catalog") from None
        check_spec(spec)
        for attempt in range(_TRIES):
            existing = (await self._catalogs.collections()).get(catalog, [])
            given = await self._catalogs.given_out(catalog)
            info = VersionInfo(
                catalog,
                next_version([*existing, *given]),
                VersionState.BUILDING,
                spec,
                points=0,
                created=datetime.now(UTC),
            )
            lease = self._lease(info)
            if await self._claim(info, lease):
                break
            if attempt == _TRIES - 1:
                raise StoreUnavailableError(f"others keep creating versions of catalog {catalog!r}")
        lease.start()
        return await self._writer(info, lease)

    async def resume_version(self, catalog: str, version: str) -> QdrantWriter:
        self._check_open()
        info = await self._catalogs.version(catalog, version)
        if info.state is not VersionState.BUILDING:
            raise VersionConflictError(
                f"{info.label} is {info.state}, and only a version being built can be resumed"
            )
        lease = self._lease(info)
        await lease.take()
        # Again, because its creator may have died before it had made them all.
        return await self._writer(info, lease)

    async def publish(self, catalog: str, version: str, *, keep: int = 3) -> VersionInfo:
        self._check_open()
        if keep < 0:
            raise InvalidQueryError(f"keep {keep}: expected 0 or more", field="keep")
        info = await self._catalogs.version(catalog, version)
        if info.state is VersionState.BUILDING:
            raise VersionConflictError(f"{info.label} is still being built; finish it before publishing")
        await wait_for_index(
            self._client,
            collection_name(catalog, version),
            act=f"publish {info.label}",
            looks=1,
            poll_s=self._options.poll_s,
            timeout_s=self._options.publish_timeout_s,
        )
        history = (await self._catalogs.history(catalog)).publish(version)
        versions = await self._catalogs.versions(catalog)
        complete = [v.version for v in versions if v.state is not VersionState.BUILDING]
        dropped = versions_to_drop(history, complete, keep)
        await self._catalogs.write_history(catalog, history.forget(dropped))
        await self._drop([v for v in versions if v.version in dropped])
        await self._sweep(catalog)
        return await self._catalogs.version(catalog, version)

    async def rollback(self, catalog: str) -> VersionInfo:
        self._check_open()
        known = {info.version: info for info in await self._catalogs.versions(catalog)}
        now = await self._catalogs.history(catalog)
        try:
            history = now.rollback()
        except LookupError:
            raise VersionConflictError(f"catalog {catalog!r} has no earlier version to go back to") from None
        if history.published in known:
            check_rollback(known.get(now.published), known[history.published])
        await self._catalogs.write_history(catalog, history)
        return await self._catalogs.version(catalog, history.published)

    async def delete_version(self, catalog: str, version: str) -> None:
        self._check_open()
        info = await self._catalogs.version(catalog, version)
        history = await self._catalogs.history(catalog)
        if info.state is VersionState.PUBLISHED:
            raise VersionConflictError(f"{info.label} is published; publish another one first")
        if info.state is VersionState.BUILDING:
            collection = collection_name(catalog, version)
            if holder := await held_by(self._client, collection, self._options.lease_s):
                raise VersionConflictError(f"{info.label} is in use by {holder} (building it); stop it first")
        await self._catalogs.write_history(catalog, history.forget([version]))
        await self._drop([info])

    async def delete_catalog(self, catalog: str) -> None:
        self._check_open()
        versions = await self._catalogs.versions(catalog)
        await self._catalogs.write_history(catalog, PublishHistory())
        await self._drop(versions)
        await self._sweep(catalog)

    async def check(self) -> Mapping[str, str]:
        self._check_open()
        with engine_errors(f"reach Qdrant at {self._location}"):
            info = await self._client.info()
        return {"engine": "qdrant", "version": info.version, "location": self._location}

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for writer in list(self._writers):
                await writer.close()
            await self._client.close(grpc_grace=_CLOSE_GRACE_S)

    async def _claim(self, info: VersionInfo, lease: WriterLease) -> bool:
        """Return whether the id of a new version is this writer's: no other version has or had it."""
        try:
            await self._create_collection(info, lease)
        except AlreadyExistsError:
            if not await lease.is_noted():
                return False
            # An answer was lost on its way, and the call was made again.
        if await self._catalogs.give_out(info.catalog, info.version):
            return True
        # Made, noted and dropped by another process since its number was chosen here.
        await self._catalogs.remove(info.catalog, info.version)
        return False

    async def _create_collection(self, info: VersionInfo, lease: WriterLease) -> None:
        placement = info.spec.index.placement.over(self._options.placement)
        with engine_errors(f"create {info.label}"):
            await self._client.create_collection(
                collection_name(info.catalog, info.version),
                vectors_config=vector_params(info.spec),
                hnsw_config=hnsw_config(info.spec),
                quantization_config=quantization_config(info.spec),
                # No index while items stream in: it is built once, when the version is finished.
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
                metadata=self._catalogs.metadata(info, BUILDING) | lease.note(),
                on_disk_payload=info.spec.index.payload_on_disk,
                shard_number=placement.shards or None,
                replication_factor=placement.replicas or None,
                write_consistency_factor=placement.write_consistency or None,
            )

    async def _create_indexes(self, info: VersionInfo) -> None:
        if self._local:
            return
        for path, kind in field_indexes(info.spec).items():
            with engine_errors(f"index a field of {info.label}"):
                await self._client.create_payload_index(
                    collection_name(info.catalog, info.version), field_name=path, field_schema=kind, wait=True
                )

    async def _drop(self, versions: Sequence[VersionInfo]) -> None:
        """Delete versions; those that are being read here are hidden first and deleted afterwards."""
        for info in versions:
            key = (info.catalog, info.version)
            # Again, because its creator may have died before it had noted it.
            await self._catalogs.give_out(*key)
            if self._pins[key]:
                self._hidden.add(key)
                await self._catalogs.set_state(info, DROPPED)
            else:
                await self._catalogs.remove(info.catalog, info.version)

    async def _sweep(self, catalog: str) -> None:
        """Delete what was hidden and is read here no more, also by a process that died before it could."""
        for version in await self._catalogs.dropped(catalog):
            if not self._pins[(catalog, version)]:
                await self._catalogs.remove(catalog, version)

    async def _mark_changed(self, info: VersionInfo) -> None:
        key = (info.catalog, info.version)
        if key not in self._marked and not info.changed_online:
            await self._catalogs.mark_changed(info)
            self._marked.add(key)

    def _lease(self, info: VersionInfo) -> WriterLease:
        return WriterLease(
            self._client,
            collection_name(info.catalog, info.version),
            info.label,
            lease_s=self._options.lease_s,
            confirm_s=self._options.poll_s,
        )

    async def _writer(self, info: VersionInfo, lease: WriterLease) -> QdrantWriter:
        """The holder of a lease writes once the payload indexes are there; if they fail, the lease goes."""
        try:
            await self._create_indexes(info)
        except BaseException:
            await lease.release()
            raise
        writer = QdrantWriter(
            info,
            self._client,
            self._catalogs,
            lease,
            options=self._options,
            quantize_above_bytes=self._quantize_above_bytes,
            local=self._local,
        )
        self._writers.add(writer)
        return writer

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
