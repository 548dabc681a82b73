"""Parts: features and rejects of the partitions of a source, each in one file that is never changed.

A part is its partition's ledger, copied into one piece and renamed when it is complete, so that it is
there whole
or not at all; it is read without locks, which shared folders often lack. All parts of a run are checked
to be of
one state of the source and of one model."""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cir.common.v1.model_pb2 import ModelInfo
from indexer.errors import LedgerError, PartsError
from indexer.items import EmbeddedItem, LoadedItem
from indexer.ledger import Ledger, LedgerEntry
from indexer.partition import Partition, SourceDigest, number_of
from indexer.rejects import Reject
from indexer.sources.base import FileStat, ImageError, SourceItem

#: The only version in a partition's ledger.
PART_VERSION = 1
_FACTS = "part"
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.sqlite", re.ASCII)


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Facts of a part: its source, its model and its counts.

    `source` is a digest of the whole source, `found` how many items of it belong to the part, `written` how
    many have features, `rejected` how many were left out. `model` is the embedder's answer, serialised.
    """

    number: int
    count: int
    catalog: str
    source: str
    found: int
    written: int
    rejected: int
    model: str
    image_bytes: int

    @property
    def model_info(self) -> ModelInfo:
        """The model that made the features."""
        return ModelInfo.FromString(b64decode(self.model))

    @staticmethod
    def model_text(model: ModelInfo) -> str:
        """A model for `model`."""
        return b64encode(model.SerializeToString(deterministic=True)).decode()


def part_path(folder: Path, partition: Partition) -> Path:
    """Return the path of a finished part."""
    return folder / f"part-{partition.number}-of-{partition.count}.sqlite"


def work_ledger_path(folder: Path, partition: Partition) -> Path:
    """Return the path of the ledger that a partition works with, by which its runs are resumed."""
    return folder / f"work-{partition.number}-of-{partition.count}.sqlite"


def find_parts(folder: Path) -> list[Partition]:
    """The finished parts in a folder.

    Raises:
        PartsError: it cannot be read.
    """
    try:
        matches = [match for name in os.listdir(folder) if (match := _NAME.fullmatch(name))]
    except OSError as error:
        raise PartsError(f"folder of parts {folder} cannot be read: {error.strerror}") from error
    parts = []
    for match in matches:
        try:
            parts.append(Partition(int(match[1]), int(match[2])))
        except ValueError as error:
            raise PartsError(f"file {folder / match[0]}: {error}; move it away") from None
    return sorted(parts, key=lambda part: (part.count, part.number))


def seal_part(ledger: Ledger, path: Path, facts: PartFacts) -> None:
    """Make the part at `path` from a partition's ledger, replacing an older one. Blocks."""
    ledger.note(_FACTS, asdict(facts))
    ledger.copy_to(path)


def open_part(path: Path) -> tuple[Ledger, PartFacts]:
    """Open a finished part.

    Raises:
        PartsError: it is damaged or something else.
    """
    try:
        ledger = Ledger.open_sealed(path)
    except LedgerError as error:
        raise PartsError(f"part {path} cannot be used: {error}; run its partition again") from error
    try:
        noted: Any = ledger.noted(_FACTS)
        facts = PartFacts(**noted)
    except (LedgerError, TypeError) as error:
        ledger.close()
        raise PartsError(f"part {path} does not say what it holds; run its partition again") from error
    return ledger, facts


_BATCH_ITEMS = 256
_BATCH_BYTES = 64 * 1024 * 1024


class Parts:
    """The parts of one run, open for reading; an `ImageEmbedder` that encodes nothing."""

    batch_items = _BATCH_ITEMS
    batch_bytes = _BATCH_BYTES

    def __init__(self, folder: Path, ledgers: Sequence[Ledger], facts: Sequence[PartFacts]) -> None:
        self._folder = folder
        self._ledgers = ledgers
        self._facts = facts
        self.model: ModelInfo = facts[0].model_info
        self.image_bytes = min(fact.image_bytes for fact in facts)

    def check_source(self, digest: SourceDigest) -> None:
        """Raise `PartsError` unless every part is of just this state of the source, nothing missing."""
        for fact in self._facts:
            if fact.source != digest.text:
                raise PartsError(
                    f"{self._name(fact.number)} was made of another state of the source, or with other "
                    f"options for it; run partition {fact.number}/{fact.count} again with those given here"
                )
        if (found := sum(fact.found for fact in self._facts)) != digest.found:
            raise PartsError(
                f"the parts in {self._folder} are of {found} items, the source has {digest.found}"
            )

    def embedded_before(self, item: SourceItem, *, checksum: bool) -> LedgerEntry | None:
        """The row of an item whose image looks as it did when its partition was run; else None.

        An image that shows neither size nor time of change, as on the web, counts as it was then.
        """
        row = self._row(item.id)
        if row is None or checksum or row.location != str(item.image_ref):
            return None
        try:
            seen = item.image_ref.stat()
        except ImageError:
            return None  # reading it says what is wrong
        same = seen == FileStat() or (
            row.mtime_ns >= 0 and (seen.size, seen.mtime_ns) == (row.size, row.mtime_ns)
        )
        return row if same else None

    def features(self, item_id: str, content: str) -> NDArray[np.float32] | None:
        """Raw features of an item's bytes, float32 (d,); None when its part has none for them."""
        return self._ledger(item_id).kept_features(self.model.fingerprint, content)

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Return what the partitions made of these images.

        Raises:
            PartsError: the partitions had images of other bytes.
        """
        return [self._embedded(item) for item in batch]

    def _embedded(self, item: LoadedItem) -> EmbeddedItem | Reject:
        item_id, content = item.item.id, item.stamp.content
        if (features := self.features(item_id, content)) is not None:
            return EmbeddedItem(item.item, features, item.stamp, item.change)
        row = self._row(item_id)
        if row is not None and row.state == "rejected" and row.content == content:
            return Reject(item_id, item.item.image, row.reason, row.message, len(item.content))
        number = number_of(item_id, len(self._facts))
        raise PartsError(
            f"the image of item {item_id!r} has changed since {self._name(number)} was made; run partition "
            f"{number}/{len(self._facts)} again"
        )

    def _row(self, item_id: str) -> LedgerEntry | None:
        return self._ledger(item_id).entry(PART_VERSION, item_id)

    def _ledger(self, item_id: str) -> Ledger:
        return self._ledgers[number_of(item_id, len(self._ledgers)) - 1]

    def _name(self, number: int) -> str:
        return str(part_path(self._folder, Partition(number, len(self._facts))))


@contextmanager
def open_parts(folder: Path, catalog: str) -> Iterator[Parts]:
    """Open all parts in a folder. Blocks.

    Raises:
        PartsError: one is missing or damaged, or they are of several runs, catalogs or models.
    """
    found = find_parts(folder)
    counts = sorted({part.count for part in found})
    if len(counts) != 1:
        there = f"parts of {' and of '.join(map(str, counts))}" if counts else "no parts"
        raise PartsError(
            f"folder {folder} holds {there}; expected all parts of one run, each made with `partition` i/n"
        )
    count = counts[0]
    if missing := [n for n in range(1, count + 1) if Partition(n, count) not in found]:
        listed = ", ".join(f"{number}/{count}" for number in missing[:10])
        raise PartsError(
            f"{len(missing)} of {count} parts are missing in {folder}; run the partitions: {listed}"
        )
    with ExitStack() as stack:
        opened = []
        for part in found:
            path = part_path(folder, part)
            ledger, facts = open_part(path)
            stack.callback(ledger.close)
            _check(path, part, catalog, ledger, facts)
            opened.append((ledger, facts))
        first = opened[0][1]
        for part, (_, facts) in zip(found, opened, strict=True):
            mine, others = facts.model_info, first.model_info
            if (mine.fingerprint, mine.dimension) != (others.fingerprint, others.dimension):
                raise PartsError(
                    f"part {part_path(folder, part)} is of model {mine.fingerprint}, part "
                    f"{part_path(folder, found[0])} of {others.fingerprint}; run one of them again, so that "
                    "all are of one model"
                )
        yield Parts(folder, [ledger for ledger, _ in opened], [facts for _, facts in opened])


def _check(path: Path, part: Partition, catalog: str, ledger: Ledger, facts: PartFacts) -> None:
    if (facts.number, facts.count) != (part.number, part.count):
        raise PartsError(f"part {path} holds partition {facts.number}/{facts.count}; name it so")
    if facts.catalog != catalog:
        raise PartsError(
            f"part {path} is of catalog {facts.catalog!r}, not of {catalog!r}; use a folder for each"
        )
    held = ledger.written(PART_VERSION)
    if held != facts.written or facts.found != facts.written + facts.rejected:
        raise PartsError(
            f"part {path} holds {held} items where {facts.written} of {facts.found} were embedded and "
            f"{facts.rejected} rejected; run partition {part} again"
        )
