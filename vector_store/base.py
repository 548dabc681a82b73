"""The contract that every engine keeps. Everything is asynchronous; nothing here blocks the event loop.

Errors are those of `vector_store.errors`. An open `CatalogVersion` is pinned for its whole life: what is
published meanwhile is seen by the next one that is opened, and the pinned one stays readable until closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vector_store.filters import Filter
from vector_store.types import (
    CatalogInfo,
    FacetValue,
    Item,
    PayloadBatch,
    PointBatch,
    ScoredItem,
    VersionInfo,
    VersionSpec,
)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of one query. `ef` None takes the engine's default; `exact` compares with every vector.

    Where vectors are compressed, `oversampling` (1 to 16) times as many candidates as asked for are found
    with the compressed ones, and `rescore` scores them again with the full vectors. Without it scores are
    those of the compressed vectors: faster on disk, less exact. Binary ones are always scored again.
    `diversity` in [0, 1] re-orders by maximal marginal relevance (0 = off); `group_by` keeps at most
    `group_size` items for each value of a keyword or integer field.
    """

    exact: bool = False
    ef: int | None = None
    rescore: bool = True
    oversampling: float = 3.0
    score_threshold: float | None = None
    with_features: bool = False
    diversity: float = 0.0
    group_by: str = ""
    group_size: int = 1


class VersionItems(ABC):
    """The items of one version, to be read and changed one by one or in pages."""

    info: VersionInfo

    @abstractmethod
    async def retrieve(self, ids: Sequence[str], *, with_features: bool = False) -> dict[str, Item]:
        """The items among `ids` that exist, by id."""

    @abstractmethod
    async def scroll(
        self,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
        with_features: bool = False,
        take: Callable[[Item], bool] | None = None,
    ) -> tuple[list[Item], str]:
        """A page of all items in a stable order, the same on every engine, and the next cursor ('' at the
        end). What is written meanwhile is seen or not, everything else exactly once.

        `take` sees each item in its turn; the page ends before the first one that it refuses, which the next
        page begins with. So a page can be bounded in bytes, and what is read for it is bounded as well.
        """

    @abstractmethod
    async def count(self, where: Filter | None = None) -> int:
        """Exactly how many items pass the filter."""

    @abstractmethod
    async def upsert(self, batch: PointBatch) -> None:
        """Write items; durable and readable when the call returns. Same id replaces."""

    @abstractmethod
    async def set_payloads(self, batch: PayloadBatch) -> int:
        """Replace payloads and keep the vectors; return how many of the items existed.

        Items that do not exist are left out.

        Raises:
            InvalidQueryError: as in `upsert`; nothing is changed then.
        """

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> int:
        """Remove items by id; returns how many existed."""

    @abstractmethod
    async def delete_where(self, where: Filter) -> int:
        """Remove all items that pass the filter; return how many did.

        Raises:
            InvalidQueryError: the filter is empty, which every item would pass.
        """


class CatalogVersion(VersionItems):
    """One version of a catalog, open for reading (and for online changes of single items).

    Changes are visible to queries when the call returns.
    """

    @abstractmethod
    async def query(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        offset: int = 0,
        where: Filter | None = None,
        options: SearchOptions = SearchOptions(),
    ) -> list[ScoredItem]:
        """Return the items nearest to `vector` (float32 (d,), any length but zero) by cosine, best first.

        Equal scores are ordered by item id, so that pages are stable.

        Raises:
            InvalidQueryError: a wrong dimension, NaN or infinity, a zero vector, or a filter that does not
                fit the schema.
        """

    @abstractmethod
    async def facet(self, field: str, *, limit: int, where: Filter | None = None) -> list[FacetValue]:
        """The commonest values of a keyword, integer or bool field, most frequent first, exact counts."""

    @abstractmethod
    async def unindexed(self) -> int:
        """About how many items every query compares one by one, because no index holds them (yet).

        A few thousand cost a millisecond; many more, written online, are a reason to index the catalog anew.
        """


class VersionWriter(VersionItems):
    """A version being built. Nothing of it is visible to searches before it is published.

    Acknowledged changes survive a crash of the writer: `VectorStore.resume_version` continues from there.
    """

    @abstractmethod
    async def notes(self) -> dict[str, str]:
        """Return the texts that writers of this version have kept with it, by key."""

    @abstractmethod
    async def note(self, key: str, text: str) -> None:
        """Keep a text with the version, durable when the call returns, in place of the one under that key.

        Notes are for writers alone: they are gone once the version is finished. They are read as wholes, so
        they should be few and small.
        """

    @abstractmethod
    async def finish(self) -> VersionInfo:
        """Build the indexes, make everything durable, turn the version READY and close the writer."""

    @abstractmethod
    async def abort(self) -> None:
        """Close the writer and drop the version with all its items."""

    @abstractmethod
    async def close(self) -> None:
        """Close the writer and keep the version BUILDING, to be resumed later."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Files of a version compared with their checksums; "" for the version is the catalog's own file.

    `problem` is "" where they are what they were. Bytes are those of files with checksums and without.
    """

    version: str
    problem: str = ""
    bytes_compared: int = 0
    bytes_without: int = 0


class EngineOptions:
    """Base of the options of one engine."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Access to a store on a server; embedded stores need none of it.

    `timeout_s` are the seconds that a call may take, tries while a node is away included. `ca_file` is a PEM
    file of the authorities to trust instead of the system's.
    """

    api_key: str = ""
    timeout_s: float = 10.0
    ca_file: Path | None = None


class StoreUrlError(ValueError):
    """A URL that its engine cannot open; the message says what was expected."""


class Engine(ABC):
    """One engine, as `open_store` finds it by the scheme of a URL.

    Its package needs no client and no library of the engine before `open`.
    """

    @abstractmethod
    def open(
        self, url: str, *, access: StoreAccess, options: Sequence[EngineOptions], quantize_above_bytes: int
    ) -> VectorStore:
        """Return a store that has not reached for anything yet.

        Of `options` those of this engine count. `quantize_above_bytes` is the size of a version's float32
        vectors above which AUTO quantization compresses them.

        Raises:
            StoreUrlError: the URL cannot be one of this engine.
            ValueError: the access cannot be used.
        """

    def folder(self, url: str) -> Path | None:
        """Return the folder of an embedded store, None for a server."""
        return None


class VectorStore(ABC):
    """Catalogs and their versions on one engine; `async with` closes it at the end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def list_catalogs(self) -> list[CatalogInfo]:
        """Every catalog, by name."""

    @abstractmethod
    async def get_catalog(self, catalog: str) -> CatalogInfo:
        """Return one catalog, without reading the others.

        Raises:
            CatalogNotFoundError: there is none of that name.
        """

    @abstractmethod
    async def list_versions(self, catalog: str) -> list[VersionInfo]:
        """Return every version of a catalog, oldest first.

        Raises:
            CatalogNotFoundError: there is none of that name.
        """

    @abstractmethod
    def open_version(self, catalog: str, version: str = "") -> AbstractAsyncContextManager[CatalogVersion]:
        """Pin the published version (or the one named).

        Raises:
            CatalogNotFoundError: there is no such catalog, or nothing of it is published.
            VersionNotFoundError: the catalog has no such version.
        """

    def open_frozen_version(
        self, catalog: str, version: str = ""
    ) -> AbstractAsyncContextManager[CatalogVersion]:
        """Open a version ('' = the published one) to read all of it, whichever process serves it meanwhile.

        An embedded version that this process does not have open is read from a private copy of its files: it
        holds every change that was acknowledged before this call and none that starts later, each wholly or
        not at all, and cannot be changed (`VersionConflictError`). Another process may have the version open,
        or open it meanwhile; its queries and reads continue while the copy is made, its changes wait.
        Otherwise this is `open_version`, and changes during the reading may or may not be seen.

        Raises:
            StoreError: as in `open_version`.
            StoreUnavailableError: the disk has no room for the copy.
        """
        return self.open_version(catalog, version)

    @abstractmethod
    async def create_version(self, catalog: str, spec: VersionSpec) -> VersionWriter:
        """Start a new version; the catalog is created with its first.

        Raises:
            InvalidQueryError: the name or the specification is not possible.
        """

    @abstractmethod
    async def resume_version(self, catalog: str, version: str) -> VersionWriter:
        """Reopen a BUILDING version with everything that was acknowledged.

        A version has one writer at a time.

        Raises:
            VersionNotFoundError: the catalog has no such version.
            VersionConflictError: the version is complete.
            StoreLockedError: another writer has it; the message names it.
        """

    @abstractmethod
    async def publish(self, catalog: str, version: str, *, keep: int = 3) -> VersionInfo:
        """Make a READY or RETIRED version the one that is searched, atomically.

        Of the other complete versions the `keep` newest stay (what a rollback returns to comes first) and
        the rest are dropped. Versions being built always stay.

        Raises:
            VersionNotFoundError: the catalog has no such version.
            VersionConflictError: the version is still being built.
        """

    @abstractmethod
    async def rollback(self, catalog: str) -> VersionInfo:
        """Publish again what was published before.

        Raises:
            VersionConflictError: there is nothing to go back to, or it has no items while the published
                version has some; that one is published by its name.
        """

    @abstractmethod
    async def delete_version(self, catalog: str, version: str) -> None:
        """Drop a version that is not published.

        Raises:
            VersionNotFoundError: the catalog has no such version.
            VersionConflictError: the version is published, or being built by a writer.
        """

    @abstractmethod
    async def delete_catalog(self, catalog: str) -> None:
        """Drop a catalog with all its versions.

        Raises:
            CatalogNotFoundError: there is none of that name.
        """

    async def check_files(self, catalog: str, version: str = "") -> list[FileCheck]:
        """Compare the files of finished versions with their checksums; nothing where a server has the files.

        Raises:
            CatalogNotFoundError: there is none of that name.
        """
        return []

    @abstractmethod
    async def check(self) -> Mapping[str, str]:
        """Reach the engine and return facts about it (engine, version, location).

        Raises:
            StoreUnavailableError: it cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release everything; running calls finish first, open writers are closed and keep their versions."""
