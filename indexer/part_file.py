"""A finished part: one file that is never changed, with the features and rejects of a partition.

It is the partition's ledger, copied into one piece and renamed when it is complete, so that a part is there
whole or not at all; it is read without locks, which shared folders often lack.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cir.common.v1.model_pb2 import ModelInfo
from indexer.errors import LedgerError, PartsError
from indexer.ledger import Ledger
from indexer.partition import Partition

#: The only version in a partition's ledger.
PART_VERSION = 1
_FACTS = "part"
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.sqlite", re.ASCII)


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What a part says of itself: of which source and model it is, and what it holds.

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
    """Where a finished part is."""
    return folder / f"part-{partition.number}-of-{partition.count}.sqlite"


def ledger_of_part(folder: Path, partition: Partition) -> Path:
    """Where the ledger is that a partition works with; it makes the partition's runs resumable."""
    return folder / f"work-{partition.number}-of-{partition.count}.sqlite"


def found_parts(folder: Path) -> list[Partition]:
    """The finished parts in a folder. Raises `PartsError` when it cannot be read."""
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


def seal(ledger: Ledger, path: Path, facts: PartFacts) -> None:
    """Make the part at `path` from a partition's ledger, replacing an older one. Blocks."""
    ledger.note(_FACTS, asdict(facts))
    ledger.copy_to(path)


def open_part(path: Path) -> tuple[Ledger, PartFacts]:
    """Open a finished part. Raises `PartsError` when it is damaged or something else."""
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
