"""Reports: what a run, or the run of one partition, did, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cir.fields import FieldType
from indexer.items import Change
from indexer.sources.passed_over import NOTHING_PASSED_OVER, PassedOverFiles
from service_runtime.counted import counted


@dataclass(slots=True)
class Tally:
    """Counts of a run under way, each made where the thing happens, so that their sum is a check.

    `found` counts what the source gave, `changes` what the store acknowledged (now, or to the interrupted
    run that is continued), `rejects` by reason what the rejects file holds.
    """

    found: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def count(self, changes: Iterable[Change]) -> None:
        """Count items that were acknowledged."""
        self.changes.update(changes)

    @property
    def indexed(self) -> int:
        """Items whose images were encoded for this version."""
        return sum(count for change, count in self.changes.items() if change.encoded)

    @property
    def unchanged(self) -> int:
        """Items of the source that kept their features."""
        return self.changes.total() - self.indexed - self.carried

    @property
    def carried(self) -> int:
        """Items that were taken over although the source does not give them."""
        return self.changes[Change.CARRIED]

    @property
    def rejected(self) -> int:
        """Items left out so far."""
        return self.rejects.total()

    @property
    def done(self) -> int:
        """Items of the source that are dealt with."""
        return self.changes.total() - self.carried + self.rejected


@dataclass(frozen=True, slots=True)
class IndexReport:
    """A run that ended well: with a published version, or with nothing to do (`published` is False).

    `read` = `indexed` + `unchanged` + `rejected`, where `indexed` counts encoded images and `unchanged` all
    that kept their features: `changes` splits both up. `carried` items are not in the source, or unreadable
    there, and stay as they were; `deleted` ones are gone. `seconds` runs from the first image to the
    publishing, so `images_per_second` includes building the vector index. `rejects_path` is None without
    rejects; `notes` are remarks that a person should see. `dry_run` says that nothing was done, only looked.
    `passed_over` are files of the source that are no items, which `read` does not count.
    """

    catalog: str
    version: str
    model_fingerprint: str
    schema: Mapping[str, FieldType]
    read: int
    indexed: int
    rejected: int
    reject_reasons: Mapping[str, int]
    rejects_path: Path | None
    seconds: float
    notes: tuple[str, ...] = ()
    unchanged: int = 0
    carried: int = 0
    deleted: int = 0
    changes: Mapping[str, int] = field(default_factory=dict)
    published: bool = True
    resumed: bool = False
    dry_run: bool = False
    near_duplicates: int | None = None
    passed_over: PassedOverFiles = NOTHING_PASSED_OVER

    @property
    def complete(self) -> bool:
        """Return whether every item that was read is in the catalog."""
        return self.rejected == 0

    @property
    def images_per_second(self) -> float:
        """Encoded images per second of the whole run."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        path = None if self.rejects_path is None else str(self.rejects_path)
        document = {**asdict(self), "rejects_path": path, "images_per_second": self.images_per_second}
        return {**document, "schema": {name: str(kind) for name, kind in self.schema.items()}}


def reasons_text(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, commonest first: 'IMAGE_EMPTY 3, IMAGE_MISSING 1'."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{reason} {count}" for reason, count in ordered)


def report_text(report: IndexReport) -> str:
    """A run on one line, for people, and what was passed over on another."""
    return _with_passed_over(_run_text(report), report.passed_over)


def _with_passed_over(text: str, passed_over: PassedOverFiles) -> str:
    return f"{text}\npassed over, as no images: {passed_over.text}" if passed_over.counts else text


# A known image under a new id: whether the old id is gone, its other counts say.
_SAID = {str(Change.RENAMED): "with another item's image", str(Change.PAYLOAD): "payload only"}


def _run_text(report: IndexReport) -> str:
    catalog, changes = report.catalog, {name: count for name, count in report.changes.items() if count}
    parts = [f"{count} {_SAID.get(name, name)}" for name, count in changes.items()]
    if report.carried and not changes.get(Change.CARRIED):
        parts.append(f"{report.carried} carried")
    parts += [f"{report.deleted} deleted"] if report.deleted else []
    parts += [f"{report.rejected} rejected"] if report.rejected else []
    if report.near_duplicates is not None:
        parts.append(f"{counted(report.near_duplicates, 'pair', 'pairs')} of near-duplicates")
    said, read = ", ".join(parts), counted(report.read, "item", "items")
    if report.dry_run:
        return f"{catalog}: of {read} read, this would be: {said}; nothing was written"
    if not report.published:
        return (
            f"{catalog}: nothing has changed, version {report.version} stays published ({said}), "
            f"{report.seconds:.1f} s"
        )
    return (
        f"{catalog}: version {report.version} published with {report.indexed + report.unchanged} of "
        f"{read} ({said}), {report.seconds:.1f} s, {report.images_per_second:.1f} images/s"
    )


@dataclass(frozen=True, slots=True)
class PartReport:
    """A part that is complete: `read` = `indexed` + `unchanged` + `rejected`, of this partition alone.

    `indexed` items were encoded in this run, `unchanged` ones in an earlier one of the partition.
    """

    catalog: str
    partition: str
    path: Path
    model_fingerprint: str
    read: int
    indexed: int
    unchanged: int
    rejected: int
    reject_reasons: Mapping[str, int]
    rejects_path: Path | None
    seconds: float
    notes: tuple[str, ...] = ()
    passed_over: PassedOverFiles = NOTHING_PASSED_OVER

    @property
    def images_per_second(self) -> float:
        """Encoded images per second of the whole run."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        rejects = None if self.rejects_path is None else str(self.rejects_path)
        document = {**asdict(self), "path": str(self.path), "rejects_path": rejects}
        return {**document, "images_per_second": self.images_per_second}


def part_report_text(report: PartReport) -> str:
    """A partition's run on one line, for people, and what was passed over on another."""
    text = (
        f"{report.catalog}: partition {report.partition} is in {report.path}: "
        f"{counted(report.read, 'item', 'items')} read, "
        f"{report.indexed} embedded, {report.unchanged} unchanged, {report.rejected} rejected, "
        f"{report.seconds:.1f} s, {report.images_per_second:.1f} images/s"
    )
    return _with_passed_over(text, report.passed_over)
