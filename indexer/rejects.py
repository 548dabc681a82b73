"""The rejects file: one JSON object a line, written as it happens."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from indexer.errors import SourceError
from indexer.items import Reject


class RejectsFile:
    """Rejects of one run at `path`; the file is made with the first of them.

    A file that an earlier run left there is removed at the start: it would be taken for this run's.
    `counts` are the lines written, by reason.
    """

    def __init__(self, path: Path, counts: Counter[str]) -> None:
        self.path = path
        self._counts = counts
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        # Found out now rather than hours later, at the first reject.
        if self.path.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise SourceError(
                f"rejects file {self.path} cannot be written there; name another with --rejects"
            )
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, reject: Reject) -> None:
        """Append one line and hand it to the operating system. Raises `SourceError` when that fails."""
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            # ASCII escapes, because names that are no Unicode end up here.
            self._file.write(json.dumps(asdict(reject)) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._counts[reject.reason] += 1


def _unwritable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"rejects file {path} cannot be written: {error.strerror}; name another with --rejects"
    )
