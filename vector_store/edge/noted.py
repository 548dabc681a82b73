"""Sums of a version as its document says which of them count, and what was found not to be so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service_runtime.files import sync_directory, write_json
from service_runtime.logging import get_logger
from vector_store.base import FileCheck
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.sums import (
    Coverage,
    FileDamageError,
    FileSums,
    Sums,
    check_files,
    is_shared,
    make_sums,
    read_older_sums,
    read_sums,
    write_sums,
)
from vector_store.errors import StoreDamagedError, VersionNotFoundError, damaged
from vector_store.types import VersionState, version_label


@dataclass(frozen=True, slots=True)
class NotedFiles:
    """The folder with a version's shard, and the sums that its files are to have now."""

    shard: Path
    sums: Sums
    coverage: Coverage


class VersionFiles:
    """The noted files of one version. Everything blocks; writing is for the holder of the version's lock."""

    def __init__(self, catalogs: EdgeCatalogs, catalog: str, version: str) -> None:
        self._catalogs = catalogs
        self._key = (catalog, version)
        self._layout = catalogs.layout
        self.label = version_label(catalog, version)

    def noted(self) -> NotedFiles:
        """Read which files have sums.

        Raises:
            StoreDamagedError: the version's document or its file of sums is damaged.
        """
        shard = self._catalogs.shard(*self._key)
        coverage = self._catalogs.coverage(*self._key)
        try:
            if coverage is Coverage.OLDER:
                sums = self._older()
            else:
                sums = read_sums(self._layout.sums(*self._key, shard.name))
        except FileDamageError as error:
            raise damaged(
                self.label, f"{self._layout.version(*self._key) / error.name} {error.problem}"
            ) from None
        if coverage is Coverage.UNCHANGING:
            sums = {name: file for name, file in sums.items() if is_shared(name)}
        return NotedFiles(shard, sums, coverage)

    def note_all(self) -> None:
        """Make the sums of the version's closed shard durable; its document is to say so afterwards."""
        shard = self._catalogs.shard(*self._key)
        noted = self.noted()
        path = self._layout.sums(*self._key, shard.name)
        write_sums(path, make_sums(shard, None if noted.coverage is Coverage.OLDER else noted.sums))
        self._layout.older_sums(*self._key).unlink(missing_ok=True)

    def note_copy(self, name: str) -> None:
        """Make the sums of what never changes in another shard durable, before it becomes the version's."""
        shard = self._layout.shard(*self._key, name)
        write_sums(self._layout.sums(*self._key, name), make_sums(shard, only_shared=True))

    def check(self, noted: NotedFiles, copy: Path | None = None) -> None:
        """Compare all noted files, those of a private copy where one is given.

        Raises:
            StoreDamagedError: a file is not what was noted; the version is marked.
        """
        try:
            for _ in check_files(copy or noted.shard, noted.sums):
                pass
        except FileDamageError as error:
            raise self.found(error, noted.shard) from None

    def verify(self) -> FileCheck | None:
        """Compare all files, also of a version that is open in another process; None while it is built.

        A version with damage is marked.
        """
        version = self._key[1]
        document = self._layout.document(*self._key)
        while True:
            before = _content(document)
            try:
                if self._catalogs.version(*self._key).state is VersionState.BUILDING:
                    return None
                noted = self.noted()
                compared = sum(check_files(noted.shard, noted.sums))
            except VersionNotFoundError:
                return None  # dropped meanwhile
            except StoreDamagedError as error:
                problem = str(error)
            except FileDamageError as error:
                problem = f"{noted.shard / error.name} {error.problem}"
                self._mark(problem)
                problem = str(damaged(self.label, problem))
            else:
                return FileCheck(version, "", compared, _bytes_without(noted))
            # Before anything changes online the document says so.
            if _content(document) == before:
                return FileCheck(version, problem)

    def found(self, error: FileDamageError, shard: Path) -> StoreDamagedError:
        """Mark the version, which is then compared wholly before it is opened; return the error to raise."""
        problem = f"{shard / error.name} {error.problem}"
        self.mark(problem)
        return damaged(self.label, problem)

    def mark(self, problem: str) -> None:
        """Mark the version as damaged, as far as the disk lets one, with a line in the log."""
        get_logger().error("damage found", version=self.label, problem=problem)
        self._mark(problem)

    def _mark(self, problem: str) -> None:
        with suppress(OSError):
            write_json(self._layout.damage(*self._key), {"problem": problem})

    def unmark(self) -> None:
        """Note that the version is as it should be."""
        self._layout.damage(*self._key).unlink(missing_ok=True)

    def _older(self) -> dict[str, FileSums]:
        """The sums of the older kind.

        They are wrong for a version that was changed online: opening it a second time changes its files once
        more.
        """
        if self._layout.changed(*self._key).exists():
            return {}
        return read_older_sums(self._layout.older_sums(*self._key))

    def forget_older(self) -> None:
        """Remove sums of the older kind: the files are about to change."""
        path = self._layout.older_sums(*self._key)
        if path.exists():
            path.unlink()
            sync_directory(path.parent)


def _bytes_without(noted: NotedFiles) -> int:
    """Bytes on the disk of files that have no checksums."""
    named = {noted.shard / name for name, file in noted.sums.items() if file.blocks or not file.size}
    files = (path for path in noted.shard.rglob("*") if path.is_file() and path not in named)
    return sum(512 * path.stat().st_blocks for path in files)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
