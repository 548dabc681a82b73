"""Catalogs and versions of an embedded store as files: no shard is opened here. All of it blocks.

The only state in a version's own file is whether it is complete; whether it is published or retired
follows from the catalog's `CURRENT`, so that one replaced file is the whole switch.

Both are sealed with a checksum. A damaged document of one version costs the others nothing: lists leave it
out with a line in the log, and a call that names it is refused. After damage to `CURRENT` nothing counts as
published until a version is published anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service_runtime.files import check_seal, read_json, seal, sync_directory, write_json
from service_runtime.logging import get_logger
from vector_store.edge.files import FIRST_SHARD, EdgeLayout
from vector_store.edge.locks import FileLock, holder_of
from vector_store.edge.sums import Coverage
from vector_store.errors import (
    CatalogNotFoundError,
    StoreDamagedError,
    StoreLockedError,
    VersionConflictError,
    VersionNotFoundError,
    damaged,
    newer_format,
)
from vector_store.types import CATALOG_NAME, VersionInfo, VersionSpec, VersionState, version_label
from vector_store.versions import (
    PublishHistory,
    check_rollback,
    image_length_of,
    is_version_name,
    next_version,
    spec_from_document,
    spec_to_document,
    version_number,
    versions_to_drop,
)

_STORE_LOCK_WAIT_S = 10.0

# Members of the documents from before they were sealed.
_UNSEALED_VERSION = frozenset({"format", "created", "complete", "points", "shard", "spec"})
_UNSEALED_HISTORY = frozenset({"published", "earlier"})
_FORMAT = 2


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

    def version_names(self, catalog: str) -> list[str]:
        """Return the names of all versions that are there, or should be because they were published.

        Raises:
            CatalogNotFoundError: the catalog has none.
        """
        live = self._live(catalog)
        history = PublishHistory()
        if CATALOG_NAME.fullmatch(catalog):
            history, _ = self._readable_history(catalog)
        lost = []
        for version in (history.published, *history.earlier):
            try:
                self._check_lost(catalog, version, history)
            except StoreDamagedError:
                lost.append(version)
        return sorted({*live, *lost}, key=version_number) or self._existing(catalog)

    def versions(self, catalog: str) -> list[VersionInfo]:
        """Return every version, oldest first, save for those whose documents are damaged.

        Where the publish history is damaged, none of them is shown as published.

        Raises:
            CatalogNotFoundError: the catalog has none.
            StoreDamagedError: nothing can be said of any of them.
        """
        live = self._existing(catalog)
        history, _ = self._readable_history(catalog)
        infos = []
        problem: StoreDamagedError | None = None
        for version in live:
            try:
                info = self._info(catalog, version, history)
            except StoreDamagedError as error:
                get_logger().error("a damaged version is not listed", version=version_label(catalog, version))
                problem = error
            else:
                infos += [] if info is None else [info]
        if problem is not None and not infos:
            raise problem
        return infos

    def version(self, catalog: str, version: str) -> VersionInfo:
        """Return one version.

        Raises:
            CatalogNotFoundError: the catalog has no version at all.
            VersionNotFoundError: it has no such version.
            StoreDamagedError: its document is damaged, or missing although it was published.
        """
        live = self._existing(catalog)
        history, _ = self._readable_history(catalog)
        info = self._info(catalog, version, history) if version in live else None
        if info is None:
            self._check_lost(catalog, version, history)
            raise VersionNotFoundError(f"catalog {catalog!r} has no version {version!r}")
        return info

    def shard_name(self, catalog: str, version: str) -> str:
        """Name of the folder with a version's shard.

        Raises:
            StoreDamagedError: the version's document is damaged.
        """
        # Documents of older versions do not say.
        name = str((self._document(catalog, version) or {}).get("shard", FIRST_SHARD))
        if Path(name).name != name:
            raise damaged(version_label(catalog, version), f"{name!r} is no name of a shard")
        return name

    def shard(self, catalog: str, version: str) -> Path:
        """The folder with a version's shard."""
        return self.layout.shard(catalog, version, self.shard_name(catalog, version))

    def coverage(self, catalog: str, version: str) -> Coverage:
        """Files of a version that have sums to compare them with.

        Raises:
            StoreDamagedError: the version's document is damaged.
        """
        return Coverage((self._document(catalog, version) or {}).get("sums", Coverage.OLDER))

    def history(self, catalog: str) -> PublishHistory:
        """Return the publish history; empty for a catalog that does not exist.

        Raises:
            StoreDamagedError: its file is damaged.
        """
        path = self.layout.current(catalog)
        try:
            document = check_seal(read_json(path) or {}, unsealed=_UNSEALED_HISTORY)
            earlier = tuple(str(version) for version in document.get("earlier", ()))
            return PublishHistory(str(document.get("published", "")), earlier)
        except (ValueError, TypeError) as error:
            raise StoreDamagedError(
                f"catalog {catalog!r} is damaged: {self.layout.shown(path)} was altered ({error}); publish "
                f"the version that is to be searched (cir catalogs publish {catalog} VERSION) or index the "
                f"catalog again; there are {', '.join(self._live(catalog)) or 'no versions'}"
            ) from None

    def _readable_history(self, catalog: str) -> tuple[PublishHistory, bool]:
        """Return the publish history and True; an empty one and False where its file is damaged."""
        try:
            return self.history(catalog), True
        except StoreDamagedError:
            get_logger().error("a publish history cannot be read", file=str(self.layout.current(catalog)))
            return PublishHistory(), False

    def allocate(self, catalog: str) -> str:
        """The folder of a new version, without its document yet: it is not listed before `write`."""
        with self._exclusive():
            folder = self.layout.versions(catalog)
            folder.mkdir(parents=True, exist_ok=True)
            given = self._given_out(catalog)
            version = next_version([*_folders(folder), *given])
            # Noted first: what was dropped, be it the whole catalog, leaves its number behind.
            self.layout.given_out(catalog, version).touch()
            sync_directory(self.layout.catalog(catalog))
            for older in given:
                self.layout.given_out(catalog, older).unlink()
            self.layout.version(catalog, version).mkdir()
            sync_directory(folder)
            return version

    def _given_out(self, catalog: str) -> list[str]:
        """Return the ids that are noted as given out, of which the newest counts."""
        marks = self.layout.catalog(catalog).glob(self.layout.given_out(catalog, "*").name)
        return [mark.name.removeprefix(self.layout.given_out(catalog, "").name) for mark in marks]

    def write(self, info: VersionInfo, shard: str = FIRST_SHARD, coverage: Coverage = Coverage.OLDER) -> None:
        """Replace a version's document: its specification, number of points, whether it is complete, the
        name of the folder with its shard, and which of its files have sums."""
        document = {
            "format": _FORMAT,
            "created": info.created.isoformat(),
            "complete": info.state is not VersionState.BUILDING,
            "points": info.points,
            "shard": shard,
            "spec": spec_to_document(info.spec),
        }
        if info.image_length is not None:
            document["image_length"] = info.image_length
        if coverage is not Coverage.OLDER:
            document["sums"] = str(coverage)
        write_json(self.layout.document(info.catalog, info.version), seal(document))

    def publish(self, catalog: str, version: str, keep: int) -> VersionInfo:
        """Switch to a complete version and mark what is beyond `keep` as dropped."""
        with self._exclusive():
            info = self.version(catalog, version)
            if info.state is VersionState.BUILDING:
                raise VersionConflictError(
                    f"{version_label(catalog, version)} is still being built; finish it first"
                )
            before, known = self._readable_history(catalog)
            history = before.publish(version)
            self._write_history(catalog, history)
            complete = [i.version for i in self.versions(catalog) if i.state is not VersionState.BUILDING]
            # Without a history nobody knows what a rollback would return to.
            dropped = versions_to_drop(history, complete, keep) if known else []
            if dropped:
                self._write_history(catalog, history.forget(dropped))
                for old in dropped:
                    self.layout.dropped(catalog, old).touch()
            return replace(info, state=VersionState.PUBLISHED)

    def rollback(self, catalog: str) -> VersionInfo:
        """Switch back to what was published before."""
        with self._exclusive():
            self.versions(catalog)
            now = self.history(catalog)
            try:
                history = now.rollback()
            except LookupError:
                raise VersionConflictError(
                    f"catalog {catalog!r} has no earlier version to go back to"
                ) from None
            before = self._undamaged(catalog, history.published)
            if before is not None:
                check_rollback(self._undamaged(catalog, now.published), before)
            self._write_history(catalog, history)
            return self.version(catalog, history.published)

    def _undamaged(self, catalog: str, version: str) -> VersionInfo | None:
        try:
            return self.version(catalog, version)
        except (StoreDamagedError, VersionNotFoundError):
            return None

    def drop_version(self, catalog: str, version: str) -> None:
        """Mark a version as dropped; refused for the published one and one that a writer holds."""
        with self._exclusive():
            try:
                state = self.version(catalog, version).state
            except StoreDamagedError:
                # Deleting is one way to be rid of it.
                state = self.history(catalog).state_of(version, complete=True)
            if state is VersionState.PUBLISHED:
                raise VersionConflictError(
                    f"{version_label(catalog, version)} is published; publish another one first"
                )
            if state is VersionState.BUILDING:
                with self.held(catalog, version, "dropping it"):
                    self._mark_dropped(catalog, version)
            else:
                self._mark_dropped(catalog, version)

    def drop_catalog(self, catalog: str) -> None:
        """Mark every version as dropped; the catalog is gone from now on."""
        with self._exclusive():
            live = self._existing(catalog)
            self.layout.current(catalog).unlink(missing_ok=True)
            for version in live:
                self.layout.dropped(catalog, version).touch()

    def is_dropped(self, catalog: str, version: str) -> bool:
        """Return whether a version is gone or about to be."""
        return (
            self.layout.dropped(catalog, version).exists()
            or not self.layout.document(catalog, version).exists()
        )

    def discard(self, catalog: str, version: str) -> None:
        """Mark a version as dropped, by the writer that holds it."""
        self.layout.dropped(catalog, version).touch()

    def mark_changed(self, catalog: str, version: str) -> None:
        """Note, durably, that items of a finished version are about to be changed."""
        self.layout.changed(catalog, version).touch()
        sync_directory(self.layout.version(catalog, version))

    def notes(self, catalog: str, version: str) -> dict[str, str]:
        """Return the texts that writers of a version have kept with it, by key.

        Raises:
            StoreDamagedError: their file is damaged.
        """
        path = self.layout.notes(catalog, version)
        try:
            document = read_json(path)
            sealed = {} if document is None else check_seal(document, unsealed=())
            return {str(key): str(text) for key, text in sealed.get("notes", {}).items()}
        except (ValueError, AttributeError) as error:
            raise damaged(
                version_label(catalog, version), f"{self.layout.shown(path)} was altered ({error})"
            ) from None

    def write_notes(self, catalog: str, version: str, notes: Mapping[str, str]) -> None:
        """Replace the texts that writers of a version have kept with it."""
        write_json(self.layout.notes(catalog, version), seal({"notes": dict(notes)}))

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

    def _existing(self, catalog: str) -> list[str]:
        """Names of the versions, or `CatalogNotFoundError` for none."""
        live = self._live(catalog)
        if not live:
            known = CATALOG_NAME.fullmatch(catalog) is not None
            history = self.history(catalog) if known else PublishHistory()
            self._check_lost(catalog, history.published, history)
            raise CatalogNotFoundError(
                f"no catalog {catalog!r}; index it first, or list the catalogs there are"
            )
        return live

    def _check_lost(self, catalog: str, version: str, history: PublishHistory) -> None:
        """Raise where a version that was published has no document and nobody dropped it."""
        if not is_version_name(version) or version not in (history.published, *history.earlier):
            return
        folder, document = self.layout.version(catalog, version), self.layout.document(catalog, version)
        gone = not document.exists() and not self.layout.dropped(catalog, version).exists()
        # Once more: another process may have published and dropped meanwhile.
        if gone and (folder.exists() or version == history.published) and self.history(catalog) == history:
            raise damaged(version_label(catalog, version), f"{document} is missing")

    def _live(self, catalog: str) -> list[str]:
        if not CATALOG_NAME.fullmatch(catalog):
            return []
        layout = self.layout
        versions = (
            version
            for version in _folders(layout.versions(catalog))
            if is_version_name(version)
            and layout.document(catalog, version).exists()
            and not layout.dropped(catalog, version).exists()
        )
        return sorted(versions, key=version_number)

    def _info(self, catalog: str, version: str, history: PublishHistory) -> VersionInfo | None:
        document = self._document(catalog, version)
        if document is None or self.layout.dropped(catalog, version).exists():
            return None
        try:
            return VersionInfo(
                catalog=catalog,
                version=version,
                state=history.state_of(version, complete=bool(document["complete"])),
                spec=spec_from_document(document["spec"]),
                points=int(document["points"]),
                created=datetime.fromisoformat(document["created"]),
                changed_online=self.layout.changed(catalog, version).exists(),
                damaged=self.layout.damage(catalog, version).exists(),
                image_length=image_length_of(document),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._altered(catalog, version, error) from None

    def _document(self, catalog: str, version: str) -> dict[str, Any] | None:
        """Return a version's document, None where there is none."""
        try:
            document = read_json(self.layout.document(catalog, version))
            members = None if document is None else check_seal(document, unsealed=_UNSEALED_VERSION)
        except ValueError as error:
            raise self._altered(catalog, version, error) from None
        if members is not None and members.get("format") not in range(1, _FORMAT + 1):
            raise StoreDamagedError(
                newer_format(version_label(catalog, version), members.get("format"), _FORMAT)
            )
        return members

    def _altered(self, catalog: str, version: str, error: Exception) -> StoreDamagedError:
        path = self.layout.document(catalog, version)
        return damaged(version_label(catalog, version), f"{self.layout.shown(path)} was altered ({error})")

    def _write_history(self, catalog: str, history: PublishHistory) -> None:
        document = {"published": history.published, "earlier": list(history.earlier)}
        write_json(self.layout.current(catalog), seal(document))

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
