"""Catalogs and versions that are made by calls: created, finished, dropped, and given further fields.

What takes longer than its call does not end with it: the same call again waits for the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from cir.common.v1 import errors_pb2 as errors
from cir.fields import FieldType
from cir.models import model_facts
from search_service.embedder_client import EmbedderClient
from search_service.import_progress import ImportProgress, imports_of
from search_service.store import resume_version, write_conflict
from search_service.tasks import Tasks
from search_service.version_requests import Finishing, NewVersion, WantedModel, add_fields
from service_runtime.counted import counted
from service_runtime.errors import ServiceError
from vector_store.base import VectorStore, VersionWriter
from vector_store.copy import iterate_pages, to_batch
from vector_store.errors import CatalogNotFoundError, InvalidQueryError, StoreError
from vector_store.types import (
    CatalogInfo,
    IndexOptions,
    Item,
    PointBatch,
    VersionInfo,
    VersionSpec,
    VersionState,
)
from vector_store.validation import canonical_payload, check_payload
from vector_store.versions import version_number

T = TypeVar("T")

# Longest wait for the embedder's model, where it need not be asked.
_EMBEDDER_SECONDS = 2.0


class OnlineChanges:
    """Changes of published versions, which are held up while a catalog gets further fields."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        # Of catalogs whose changes are held up: set when none is under way any more.
        self._held_up: dict[str, asyncio.Event] = {}

    @contextmanager
    def change(self, catalog: str) -> Iterator[None]:
        """Count a change while the block lasts.

        Raises:
            ServiceError: WRITE_CONFLICT while changes are held up.
        """
        if catalog in self._held_up:
            raise write_conflict(
                f"catalog {catalog!r} is getting further fields and takes no changes meanwhile; try again"
            )
        self._running[catalog] += 1
        try:
            yield
        finally:
            self._running[catalog] -= 1
            if not self._running[catalog]:
                del self._running[catalog]
                if catalog in self._held_up:
                    self._held_up[catalog].set()

    @asynccontextmanager
    async def held_up(self, catalog: str) -> AsyncIterator[None]:
        """Refuse changes of a catalog while the block lasts, which begins when those under way have ended.

        Raises:
            ServiceError: WRITE_CONFLICT where another call does so.
        """
        with self.change(catalog):
            settled = self._held_up[catalog] = asyncio.Event()
        try:
            if self._running[catalog]:
                await settled.wait()
            yield
        finally:
            del self._held_up[catalog]


class Versions:
    """Creator of catalogs and versions over one store."""

    def __init__(self, store: VectorStore, embedder: EmbedderClient, changes: OnlineChanges) -> None:
        self._store = store
        self._embedder = embedder
        self._changes = changes
        self._finishing: dict[tuple[str, str], asyncio.Task[VersionInfo]] = {}
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks = Tasks()

    async def create_catalog(self, wanted: NewVersion, *, timeout: float) -> CatalogInfo:
        """Create a catalog with an empty version, and publish that.

        Raises:
            ServiceError: CATALOG_EXISTS, or the embedder has not the model, or cannot be asked.
            StoreError: The store cannot be used.
        """
        try:
            await self._store.get_catalog(wanted.catalog)
        except CatalogNotFoundError:
            spec = await self._spec(wanted, None, timeout)
            return await self._detached(self._create_catalog(wanted.catalog, spec))
        raise _exists(wanted.catalog)

    async def create_version(self, wanted: NewVersion, *, timeout: float) -> VersionInfo:
        """Start a version of a catalog; nobody writes it yet.

        Raises:
            ServiceError: The embedder has not the model, or cannot be asked.
            StoreError: The catalog does not exist, or the store cannot be used.
        """
        published = (await self._store.get_catalog(wanted.catalog)).published
        spec = await self._spec(wanted, published.spec if published else None, timeout)
        return await self._detached(self._create_version(wanted.catalog, spec))

    async def finish(self, wanted: Finishing, closed: Callable[[str, str], Awaitable[None]]) -> VersionInfo:
        """Return a version when it is finished; `closed` returns when no import writes it.

        Raises:
            ServiceError: VERSION_STATE where it does not hold the expected number of items, or holds none
                beside a published version with items and no number is expected.
            StoreError: The version does not exist, is being written, or the store cannot be used.
        """
        key = (wanted.catalog, wanted.version)
        while (other := self._finishing.get(key)) is not None:
            await asyncio.wait([other])  # it may have been told another number of items
        task = self._finishing[key] = self._tasks.spawn(self._finish(wanted, closed))
        task.add_done_callback(lambda _: self._finishing.pop(key, None))
        return await asyncio.shield(task)

    async def abort(self, catalog: str, version: str) -> None:
        """Drop a version that is being built.

        Raises:
            ServiceError: VERSION_STATE for one that is finished.
            StoreError: The version does not exist, or another process writes it.
        """
        info = await self._version(catalog, version)
        if info.state is not VersionState.BUILDING or (catalog, version) in self._finishing:
            state = "being finished" if info.state is VersionState.BUILDING else str(info.state)
            raise ServiceError(
                errors.VERSION_STATE,
                f"{info.label} is {state}; "
                "DeleteCatalogVersion drops a finished version that is not published",
                field="name",
            )
        await self._store.delete_version(catalog, version)

    async def add_fields(self, catalog: str, fields: Mapping[str, FieldType]) -> CatalogInfo:
        """Publish a version with the items of the published one and a schema of further fields.

        Raises:
            ServiceError: A field is there with another type, or does not fit an item.
            StoreError: Nothing is published, or the store cannot be used.
        """
        return await self._detached(self._add_fields(catalog, fields))

    async def _add_fields(self, catalog: str, fields: Mapping[str, FieldType]) -> CatalogInfo:
        async with self._changes.held_up(catalog):
            async with self._store.open_version(catalog) as published:
                info = published.info
                schema = add_fields(info.spec, fields)
                if schema == info.spec.schema:
                    return CatalogInfo(catalog, info)
                added = {name: kind for name, kind in fields.items() if name not in info.spec.schema}
                async for page in iterate_pages(published):
                    for item in page:
                        _check_fits(item, added)
                writer = await self._store.create_version(catalog, replace(info.spec, schema=schema))
                async with _dropped_on_error(writer):
                    async for page in iterate_pages(published, with_features=True):
                        await writer.upsert(_with_schema(page, schema))
                    finished = await writer.finish()
            return CatalogInfo(catalog, await self._store.publish(catalog, finished.version))

    async def close(self) -> None:
        """End what is under way: a version that is being finished stays as it is, to be finished again."""
        await self._tasks.close()

    async def _create_catalog(self, catalog: str, spec: VersionSpec) -> CatalogInfo:
        # One call after the other here: a store may list a version before an older one that is being made.
        async with self._creating.setdefault(catalog, asyncio.Lock()):
            writer = await self._store.create_version(catalog, spec)
            async with _dropped_on_error(writer):
                # Of two services that found no catalog, the one with the older version has created it.
                versions = await self._store.list_versions(catalog)
                mine = version_number(writer.info.version)
                if any(version_number(info.version) < mine for info in versions):
                    raise _exists(catalog)
                info = await writer.finish()
            return CatalogInfo(catalog, await self._store.publish(catalog, info.version))

    async def _create_version(self, catalog: str, spec: VersionSpec) -> VersionInfo:
        writer = await self._store.create_version(catalog, spec)
        await writer.close()
        return writer.info

    async def _finish(self, wanted: Finishing, closed: Callable[[str, str], Awaitable[None]]) -> VersionInfo:
        info = await self._version(wanted.catalog, wanted.version)
        if info.state is not VersionState.BUILDING:
            _check_count(info, info.points, wanted.expected_items)
            return info
        await closed(wanted.catalog, wanted.version)
        writer = await resume_version(self._store, wanted.catalog, wanted.version)
        try:
            items = await writer.count()
            imports = imports_of(await writer.notes())
            _check_count(writer.info, items, wanted.expected_items, imports.values())
            if not items and wanted.expected_items is None:
                await self._check_replaces_nothing(writer.info)
        except BaseException:
            await writer.close()
            raise
        return await writer.finish()

    async def _check_replaces_nothing(self, info: VersionInfo) -> None:
        """Refuse an empty version that nobody said is to be empty, where the published one has items."""
        for other in await self._store.list_versions(info.catalog):
            if other.state is VersionState.PUBLISHED and other.points:
                raise ServiceError(
                    errors.VERSION_STATE,
                    f"{info.label} has no items, and {other.label}, which is published, has {other.points}; "
                    "import its items first, or say that 0 items are expected if it is to be empty",
                    field="expected_item_count",
                )

    async def _version(self, catalog: str, version: str) -> VersionInfo:
        found = [info for info in await self._store.list_versions(catalog) if info.version == version]
        if not found:
            raise ServiceError(
                errors.VERSION_NOT_FOUND,
                f"catalog {catalog!r} has no version {version[:200]!r}",
                field="name",
            )
        return found[0]

    async def _spec(self, wanted: NewVersion, base: VersionSpec | None, timeout: float) -> VersionSpec:
        dimension, fingerprint, facts = await self._model(wanted.model, timeout)
        if not facts and base is not None and base.model_fingerprint == fingerprint:
            facts = base.model
        return VersionSpec(
            dimension=dimension,
            model_fingerprint=fingerprint,
            schema=dict((base.schema if base else {}) if wanted.schema is None else wanted.schema),
            model=facts,
            index=wanted.index or (base.index if base else IndexOptions()),
        )

    async def _model(self, wanted: WantedModel, timeout: float) -> tuple[int, str, Mapping[str, str]]:
        """Return dimension, fingerprint and facts of the model of a version."""
        try:
            seconds = min(timeout, _EMBEDDER_SECONDS) if wanted.dimension else timeout
            model = await self._embedder.info(timeout=seconds)
        except ServiceError:
            if wanted.dimension:
                return wanted.dimension, wanted.fingerprint, {}
            raise
        if wanted.fingerprint not in ("", model.fingerprint):
            if wanted.dimension:
                return wanted.dimension, wanted.fingerprint, {}
            raise ServiceError(
                errors.FINGERPRINT_MISMATCH,
                f"the embedder has model {model.fingerprint}, not {wanted.fingerprint}; leave model unset "
                "for the embedder's, or give model.dimension too where you send features of your own",
                field="model.fingerprint",
                metadata={"expected": wanted.fingerprint, "actual": model.fingerprint},
            )
        if wanted.dimension not in (0, model.dimension):
            raise ServiceError(
                errors.WRONG_DIMENSION,
                f"model.dimension is {wanted.dimension}, the vectors of model {model.fingerprint} have "
                f"{model.dimension} values",
                field="model.dimension",
            )
        return model.dimension, model.fingerprint, model_facts(model)

    async def _detached(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work that goes on when the call that wants it ends."""
        return await asyncio.shield(self._tasks.spawn(work))


def _exists(catalog: str) -> ServiceError:
    return ServiceError(
        errors.CATALOG_EXISTS,
        f"there is a catalog {catalog!r}; start a version of it with CreateCatalogVersion, or "
        "delete it first",
        field="catalog_id",
    )


def _check_count(
    info: VersionInfo, items: int, expected: int | None, imports: Iterable[ImportProgress] = ()
) -> None:
    if expected in (None, items):
        return
    advice = "go on with its import, or abort it"
    if repeated := [each for each in imports if each.replaced]:
        count = sum(each.replaced for each in repeated)
        came = counted(count, "item that was imported came", "items that were imported came")
        advice = (
            f"{came} with an id that the version had, such as {repeated[0].repeated_id!r}, and took the "
            f"place of the one before: expect {items} if that is meant, else {advice}"
        )
    raise ServiceError(
        errors.VERSION_STATE,
        f"{info.label} holds {counted(items, 'item', 'items')}, not {expected}; {advice}",
        field="expected_item_count",
    )


def _check_fits(item: Item, added: Mapping[str, FieldType]) -> None:
    present = {name: item.payload[name] for name in added if name in item.payload}
    try:
        check_payload(present, added, item=item.id)
    except InvalidQueryError as error:
        raise ServiceError(
            errors.FIELD_INVALID,
            f"{error}. Nothing was changed: give the field another type, or change the item first",
            field=f"fields.{error.field}",
        ) from error


def _with_schema(page: Sequence[Item], schema: Mapping[str, FieldType]) -> PointBatch:
    """Return items as they are stored under a schema; their values fit it."""
    batch = to_batch(page)
    return replace(batch, payloads=[canonical_payload(payload, schema) for payload in batch.payloads])


@asynccontextmanager
async def _dropped_on_error(writer: VersionWriter) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        # What cannot be dropped now is never published.
        with suppress(StoreError):
            await writer.abort()
        raise
