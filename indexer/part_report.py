"""What the run of one partition did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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

    @property
    def images_per_second(self) -> float:
        """Encoded pictures per second of the whole run."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        rejects = None if self.rejects_path is None else str(self.rejects_path)
        document = {**asdict(self), "path": str(self.path), "rejects_path": rejects}
        return {**document, "images_per_second": self.images_per_second}


def part_report_text(report: PartReport) -> str:
    """A partition's run on one line, for people."""
    return (
        f"{report.catalog}: partition {report.partition} is in {report.path}: {report.read} items read, "
        f"{report.indexed} embedded, {report.unchanged} unchanged, {report.rejected} rejected, "
        f"{report.seconds:.1f} s, {report.images_per_second:.1f} images/s"
    )
