"""Copies of versions: items of one version into another, page by page, and the proof that they arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import numpy as np

from cir.limits import payload_bytes
from vector_store.base import VectorStore, VersionItems, VersionWriter
from vector_store.errors import CopyMismatchError
from vector_store.types import (
    NO_PLACEMENT,
    Item,
    Placement,
    PointBatch,
    VersionInfo,
    VersionSpec,
    version_label,
)

PAGE_ITEMS = 1000


# Bytes of a page's payloads and features.
_PAGE_BYTES = 16 << 20


class _Budget:
    """Takes items until their bytes are used up, the first one always."""

    def __init__(self) -> None:
        self._left = _PAGE_BYTES

    def take(self, item: Item) -> bool:
        """Return whether the item still belongs to the page."""
        is_first = self._left == _PAGE_BYTES
        self._left -= 1 + payload_bytes(item.payload) + (0 if item.features is None else item.features.nbytes)
        return is_first or self._left >= 0


async def iterate_pages(items: VersionItems, *, with_features: bool = False) -> AsyncIterator[list[Item]]:
    """Pages of at least one and at most `PAGE_ITEMS` items, by ascending position in the store.

    A page of large items ends early, so that no page holds much more than 16 MiB.
    """
    cursor = ""
    while True:
        page, cursor = await items.scroll(
            limit=PAGE_ITEMS, after=cursor, with_features=with_features, take=_Budget().take
        )
        if page:
            yield page
        if not cursor:
            return


# Items that are read back and compared after a copy, spread evenly over the pages.
_SAMPLES = 100
_LEAST_COSINE = 1.0 - 1e-5
_NORM_TOLERANCE = 1e-4

ProgressCallback = Callable[[int], None]


def no_progress(_: int) -> None:
    """Show no progress."""


async def copy_version(
    source: VectorStore,
    target: VectorStore,
    catalog: str,
    *,
    version: str = "",
    target_catalog: str = "",
    resume: str = "",
    placement: Placement = NO_PLACEMENT,
    on_progress: ProgressCallback = no_progress,
) -> VersionInfo:
    """Copy a version ('' = the published one) into a new version of `target`; it is READY, not published.

    Memory holds one page of 1,000 items at a time. `resume` names the BUILDING version that an interrupted
    copy left in `target`: items that it holds already are not written again. The copy has the source's
    specification except for `placement`, is counted, and a sample is compared. `on_progress` gets the number
    of items done.

    Raises:
        StoreError: one of the stores refuses or is unavailable.
        CopyMismatchError: the copy is not equal, or `resume` is of another model, schema or placement.
    """
    async with source.open_frozen_version(catalog, version) as pinned:
        name = target_catalog or catalog
        writer = await open_writer(target, name, pinned.info.spec, resume=resume, placement=placement)
        pages = iterate_pages(pinned, with_features=True)
        return await fill_version(writer, pages, pinned.info, resumed=bool(resume), on_progress=on_progress)


async def open_writer(
    target: VectorStore, catalog: str, spec: VersionSpec, *, resume: str, placement: Placement
) -> VersionWriter:
    """Open a writer of a new version of `spec`, or of the BUILDING one that `resume` names.

    Raises:
        StoreError: the store refuses or is unavailable.
        CopyMismatchError: that version is spread otherwise than `placement` asks for.
    """
    if not resume:
        index = replace(spec.index, placement=placement.over(spec.index.placement))
        return await target.create_version(catalog, replace(spec, index=index))
    writer = await target.resume_version(catalog, resume)
    if differences := placement.differences(writer.info.spec.index.placement):
        await writer.close()
        raise CopyMismatchError(
            f"{version_label(catalog, resume)} was begun with {differences}; copy into a new version"
        )
    return writer


async def fill_version(
    writer: VersionWriter,
    pages: AsyncIterator[list[Item]],
    expected: VersionInfo,
    *,
    resumed: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> VersionInfo:
    """Write all pages, check them against `expected.points`, and finish the version.

    On an error the writer is closed and its version stays BUILDING, to be resumed or deleted.
    """
    try:
        _check_spec(writer, expected)
        done = 0
        samples: list[Item] = []
        sample_every = max(1, expected.points // PAGE_ITEMS // _SAMPLES)
        number = 0
        async for page in pages:
            wanted = page
            if resumed:
                present = await writer.retrieve([item.id for item in page])
                wanted = [item for item in page if item.id not in present]
            if wanted:
                await writer.upsert(to_batch(wanted))
            if number % sample_every == 0:
                samples.append(page[number % len(page)])
            number += 1
            done += len(page)
            on_progress(done)
        await _verify(writer, done, samples)
        return await writer.finish()
    except BaseException:
        await writer.close()
        raise


def to_batch(items: Sequence[Item]) -> PointBatch:
    """Items that were read with features, to be written."""
    return PointBatch(
        ids=[item.id for item in items],
        features=np.stack([_features(item) for item in items]),
        payloads=[item.payload for item in items],
        images=[item.image for item in items],
        as_stored=True,
    )


def _features(item: Item) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if item.features is None:
        raise ValueError(f"item {item.id!r} was read without features")
    return item.features


def _check_spec(writer: VersionWriter, expected: VersionInfo) -> None:
    ours, theirs = writer.info.spec, expected.spec
    for what, mine, other in (
        ("model", ours.model_fingerprint, theirs.model_fingerprint),
        ("dimension", ours.dimension, theirs.dimension),
        ("schema", dict(ours.schema), dict(theirs.schema)),
    ):
        if mine != other:
            raise CopyMismatchError(
                f"{writer.info.label} has {what} {mine}, the source has {other}; copy into a new version"
            )


async def _verify(writer: VersionWriter, done: int, samples: Sequence[Item]) -> None:
    name = writer.info.label
    held = await writer.count()
    if held != done:
        raise CopyMismatchError(
            f"{name} holds {held} items after {done} were copied; it stays as it is, unpublished. If the "
            "source was written to meanwhile, delete this version and copy again"
        )
    for start in range(0, len(samples), PAGE_ITEMS):
        part = samples[start : start + PAGE_ITEMS]
        found = await writer.retrieve([item.id for item in part], with_features=True)
        for item in part:
            copied = found.get(item.id)
            if copied is None or not _equal(copied, item):
                raise CopyMismatchError(
                    f"item {item.id!r} of {name} is not what was copied; delete this version and copy again"
                )


def _equal(one: Item, other: Item) -> bool:
    a, b = _features(one).astype(np.float64), _features(other).astype(np.float64)
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = float(a @ b) / (lengths[0] * lengths[1])
    return (
        dict(one.payload) == dict(other.payload)
        and one.image == other.image
        and cosine >= _LEAST_COSINE
        and abs(lengths[0] - lengths[1]) <= _NORM_TOLERANCE * lengths[1]
    )
