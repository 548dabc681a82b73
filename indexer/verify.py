"""Checks before anything is deleted or published: counts, shares, and a sample of the finished version."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from heapq import heappush, heapreplace
from pathlib import Path

import numpy as np

from indexer.errors import CarryFailed, SyncRefused, TooManyRejects, VersionIncomplete
from indexer.items import EmbeddedItem
from indexer.options import IndexingOptions
from indexer.report import Tally, reasons_text
from indexer.versions import PreviousVersion
from service_runtime.counted import counted
from vector_store.base import CatalogVersion, SearchOptions, VectorStore
from vector_store.types import version_label


def check_counts(tally: Tally, rejects_path: Path, options: IndexingOptions) -> None:
    """Raise unless everything that was read is accounted for, and enough of it is usable."""
    found = tally.found
    if found != tally.done:
        raise VersionIncomplete(
            f"{counted(found, 'item was', 'items were')} read, but {tally.indexed} indexed, "
            f"{tally.unchanged} unchanged and {tally.rejected} rejected"
        )
    if not found:
        raise TooManyRejects("the source gave no items; nothing was published")
    if tally.rejected == found:
        raise TooManyRejects(
            f"{counted(found, 'item was', 'items were')} read, and none is usable "
            f"({reasons_text(tally.rejects)}); nothing was published. "
            f"See {rejects_path}"
        )
    if tally.rejected > options.max_reject_share * found:
        raise TooManyRejects(
            f"{counted(tally.rejected, f'of {found} items was', f'of {found} items were')} rejected "
            f"({reasons_text(tally.rejects)}), more than the share of {options.max_reject_share:g} that "
            f"is allowed; nothing was published. See {rejects_path}, or raise `max_reject_share`"
        )


def check_deletions(
    previous: PreviousVersion | None, missing: Sequence[str], options: IndexingOptions
) -> None:
    """Raise `SyncRefused` when a synchronisation would delete more than is allowed."""
    if previous is None or not options.sync or options.allow_delete or not missing:
        return
    points = max(previous.info.points, 1)
    if len(missing) >= points or len(missing) > options.max_delete_share * points:
        of_all = f"of {counted(previous.info.points, 'item', 'items')} of version {previous.info.version}"
        raise SyncRefused(
            f"{counted(len(missing), f'{of_all} is', f'{of_all} are')} not in the source "
            f"(such as {missing[0]!r}), more than the share of {options.max_delete_share:g} that "
            "may be deleted; nothing was changed. Check the source; `allow_delete` deletes them, "
            "`max_delete_share` raises the share"
        )


def check_model(
    previous: PreviousVersion | None, fits: bool, missing: Sequence[str], options: IndexingOptions
) -> None:
    """Raise `CarryFailed` when items would have to stay whose vectors are of another model."""
    if previous is None or fits or options.sync or not missing:
        return
    version = previous.info.version
    raise CarryFailed(
        f"{counted(len(missing), f'item of version {version} is', f'items of version {version} are')} not in "
        f"the source (such as {missing[0]!r}), with vectors of model {previous.info.spec.model_fingerprint}, "
        "which is not the embedder's; nothing was changed. Put them into the source, or leave them "
        "out with `sync`"
    )


# Quantised or half-precision storage may move a vector a little; another item's vector is further away.
_SAME = 0.999


class Sample:
    """A few items that do not depend on the order in which they come: those whose ids hash lowest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str, EmbeddedItem]] = []

    def offer(self, items: Sequence[EmbeddedItem]) -> None:
        """Consider items; ids never repeat within a run."""
        for item in items if self._size else ():
            digest = blake2b(item.item.id.encode(), digest_size=8).digest()
            entry = (-int.from_bytes(digest), item.item.id, item)
            if len(self._heap) < self._size:
                heappush(self._heap, entry)
            elif entry > self._heap[0]:
                heapreplace(self._heap, entry)

    @property
    def items(self) -> list[EmbeddedItem]:
        """The sample, by id."""
        return sorted((item for _, _, item in self._heap), key=lambda item: item.item.id)


async def verify_version(store: VectorStore, catalog: str, version: str, sample: Sample, points: int) -> None:
    """Count the version's items, read the sample back and search for it.

    Raises:
        VersionIncomplete: unless there are exactly `points` items, and each item of the sample has its
            payload, image and features, and is found first by its own features (or shares the first place
            with an item that looks the same).
    """
    async with store.open_version(catalog, version) as reader:
        count = await reader.count()
        if count != points:
            raise VersionIncomplete(
                f"{version_label(catalog, version)} holds {count} items where {points} were indexed"
            )
        stored = await reader.retrieve([entry.item.id for entry in sample.items], with_features=True)
        for entry in sample.items:
            found = stored.get(entry.item.id)
            if (
                found is None
                or found.image != entry.item.image
                or dict(found.payload) != dict(entry.item.payload)
                or found.features is None
                or _cosine(found.features, entry.features) < _SAME
            ):
                raise VersionIncomplete(
                    f"item {entry.item.id!r} of {version_label(catalog, version)} does not read back "
                    "as it was written"
                )
            await _search_itself(reader, entry)


async def _search_itself(reader: CatalogVersion, entry: EmbeddedItem) -> None:
    best = await reader.query(entry.features, limit=1, options=SearchOptions(exact=True))
    if not best or (best[0].item.id != entry.item.id and best[0].score < _SAME):
        raise VersionIncomplete(f"item {entry.item.id!r} is not found by its own features")


def _cosine(a: np.typing.NDArray[np.float32], b: np.typing.NDArray[np.float32]) -> float:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float(a64 @ b64 / (np.linalg.norm(a64) * np.linalg.norm(b64)))
