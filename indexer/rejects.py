"""Rejects: items that are left out, the reasons found before the embedder is asked, and the file of them.

The embedder's own reasons are names of `ErrorReason`. The file holds one JSON object a line, written as
it happens."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from indexer.errors import SourceError

ROW_MALFORMED = "ROW_MALFORMED"
ID_INVALID = "ID_INVALID"
ID_DUPLICATE = "ID_DUPLICATE"
PAYLOAD_INVALID = "PAYLOAD_INVALID"
LOCATION_INVALID = "LOCATION_INVALID"
IMAGE_MISSING = "IMAGE_MISSING"
IMAGE_OUTSIDE_ROOT = "IMAGE_OUTSIDE_ROOT"
IMAGE_NOT_READABLE = "IMAGE_NOT_READABLE"
IMAGE_EMPTY = "IMAGE_EMPTY"
IMAGE_TOO_MANY_BYTES = "IMAGE_TOO_MANY_BYTES"
FEATURES_NOT_FINITE = "NOT_FINITE"
URL_NOT_ALLOWED = "URL_NOT_ALLOWED"
URL_FAILED = "URL_FAILED"


@dataclass(frozen=True, slots=True)
class Reject:
    """An item that is left out, and why.

    `reason` is a name of `indexer.rejects` or of `cir.common.v1.ErrorReason`; `bytes` is how many bytes of
    the image were read, None when none were.
    """

    id: str
    image: str
    reason: str
    message: str
    bytes: int | None = None


def rejects_path(chosen: Path | None, default: Path) -> Path:
    """Return the path of a rejects file: the chosen one, in a folder that is chosen by the default's name."""
    if chosen is None:
        return default
    return chosen / default.name if chosen.is_dir() else chosen


class RejectsFile:
    """Rejects of one run at `path`; the file is made with the first of them.

    A file that an earlier run left there is removed at the start: it would be taken for this run's.
    `counts` are the lines written, by reason. Without `writing` they are only counted.
    """

    def __init__(self, path: Path, counts: Counter[str], *, writing: bool = True) -> None:
        self.path = path
        self._counts = counts
        self._writing = writing
        self._file: TextIO | None = None

    @staticmethod
    def check(path: Path) -> None:
        """Raise `SourceError` where no file can be written: now rather than hours later."""
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise SourceError(
                f"rejects file {path} cannot be written there; name another with `rejects_path`"
            )

    def __enter__(self) -> Self:
        if not self._writing:
            return self
        self.check(self.path)
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _not_writable(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, reject: Reject) -> None:
        """Append one line and hand it to the operating system.

        Raises:
            SourceError: the line cannot be written.
        """
        self._counts[reject.reason] += 1
        if not self._writing:
            return
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            # ASCII escapes, because names that are no Unicode end up here.
            self._file.write(json.dumps(asdict(reject)) + "\n")
            self._file.flush()
        except OSError as error:
            raise _not_writable(self.path, error) from error


def _not_writable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"rejects file {path} cannot be written: {error.strerror}; name another with `rejects_path`"
    )
