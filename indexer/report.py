"""What a run did, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vector_store.catalogs import FieldType


@dataclass(slots=True)
class Tally:
    """Counts of a run under way, each made where the thing happens, so that their sum is a check.

    `found` counts what the source gave, `indexed` what the store acknowledged, `rejects` by reason what the
    rejects file holds.
    """

    found: int = 0
    indexed: int = 0
    rejects: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """Items left out so far."""
        return self.rejects.total()


@dataclass(frozen=True, slots=True)
class IndexReport:
    """A run that ended with a published version.

    `read` = `indexed` + `rejected`. `seconds` runs from the first picture to the publishing, so
    `images_per_second` includes building the vector index. `rejects_path` is None without rejects;
    `notes` are remarks on the source that a person should see.
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

    @property
    def complete(self) -> bool:
        """Whether every item that was read is in the catalog."""
        return self.rejected == 0

    @property
    def images_per_second(self) -> float:
        """Indexed items per second of the whole run."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0


def reasons_text(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, commonest first: 'IMAGE_EMPTY 3, IMAGE_MISSING 1'."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{reason} {count}" for reason, count in ordered)
