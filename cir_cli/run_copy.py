"""Copies, snapshots and restores for commands. Imports what only the [search] extra brings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cir_cli.errors import Failure
from service_runtime.counted import counted
from vector_store.base import VectorStore
from vector_store.copy import copy_version
from vector_store.errors import StoreError
from vector_store.open_store import open_store
from vector_store.snapshot import restore_snapshot, write_snapshot
from vector_store.types import Placement, VersionInfo
from vector_store.verify import VersionCheck, verify_catalog

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """Access to a store; `ca_file` is for TLS."""

    url: str
    api_key: str
    ca_file: Path | None

    def open(self) -> VectorStore:
        return open_store(self.url, api_key=self.api_key, ca_file=self.ca_file)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that was written and verified, and whether it was published then."""

    catalog: str
    version: str
    items: int
    published: bool

    @property
    def text(self) -> str:
        """The version on one line, for people."""
        name = f"{self.catalog} {self.version}"
        state = "published" if self.published else f"ready: cir catalogs publish {name}"
        held = counted(self.items, "item", "items")
        return f"{self.catalog}: version {self.version} has {held}, verified; {state}"


def run_copy(
    name: str,
    source: Access,
    target: Access,
    *,
    new_name: str,
    version: str,
    resume: str,
    publish: bool,
    placement: Placement,
) -> NewVersion:
    """Copy a version.

    Raises:
        Failure: it did not succeed.
    """

    async def run() -> NewVersion:
        async with source.open() as from_store, target.open() as to_store:
            info = await copy_version(
                from_store,
                to_store,
                name,
                version=version,
                target_catalog=new_name,
                resume=resume,
                placement=placement,
                on_progress=_show,
            )
            return await _published(to_store, info, publish)

    return _run(run())


def run_snapshot(name: str, folder: Path, access: Access, *, version: str) -> VersionInfo:
    """Write a snapshot; returns the version that it is of.

    Raises:
        Failure: it did not succeed.
    """

    async def run() -> VersionInfo:
        async with access.open() as store:
            return await write_snapshot(store, name, folder, version=version, on_progress=_show)

    return _run(run())


def run_restore(
    folder: Path, access: Access, *, new_name: str, resume: str, publish: bool, placement: Placement
) -> NewVersion:
    """Restore a snapshot.

    Raises:
        Failure: it did not succeed.
    """

    async def run() -> NewVersion:
        async with access.open() as store:
            info = await restore_snapshot(
                store, folder, catalog=new_name, resume=resume, placement=placement, on_progress=_show
            )
            return await _published(store, info, publish)

    return _run(run())


def run_verify(name: str, access: Access, *, version: str) -> list[VersionCheck]:
    """Verify versions; returns what was found of each.

    Raises:
        Failure: it could not be found out.
    """

    async def run() -> list[VersionCheck]:
        async with access.open() as store:
            return await verify_catalog(store, name, version)

    return _run(run())


async def _published(store: VectorStore, info: VersionInfo, publish: bool) -> NewVersion:
    if publish:
        await store.publish(info.catalog, info.version)
    return NewVersion(info.catalog, info.version, info.points, publish)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (StoreError, ValueError) as error:
        raise Failure(str(error)) from error


def _show(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} items", end="", file=sys.stderr, flush=True)
