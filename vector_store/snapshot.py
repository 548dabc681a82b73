"""A version as portable files, and back: independent of engine, machine and version of either.

```
FOLDER/manifest.json            specification, number of items, each page with its checksums; written last,
                                with a checksum of its own
FOLDER/page-000000.f32          raw features of a page, float32 little-endian (n, d), row-major
FOLDER/page-000000.jsonl        its items in the same order: {"id", "image", "payload"}
```

A folder without a manifest is an interrupted snapshot; writing it again starts anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from service_runtime.files import check_seal, read_json, seal, write_json
from vector_store.base import VectorStore
from vector_store.copy import (
    ProgressCallback,
    fill_version,
    iterate_pages,
    no_progress,
    open_writer,
    to_batch,
)
from vector_store.errors import SnapshotDamagedError
from vector_store.types import NO_PLACEMENT, Item, Placement, VersionInfo, VersionState
from vector_store.versions import spec_from_document, spec_to_document

_FORMAT = 1
_MANIFEST = "manifest.json"
# Members of manifests from before they were sealed.
_UNSEALED = frozenset({"format", "catalog", "version", "created", "written", "points", "spec", "pages"})


async def write_snapshot(
    store: VectorStore,
    catalog: str,
    folder: Path,
    *,
    version: str = "",
    on_progress: ProgressCallback = no_progress,
) -> VersionInfo:
    """Write a version ('' = the published one) into `folder`, which is created; one page is in memory.

    Raises:
        StoreError: the store refuses or is unavailable.
        SnapshotDamagedError: the folder holds something else, or cannot be written.
    """
    async with store.open_frozen_version(catalog, version) as pinned:
        await asyncio.to_thread(_prepare, folder)
        pages: list[dict[str, Any]] = []
        done = 0
        async for page in iterate_pages(pinned, with_features=True):
            pages.append(await asyncio.to_thread(_write_page, folder, len(pages), page))
            done += len(page)
            on_progress(done)
        info = pinned.info
        manifest = {
            "format": _FORMAT,
            "catalog": info.catalog,
            "version": info.version,
            "created": info.created.isoformat(),
            "written": datetime.now(UTC).isoformat(),
            "points": done,
            "spec": spec_to_document(info.spec),
            "pages": pages,
        }
        await asyncio.to_thread(_write_manifest, folder, manifest)
        return info


async def restore_snapshot(
    store: VectorStore,
    folder: Path,
    *,
    catalog: str = "",
    resume: str = "",
    placement: Placement = NO_PLACEMENT,
    on_progress: ProgressCallback = no_progress,
) -> VersionInfo:
    """Make a new version of `catalog` ('' = the snapshot's own name); it is READY, not published.

    All checksums are compared before anything is written. `resume` names the BUILDING version of an
    interrupted restore; `placement` is as in `copy_version`.

    Raises:
        StoreError: the store refuses or is unavailable.
        SnapshotDamagedError: a file is missing or altered; the message names it.
    """
    manifest = await asyncio.to_thread(check_snapshot, folder)
    expected = _info(manifest)
    name = catalog or expected.catalog
    writer = await open_writer(store, name, expected.spec, resume=resume, placement=placement)
    pages = _read_pages(folder, manifest)
    return await fill_version(writer, pages, expected, resumed=bool(resume), on_progress=on_progress)


def check_snapshot(folder: Path) -> Mapping[str, Any]:
    """Return the manifest of a snapshot whose files are all there and unaltered. Blocks.

    Raises:
        SnapshotDamagedError: they are not.
    """
    try:
        manifest = read_json(folder / _MANIFEST)
        if manifest is None:
            raise SnapshotDamagedError(
                f"{folder} has no {_MANIFEST}: it is no snapshot, or one that was interrupted; write it again"
            )
        manifest = check_seal(manifest, unsealed=_UNSEALED)
        if manifest["format"] != _FORMAT:
            raise SnapshotDamagedError(
                f"{folder} has format {manifest['format']}; this program reads {_FORMAT}"
            )
        if sum(page["items"] for page in manifest["pages"]) != manifest["points"]:
            raise SnapshotDamagedError(f"{folder}: the pages do not add up to {manifest['points']} items")
        for page in manifest["pages"]:
            for kind in ("features", "items_file"):
                path = folder / Path(page[kind]["name"]).name
                if not path.is_file():
                    raise SnapshotDamagedError(f"{path} is missing; use another copy of the snapshot")
                if _digest(path) != page[kind]["sha256"]:
                    raise SnapshotDamagedError(
                        f"{path} is altered: its checksum is not the manifest's; use another copy"
                    )
        _info(manifest)
    except OSError as error:
        raise SnapshotDamagedError(f"cannot read the snapshot {folder}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotDamagedError(f"{folder / _MANIFEST} is damaged: {error!r}; use another copy") from error
    return manifest


def _info(manifest: Mapping[str, Any]) -> VersionInfo:
    return VersionInfo(
        catalog=str(manifest["catalog"]),
        version=str(manifest["version"]),
        state=VersionState.READY,
        spec=spec_from_document(manifest["spec"]),
        points=int(manifest["points"]),
        created=datetime.fromisoformat(manifest["created"]),
    )


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if entry.name == _MANIFEST:
                raise SnapshotDamagedError(f"{folder} holds a snapshot already; choose another folder")
            if not (entry.name.startswith("page-") and entry.suffix in (".f32", ".jsonl")):
                raise SnapshotDamagedError(
                    f"{folder} holds {entry.name!r}, no part of a snapshot; choose another"
                )
        for entry in folder.iterdir():
            entry.unlink()
    except OSError as error:
        raise SnapshotDamagedError(f"cannot write the snapshot {folder}: {error}") from error


def _write_page(folder: Path, number: int, page: list[Item]) -> dict[str, Any]:
    rows = np.ascontiguousarray(to_batch(page).features, dtype="<f4").tobytes()
    lines = "".join(
        json.dumps({"id": item.id, "image": item.image, "payload": item.payload}, ensure_ascii=False) + "\n"
        for item in page
    ).encode()
    try:
        return {
            "items": len(page),
            "features": _write_file(folder / f"page-{number:06d}.f32", rows),
            "items_file": _write_file(folder / f"page-{number:06d}.jsonl", lines),
        }
    except OSError as error:
        free = shutil.disk_usage(folder).free >> 20
        raise SnapshotDamagedError(
            f"cannot write the snapshot {folder}: {error}; {free} MiB are free"
        ) from error


def _write_file(path: Path, content: bytes) -> dict[str, str]:
    path.write_bytes(content)
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    try:
        write_json(folder / _MANIFEST, seal(manifest))
    except OSError as error:
        raise SnapshotDamagedError(f"cannot write the snapshot {folder}: {error}") from error


async def _read_pages(folder: Path, manifest: Mapping[str, Any]) -> AsyncIterator[list[Item]]:
    dimension = int(manifest["spec"]["dimension"])
    for page in manifest["pages"]:
        yield await asyncio.to_thread(_read_page, folder, page, dimension)


def _read_page(folder: Path, page: Mapping[str, Any], dimension: int) -> list[Item]:
    try:
        content = (folder / Path(page["features"]["name"]).name).read_bytes()
        rows = np.frombuffer(content, dtype="<f4").reshape(-1, dimension).astype(np.float32)
        lines = (folder / Path(page["items_file"]["name"]).name).read_text(encoding="utf-8").split("\n")[:-1]
        documents = [json.loads(line) for line in lines]
        return [
            Item(d["id"], d["payload"], d["image"], float(np.linalg.norm(row)), row)
            for d, row in zip(documents, rows, strict=True)
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SnapshotDamagedError(f"cannot read a page of the snapshot {folder}: {error!r}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
