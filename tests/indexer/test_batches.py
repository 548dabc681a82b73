"""Batches stay within count and bytes, and lose nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from indexer.batches import batches
from indexer.items import LoadedItem, Reject, SourceItem


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
    groups = [group for group in out if isinstance(group, list)]
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
