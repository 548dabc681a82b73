"""Reading images ahead, in order and in bounds, and grouping them into batches."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.items import LoadedItem
from indexer.read import batches, read_image, read_images
from indexer.rejects import Reject
from indexer.sources.base import FileImage, ImageError, SourceItem
from tests.indexer.helpers import jpeg


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


def loaded(name: int, size: int) -> LoadedItem:
    return LoadedItem(SourceItem(str(name), Path("/x"), "", {}), bytes(size))


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 60)), max_size=60),
    st.integers(1, 9),
    st.integers(1, 100),
)
def test_batches(sizes: list[int | None], max_items: int, max_bytes: int) -> None:
    entries = [
        Reject(str(name), "", "X", "") if size is None else loaded(name, size)
        for name, size in enumerate(sizes)
    ]
    out = list(batches(entries, max_items=max_items, max_bytes=max_bytes))
    groups = [[e for e in group if isinstance(e, LoadedItem)] for group in out if isinstance(group, list)]
    assert [entry for group in groups for entry in group] == [e for e in entries if isinstance(e, LoadedItem)]
    assert [entry for entry in out if isinstance(entry, Reject)] == [
        e for e in entries if isinstance(e, Reject)
    ]
    for group in groups:
        assert 1 <= len(group) <= max_items
        assert len(group) == 1 or sum(len(entry.content) for entry in group) <= max_bytes
    for group, following in pairwise(groups):
        total = sum(len(entry.content) for entry in group) + len(following[0].content)
        assert len(group) == max_items or total > max_bytes


@pytest.mark.parametrize(("written", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_in_the_other_form_of_unicode_is_told(
    tmp_path: Path, written: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    name = "entrée/café.jpg"
    there = tmp_path / unicodedata.normalize(written, name)
    there.parent.mkdir()
    there.write_bytes(jpeg(1))
    missing = FileImage(tmp_path / unicodedata.normalize(asked, name))
    for look in (missing.stat, lambda: missing.read(1 << 20)):
        with pytest.raises(ImageError, match=rf"other code points \({written}\)") as raised:
            look()
        assert raised.value.reason == "IMAGE_MISSING"
        assert ascii(str(there)) in str(raised.value)
    assert FileImage(there).read(1 << 20) == jpeg(1)
    with pytest.raises(ImageError, match=r"\Adoes not exist\Z"):
        FileImage(tmp_path / "entrée" / "other.jpg").stat()
