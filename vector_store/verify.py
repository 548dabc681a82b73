"""Verification of finished versions: their files where the engine is embedded, else what can be asked for.

An embedded version's files are compared with the checksums from when it was finished or closed, so that every
altered byte shows. A server looks after its own files; there, and where an embedded version has files without
checksums, the items are counted and read one by one, and a sample is searched for by its own vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vector_store.base import CatalogVersion, FileCheck, SearchOptions, VectorStore
from vector_store.copy import iterate_pages
from vector_store.errors import StoreDamagedError, VersionNotFoundError
from vector_store.types import Item, VersionState

_SAMPLES = 100
# Readings of a version that others change.
_READINGS = 4
# A vector of float32 has this cosine with itself at least.
_LEAST_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """Finding about a version ("" for what belongs to the catalog as a whole).

    `problem` is "" for nothing. `bytes_compared` are of files with checksums, `bytes_without` of files
    without; `items` were read, where that was needed.
    """

    catalog: str
    version: str
    state: str
    problem: str
    bytes_compared: int = 0
    bytes_without: int = 0
    items: int = 0
    remark: str = ""


async def verify_catalog(store: VectorStore, catalog: str, version: str = "") -> list[VersionCheck]:
    """Verify all finished versions of a catalog, or the one named; oldest first.

    Raises:
        CatalogNotFoundError: there is no such catalog.
        VersionNotFoundError: it has no such version, or it is still being built.
        StoreUnavailableError: the store cannot be reached.
    """
    files = {check.version: check for check in await store.check_files(catalog, version)}
    try:
        infos = {info.version: info for info in await store.list_versions(catalog)}
    except StoreDamagedError:
        infos = {}
    finished = [info.version for info in infos.values() if info.state is not VersionState.BUILDING]
    names = sorted({*files, *finished})
    if version:
        names = [name for name in names if name in ("", version)]
        if version not in names:
            raise VersionNotFoundError(f"catalog {catalog!r} has no finished version {version!r}")
    checks = []
    for name in names:
        info = infos.get(name)
        state = str(info.state) if info is not None else ""
        checks.append(await _verify(store, catalog, name, state, files))
    return checks


async def _verify(
    store: VectorStore, catalog: str, version: str, state: str, files: Mapping[str, FileCheck]
) -> VersionCheck:
    file = files.get(version)
    if file is not None and (file.problem or not file.bytes_without):
        return VersionCheck(catalog, version, state, file.problem, file.bytes_compared)
    try:
        async with store.open_frozen_version(catalog, version) as opened:
            # A server has but counted them, as is done here.
            items, problem = await _check_items(opened, None if file is None else opened.info.points)
    except StoreDamagedError as error:
        items, problem = 0, str(error)
    compared, without = (0, 0) if file is None else (file.bytes_compared, file.bytes_without)
    remark = (
        "the server looks after its own files"
        if file is None
        else "files without checksums, because of changes online or of their age"
    )
    return VersionCheck(catalog, version, state, problem, compared, without, items, remark)


async def _check_items(opened: CatalogVersion, noted: int | None) -> tuple[int, str]:
    """Return how many items were read, and what is wrong with them.

    `noted` is their number where one was noted. On a server others may add and delete items meanwhile: where
    numbers do not agree, the items are read again, and it is believed once they are the same ones.
    """
    before: tuple[int, int, int] | None = None
    for _ in range(_READINGS):
        held = await opened.count()
        seen, samples, ids = await _read(opened, every=max(1, held // _SAMPLES))
        if noted not in (None, held):
            return seen, f"{seen} items can be read of {held}, and {noted} were noted"
        if seen == held:
            break
        if before == (seen, held, ids):
            return seen, f"{seen} items can be read of {held}"
        before = (seen, held, ids)
    for item in (await opened.retrieve(samples, with_features=True)).values():
        if problem := await _check_vector(opened, item):
            now = (await opened.retrieve([item.id], with_features=True)).get(item.id)
            if now is not None and _same_features(now, item):
                return seen, problem
    return seen, ""


async def _read(opened: CatalogVersion, *, every: int) -> tuple[int, list[str], int]:
    """Read all items; returns how many there are, the ids of some, and a number that stands for all ids."""
    seen = ids = 0
    samples: list[str] = []
    async for page in iterate_pages(opened):
        samples += [item.id for number, item in enumerate(page, seen) if number % every == 0]
        seen += len(page)
        for item in page:
            ids ^= hash(item.id)
    return seen, samples, ids


def _same_features(one: Item, other: Item) -> bool:
    if one.features is None or other.features is None:
        return one.features is other.features
    return np.array_equal(one.features, other.features, equal_nan=True)


async def _check_vector(opened: CatalogVersion, item: Item) -> str:
    if item.features is None or not np.isfinite(item.features).all() or not item.features.any():
        return f"item {item.id!r} has no usable vector"
    found = await opened.query(item.features, limit=1, options=SearchOptions(exact=True))
    if not found or found[0].score < _LEAST_COSINE:
        return f"item {item.id!r} is not found by its own vector"
    return ""
