"""Lines of a UTF-8 file, with its faults told by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.errors import SourceError

MAX_LINE_BYTES = 1024 * 1024


class LongLine:
    """Stands for a line of more than `MAX_LINE_BYTES`, which was skipped."""


def lines(path: Path) -> Iterator[str | LongLine]:
    """The lines of a file with their ends, without a byte order mark; never more than one in memory.

    Raises `SourceError` when the file cannot be read or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE_BYTES)
                    yield LongLine()
                    continue
                yield _decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, path, number)
    except OSError as error:
        raise SourceError(f"manifest {path} cannot be read: {error.strerror}") from error


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"manifest {path} is not UTF-8: line {number} has byte 0x{raw[error.start]:02x}; "
            "save it as UTF-8 and try again"
        ) from None
    if "\0" in text:
        raise SourceError(
            f"manifest {path} is no text in UTF-8: line {number} has a zero byte (UTF-16?); "
            "save it as UTF-8 and try again"
        )
    return text
