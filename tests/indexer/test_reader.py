"""Reading the bytes of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from indexer.items import LoadedItem, Reject, SourceItem
from indexer.reader import read_image, read_images


def item(path: Path) -> SourceItem:
    return SourceItem(path.name, path, path.name, {})


def test_reads_up_to_the_limit_exactly(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_image(item(tmp_path / "a"), 5) == LoadedItem(item(tmp_path / "a"), b"12345")
    result = read_image(item(tmp_path / "a"), 4)
    assert isinstance(result, Reject)
    assert result.reason == "IMAGE_TOO_MANY_BYTES"
    assert "5 bytes" in result.message


def test_what_is_no_file_is_rejected_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    reasons = {
        name: getattr(read_image(item(tmp_path / name), 10), "reason", "")
        for name in ("pipe", "folder", "nothing", "n" * 300)
    }
    assert reasons == {
        "pipe": "IMAGE_NOT_READABLE",
        "folder": "IMAGE_NOT_READABLE",
        "nothing": "IMAGE_MISSING",
        "n" * 300: "IMAGE_NOT_READABLE",
    }


def test_a_file_that_reports_no_size_is_still_bounded() -> None:
    result = read_image(item(Path("/proc/self/maps")), 10)
    assert isinstance(result, Reject)
    assert (result.reason, result.bytes) == ("IMAGE_TOO_MANY_BYTES", 10)


def test_keeps_order_and_reads_only_a_window_ahead(tmp_path: Path) -> None:
    taken = 0

    def found() -> Iterator[SourceItem | Reject]:
        nonlocal taken
        for number in range(50):
            taken += 1
            path = tmp_path / str(number)
            path.write_bytes(b"%d" % number)
            yield Reject(str(number), "", "X", "") if number % 7 == 3 else item(path)

    results = read_images(found(), max_bytes=10, threads=3)
    first = next(results)
    assert taken == 7
    names = [entry.item.id if isinstance(entry, LoadedItem) else entry.id for entry in [first, *results]]
    assert names == [str(number) for number in range(50)]
