"""Changes since the previous version: the detector that decides item by item, and the plan of a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from cir.fields import FieldType
from cir.limits import item_id_problem
from indexer.items import Change, ContentStamp, KnownItem, LoadedItem, WrittenItem, payload_hash
from indexer.ledger import Ledger, LedgerEntry
from indexer.parts import Parts
from indexer.read import read_image
from indexer.rejects import Reject
from indexer.report import Tally
from indexer.sources.base import ImageError, Source, SourceItem
from indexer.validate import validate_items

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChangeDetector:
    """Detector of changes, by rows of the ledger. Blocks; used by one thread at a time.

    `previous` is the ledger's key of the version built upon, None without one or when its vectors are of
    another model; `building` that of the version being built, None before it exists. With `checksum`, size
    and time of change are not trusted and every image is read. `parts` are images embedded before by
    partitions.
    """

    ledger: Ledger
    previous: int | None
    building: int | None = None
    checksum: bool = False
    parts: Parts | None = None

    def before_reading(
        self, found: Iterable[SourceItem | Reject]
    ) -> Iterator[SourceItem | KnownItem | WrittenItem | Reject]:
        """Settle items whose image looks as it did, by size and time of change, without reading it."""
        for item in found:
            if isinstance(item, Reject):
                yield item
                continue
            old = self.row(self.building, item.id) or self.row(self.previous, item.id)
            stamp = self.unchanged_stamp(item, old) if old is not None else None
            settled = self._settled(item, stamp) if stamp is not None else None
            yield settled or self._prepared(item) or item

    def after_reading(
        self, found: Iterable[LoadedItem | T]
    ) -> Iterator[LoadedItem | KnownItem | WrittenItem | T]:
        """Settle items by the hash of their bytes."""
        for item in found:
            if isinstance(item, LoadedItem):
                loaded = LoadedItem(item.item, item.content, item.stamp, self._encoded_as(item.item))
                yield self._settled(item.item, item.stamp) or loaded
            else:
                yield item

    def unchanged_stamp(self, item: SourceItem, old: LedgerEntry) -> ContentStamp | None:
        """Return the stamp of an item whose size and time of change are the same; None if it must be read."""
        if self.checksum or old.mtime_ns < 0 or old.location != str(item.image_ref):
            return None
        try:
            seen = item.image_ref.stat()
        except ImageError:
            return None  # reading it says what is wrong
        return old.stamp if (seen.size, seen.mtime_ns) == (old.size, old.mtime_ns) else None

    def change(self, item: SourceItem, content: str) -> tuple[Change, str] | None:
        """Return how an item with these bytes differs from the previous version, and whose features it has.

        None where nothing there has its features.
        """
        if self.previous is None:
            return None
        old = self.row(self.previous, item.id)
        if old is not None and old.state == "written" and old.content == content:
            same = old.payload == payload_hash(item.payload, item.image)
            return (Change.UNCHANGED if same else Change.PAYLOAD), item.id
        twin = self.ledger.with_content(self.previous, content)
        return None if twin is None else (Change.RENAMED, twin)

    def row(self, version: int | None, item_id: str) -> LedgerEntry | None:
        """An item's row in a version."""
        return None if version is None else self.ledger.entry(version, item_id)

    def _encoded_as(self, item: SourceItem) -> Change:
        old = self.row(self.previous, item.id)
        return Change.NEW if old is None or old.state != "written" else Change.CHANGED

    def _prepared(self, item: SourceItem) -> KnownItem | WrittenItem | Reject | None:
        """Return what a partition made of an item's image, if size and time of change are still the same."""
        row = None if self.parts is None else self.parts.embedded_before(item, checksum=self.checksum)
        if row is None:
            return None
        if row.state == "rejected":
            size = row.size if row.size >= 0 else None
            return Reject(item.id, item.image, row.reason, row.message, size)
        settled = self._settled(item, row.stamp)
        return settled or KnownItem(item, row.stamp, self._encoded_as(item))

    def _settled(self, item: SourceItem, stamp: ContentStamp) -> KnownItem | WrittenItem | None:
        if not stamp.content:
            return None
        here = self.row(self.building, item.id)
        if (
            here is not None
            and here.state == "written"
            and here.change != Change.CARRIED
            and here.content == stamp.content
            and here.payload == payload_hash(item.payload, item.image)
        ):
            return WrittenItem(item, Change(here.change))
        known = self.change(item, stamp.content)
        return None if known is None else KnownItem(item, stamp, *known)


_IDS_AT_ONCE = 1000


@dataclass(slots=True)
class Plan:
    """Changes that a run would make. The tally is whole only when everything was compared (`complete`)."""

    tally: Tally = field(default_factory=Tally)
    complete: bool = True

    @property
    def different(self) -> bool:
        """Return whether an item is new, changed, renamed or has another payload."""
        return any(count for change, count in self.tally.changes.items() if change is not Change.UNCHANGED)


def plan_run(
    source: Source,
    schema: Mapping[str, FieldType],
    detector: ChangeDetector,
    *,
    max_bytes: int,
    whole: bool,
    on_reject: Callable[[Reject], None],
) -> Plan:
    """Compare the source with the previous version, without writing anything. Blocks.

    Goes through the items once. Images are read where size and time of change do not settle them; unless
    `whole`, comparing ends with the first difference and only ids are taken from there on: payloads of the
    rest are checked by the build alone. Afterwards the ledger has seen every id of the source.

    Raises:
        SourceError: the source cannot be read.
        LedgerError: the ledger cannot be read or written.
    """
    plan = Plan()
    detector.ledger.start_seeing()

    def comparing() -> Iterator[str]:
        found = iter(source.items())
        for item in validate_items(found, schema):
            plan.tally.found += 1
            result = _compare(item, detector, max_bytes)
            if isinstance(result, Reject):
                plan.tally.rejects[result.reason] += 1
                on_reject(result)
            else:
                plan.tally.count([result])
                plan.complete = whole or result is Change.UNCHANGED
            yield item.id
            if not plan.complete:
                break
        for item in found:
            yield item.id

    ids = (item_id for item_id in comparing() if not item_id_problem(item_id))
    while some := list(islice(ids, _IDS_AT_ONCE)):
        detector.ledger.see(some)
    return plan


def _compare(item: SourceItem | Reject, detector: ChangeDetector, max_bytes: int) -> Change | Reject:
    if isinstance(item, Reject):
        return item
    old = detector.row(detector.previous, item.id)
    if old is not None and old.state == "rejected" and detector.unchanged_stamp(item, old) is not None:
        return _same_reject(item, old)
    (settled,) = detector.before_reading([item])
    if isinstance(settled, KnownItem):
        return settled.change
    if isinstance(settled, Reject):
        return settled
    loaded = read_image(item, max_bytes)
    if isinstance(loaded, Reject):
        return loaded
    if old is not None and old.state == "rejected" and old.content == loaded.stamp.content:
        return _same_reject(item, old)
    (compared,) = detector.after_reading([loaded])
    return compared.change


def _same_reject(item: SourceItem, old: LedgerEntry) -> Reject:
    return Reject(item.id, item.image, old.reason, old.message, old.size if old.size >= 0 else None)
