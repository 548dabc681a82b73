"""Log of a training: one JSON object an epoch, and the same as CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

from combiner_training.options import TrainingError
from service_runtime.files import write_text

JSON_LINES, CSV = "metrics.jsonl", "metrics.csv"
Entry = Mapping[str, float]


class TrainingLog:
    """Log that appends entries to `metrics.jsonl` and keeps `metrics.csv` next to it.

    Entries of epochs after `epoch` are dropped first: a run that was killed repeats them.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._folder = folder
        self.entries: list[Entry] = [entry for entry in _read(folder / JSON_LINES) if entry["epoch"] <= epoch]
        write_text(folder / JSON_LINES, "".join(_line(entry) for entry in self.entries))

    def append(self, entry: Entry) -> None:
        """Add an epoch and have the disk hold it."""
        self.entries.append(entry)
        with (self._folder / JSON_LINES).open("a") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())

    def write_csv(self) -> None:
        """Write all entries as a table; what an epoch did not measure stays empty."""
        columns = list(dict.fromkeys(name for entry in self.entries for name in entry))
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.entries)
        write_text(self._folder / CSV, out.getvalue())


def _line(entry: Entry) -> str:
    return json.dumps(dict(entry)) + "\n"


def _read(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    entries: list[Entry] = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            entries.append({**entry, "epoch": int(entry["epoch"])})
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # the line that was being written when the run was killed
            raise TrainingError(
                f"{path}, line {number} is not an entry of a log ({error}); repair it"
            ) from None
    return entries
