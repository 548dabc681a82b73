"""Catalogs and versions of an embedded store as files: no shard is opened here. All of it blocks.

The only state in a version's own file is whether it is complete; whether it is published or retired
follows from the catalog's `CURRENT`, so that one replaced file is the whole switch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from service_runtime.files import read_json, sync_directory, write_json
from vector_store.edge.files import FIRST_SHARD, EdgeLayout
from vector_store.edge.locks import FileLock, holder_of
from vector_store.errors import (
    CatalogNotFoundError,
    StoreLockedError,
    VersionConflictError,
    VersionNotFoundError,
)
from vector_store.types import CATALOG_NAME, VersionInfo, VersionSpec, VersionState, version_label
from vector_store.versions import (
    PublishHistory,
    is_version_name,
    next_version,
    spec_from_document,
    spec_to_document,
    versions_to_drop,
)

_STORE_LOCK_WAIT_S = 10.0


class EdgeCatalogs:
    """Catalogs and versions as the files below `layout` describe them, and changes to them."""

    def __init__(self, layout: EdgeLayout) -> None:
        self.layout = layout

    def names(self) -> list[str]:
        """Catalogs that have at least one version."""
        return [
            name
            for name in _folders(self.layout.catalogs)
            if CATALOG_NAME.fullmatch(name) and self._live(name)
        ]

    def versions(self, catalog: str) -> list[VersionInfo]:
        """Return every version, oldest first.

        Raises:
            CatalogNotFoundError: the catalog has none.
        """
        live = self._live(catalog)
        if not live:
            raise CatalogNotFoundError(
                f"no catalog {catalog!r}; index it first, or list the catalogs there are"
            )
        history = self.history(catalog)
        infos = (self._info(catalog, version, history) for version in live)
        return [info for info in infos if info is not None]

    def version(self, catalog: str, version: str) -> VersionInfo:
        """Return one version.

        Raises:
            CatalogNotFoundError: the catalog has no version at all.
            VersionNotFoundError: it has no such version.
        """
        for info in self.versions(catalog):
            if info.version == version:
                return info
        raise VersionNotFoundError(f"catalog {catalog!r} has no version {version!r}")

    def shard_name(self, catalog: str, version: str) -> str:
        """Name of the folder with a version's shard."""
        document = read_json(self.layout.document(catalog, version)) or {}
        # Documents of older versions do not say.
        name = str(document.get("shard", FIRST_SHARD))
        if Path(name).name != name:
            raise ValueError(f"{name!r} names no shard of {version_label(catalog, version)}")
        return name

    def shard(self, catalog: str, version: str) -> Path:
        """The folder with a version's shard."""
        return self.layout.shard(catalog, version, self.shard_name(catalog, version))

    def history(self, catalog: str) -> PublishHistory:
        """Return the publish history; empty for a catalog that does not exist."""
        document = read_json(self.layout.current(catalog)) or {}
        return PublishHistory(document.get("published", ""), tuple(document.get("earlier", ())))

    def allocate(self, catalog: str) -> str:
        """The folder of a new version, without its document yet: it is not listed before `write`."""
        with self._exclusive():
            folder = self.layout.versions(catalog)
            folder.mkdir(parents=True, exist_ok=True)
            version = next_version(_folders(folder))
            self.layout.version(catalog, version).mkdir()
            sync_directory(folder)
            return version

    def write(self, info: VersionInfo, shard: str = FIRST_SHARD) -> None:
        """Replace a version's document: its specification, number of points, whether it is complete, and the
        name of the folder with its shard."""
        document = {
            "format": 1,
            "created": info.created.isoformat(),
            "complete": info.state is not VersionState.BUILDING,
            "points": info.points,
            "shard": shard,
            "spec": spec_to_document(info.spec),
        }
        write_json(self.layout.document(info.catalog, info.version), document)

    def publish(self, catalog: str, version: str, keep: int) -> VersionInfo:
        """Switch to a complete version and mark what is beyond `keep` as dropped."""
        with self._exclusive():
            info = self.version(catalog, version)
            if info.state is VersionState.BUILDING:
                raise VersionConflictError(
                    f"{version_label(catalog, version)} is still being built; finish it first"
                )
            history = self.history(catalog).publish(version)
            self._write_history(catalog, history)
            complete = [i.version for i in self.versions(catalog) if i.state is not VersionState.BUILDING]
            dropped = versions_to_drop(history, complete, keep)
            if dropped:
                self._write_history(catalog, history.forget(dropped))
                for old in dropped:
                    self.layout.dropped(catalog, old).touch()
            return replace(info, state=VersionState.PUBLISHED)

    def rollback(self, catalog: str) -> VersionInfo:
        """Switch back to what was published before."""
        with self._exclusive():
            self.versions(catalog)
            try:
                history = self.history(catalog).rollback()
            except LookupError:
                raise VersionConflictError(
                    f"catalog {catalog!r} has no earlier version to go back to"
                ) from None
            self._write_history(catalog, history)
            return self.version(catalog, history.published)

    def drop_version(self, catalog: str, version: str) -> None:
        """Mark a version as dropped; refused for the published one and one that a writer holds."""
        with self._exclusive():
            info = self.version(catalog, version)
            if info.state is VersionState.PUBLISHED:
                raise VersionConflictError(
                    f"{version_label(catalog, version)} is published; publish another one first"
                )
            if info.state is VersionState.BUILDING:
                with self.held(catalog, version, "dropping it"):
                    self._mark_dropped(catalog, version)
            else:
                self._mark_dropped(catalog, version)

    def drop_catalog(self, catalog: str) -> None:
        """Mark every version as dropped; the catalog is gone from now on."""
        with self._exclusive():
            infos = self.versions(catalog)
            self.layout.current(catalog).unlink(missing_ok=True)
            for info in infos:
                self.layout.dropped(catalog, info.version).touch()

    def is_dropped(self, catalog: str, version: str) -> bool:
        """Return whether a version is gone or about to be."""
        return self._info(catalog, version, PublishHistory()) is None

    def discard(self, catalog: str, version: str) -> None:
        """Mark a version as dropped, by the writer that holds it."""
        self.layout.dropped(catalog, version).touch()

    def mark_changed(self, catalog: str, version: str) -> None:
        """Note, durably, that items of a finished version are about to be changed."""
        self.layout.changed(catalog, version).touch()
        sync_directory(self.layout.version(catalog, version))

    def sweep(self, catalog: str) -> None:
        """Remove the files of dropped versions that nobody holds open."""
        for version in _folders(self.layout.versions(catalog)):
            if self.layout.dropped(catalog, version).exists():
                lock = FileLock(self.layout.lock(catalog, version))
                with suppress(FileNotFoundError):
                    if lock.acquire("removing it"):
                        shutil.rmtree(self.layout.version(catalog, version), ignore_errors=True)
                        lock.release()
        if not _folders(self.layout.versions(catalog)):
            with self._exclusive(), suppress(OSError):
                self.layout.versions(catalog).rmdir()
                self.layout.catalog(catalog).rmdir()

    @contextmanager
    def held(self, catalog: str, version: str, purpose: str) -> Iterator[None]:
        """Hold a version's lock for a moment, or `VersionConflictError`."""
        path = self.layout.lock(catalog, version)
        lock = FileLock(path)
        if not lock.acquire(purpose):
            raise VersionConflictError(
                f"{version_label(catalog, version)} is in use by {holder_of(path)}; stop it first"
            )
        try:
            yield
        finally:
            lock.release()

    def _mark_dropped(self, catalog: str, version: str) -> None:
        self.layout.dropped(catalog, version).touch()
        history = self.history(catalog)
        if version in history.earlier:
            self._write_history(catalog, history.forget([version]))

    def _live(self, catalog: str) -> list[str]:
        if not CATALOG_NAME.fullmatch(catalog):
            return []
        layout = self.layout
        return [
            version
            for version in _folders(layout.versions(catalog))
            if is_version_name(version)
            and layout.document(catalog, version).exists()
            and not layout.dropped(catalog, version).exists()
        ]

    def _info(self, catalog: str, version: str, history: PublishHistory) -> VersionInfo | None:
        document = read_json(self.layout.document(catalog, version))
        if document is None or self.layout.dropped(catalog, version).exists():
            return None
        return VersionInfo(
            catalog=catalog,
            version=version,
            state=history.state_of(version, complete=bool(document["complete"])),
            spec=spec_from_document(document["spec"]),
            points=int(document["points"]),
            created=datetime.fromisoformat(document["created"]),
            changed_online=self.layout.changed(catalog, version).exists(),
        )

    def _write_history(self, catalog: str, history: PublishHistory) -> None:
        document = {"published": history.published, "earlier": list(history.earlier)}
        write_json(self.layout.current(catalog), document)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time changes what exists."""
        self.layout.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.layout.store_lock)
        if not lock.acquire("changing catalogs", wait_s=_STORE_LOCK_WAIT_S):
            raise StoreLockedError(
                f"the store is being changed by {holder_of(self.layout.store_lock)} for more than "
                f"{_STORE_LOCK_WAIT_S:.0f} s; try again when it is done"
            )
        try:
            yield
        finally:
            lock.release()


def new_version_info(catalog: str, version: str, spec: VersionSpec) -> VersionInfo:
    """A version as it begins."""
    return VersionInfo(catalog, version, VersionState.BUILDING, spec, points=0, created=datetime.now(UTC))


def _folders(path: os.PathLike[str]) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
