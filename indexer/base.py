"""The version that a run builds upon, and what of it would be gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from indexer.errors import CarryFailed
from indexer.ledger import Ledger
from vector_store.base import CatalogVersion, VectorStore
from vector_store.copy import iterate_pages
from vector_store.errors import StoreLockedError
from vector_store.types import VersionInfo, VersionSpec


class Base:
    """A complete version of the catalog, opened when something of it is first read.

    `key` is its number in the ledger. On an embedded store its files are copied to be read beside the process
    that serves it, so it is better not opened at all when everything needed is known.
    """

    def __init__(self, store: VectorStore, info: VersionInfo, key: int, opened: AsyncExitStack) -> None:
        self.info = info
        self.key = key
        #: Who holds the version, once opening it has failed for that.
        self.locked = ""
        self._store = store
        self._opened = opened
        self._reader: CatalogVersion | None = None
        self._gate = asyncio.Lock()

    async def reader(self) -> CatalogVersion | None:
        """The version, open for reading; None where another process does not let it be copied."""
        async with self._gate:
            if self._reader is None and not self.locked:
                try:
                    self._reader = await self._opened.enter_async_context(
                        self._store.frozen_reader(self.info.catalog, self.info.version)
                    )
                except StoreLockedError as error:
                    self.locked = str(error)
        return self._reader

    async def is_known(self, ledger: Ledger) -> bool:
        """Whether it holds just what the ledger says: it was built so, and nobody changed it since."""
        return not self.info.changed_online and self.info.points == await asyncio.to_thread(
            ledger.written, self.key
        )

    def same_model(self, spec: VersionSpec) -> bool:
        """Whether its vectors are of the model of `spec`."""
        mine = self.info.spec
        return (mine.model_fingerprint, mine.dimension) == (spec.model_fingerprint, spec.dimension)


@asynccontextmanager
async def open_base(
    store: VectorStore, ledger: Ledger, info: VersionInfo | None
) -> AsyncIterator[Base | None]:
    """A version to build upon; None where there is none. Closed at the end of the block."""
    if info is None:
        yield None
        return
    async with AsyncExitStack() as opened:
        yield Base(store, info, await asyncio.to_thread(ledger.key, info), opened)


async def gone(base: Base | None, ledger: Ledger) -> list[str]:
    """Ids that the base holds and the source, as far as the ledger has seen it, does not.

    Raises `CarryFailed` when nobody can tell, because the ledger knows other items than the base holds (it is
    new, or the base was changed online) and the base is open in another process.
    """
    if base is None:
        return []
    if await base.is_known(ledger):
        return await asyncio.to_thread(ledger.unseen, base.key)
    reader = await base.reader()
    if reader is None:
        raise CarryFailed(
            f"the ledger {ledger.path} does not know all items of version {base.info.version}, which must be "
            f"read for that; {base.locked}. Nothing was changed"
        )
    missing: list[str] = []
    async for page in iterate_pages(reader):
        ids = [item.id for item in page]
        seen = await asyncio.to_thread(ledger.has_seen, ids)
        missing += [item_id for item_id, known in zip(ids, seen, strict=True) if not known]
    return missing
