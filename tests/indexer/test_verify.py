"""The sample that proves a version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.items import EmbeddedItem
from indexer.sources.base import SourceItem
from indexer.verify import Sample


def embedded(number: int) -> EmbeddedItem:
    return EmbeddedItem(SourceItem(f"i{number}", Path("/x"), "", {}), np.ones(2, dtype=np.float32))


@given(st.permutations(range(30)), st.integers(0, 40), st.integers(1, 7))
def test_the_sample_does_not_depend_on_the_order_of_items(order: list[int], size: int, step: int) -> None:
    sample, sorted_sample = Sample(size), Sample(size)
    for start in range(0, 30, step):
        sample.offer([embedded(number) for number in order[start : start + step]])
    sorted_sample.offer([embedded(number) for number in range(30)])
    ids = [entry.item.id for entry in sample.items]
    assert ids == [entry.item.id for entry in sorted_sample.items]
    assert len(ids) == min(size, 30)
    assert ids == sorted(set(ids))
