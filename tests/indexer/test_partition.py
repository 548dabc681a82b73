"""Partitions are disjoint, whole, stable, and know which state of the source they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.fields import FieldType
from indexer.partition import Partition, PartitionSource, SourceDigest, number_of
from indexer.rejects import Reject
from indexer.sources.base import Source, SourceFacts, SourceItem

SCHEMA = {"n": FieldType.INTEGER}


class Given(Source):
    """Items from a list."""

    name = "given"
    beside = Path("source")

    def __init__(self, items: list[SourceItem | Reject]) -> None:
        self._items = items

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        return SourceFacts(len(self._items), SCHEMA)

    def items(self) -> Any:
        return iter(self._items)


def item(item_id: str, n: int = 0) -> SourceItem:
    return SourceItem(item_id, Path(item_id), f"image-{item_id}", {"n": n})


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "a/b", "1/0", "1/100000", "1/2/3", "½/2"])
def test_what_is_no_partition(text: str) -> None:
    with pytest.raises(ValueError, match="expected i/n"):
        Partition.parse(text)


def test_parsing() -> None:
    assert Partition.parse("2/8") == Partition(2, 8)
    assert str(Partition.parse(" 2/8 ")) == "2/8"


def test_numbers_never_change() -> None:
    assert [number_of(f"item-{n}", 8) for n in range(8)] == [2, 5, 4, 3, 6, 8, 3, 8]


def test_partitions_are_of_about_one_size() -> None:
    sizes = [sum(Partition(n, 4).owns(f"{i}.jpg") for i in range(4000)) for n in range(1, 5)]
    assert sum(sizes) == 4000
    assert min(sizes) > 900


@given(ids=st.lists(st.text(max_size=20), max_size=30), count=st.integers(1, 7))
def test_every_item_is_in_one_partition_and_all_see_the_same_source(ids: list[str], count: int) -> None:
    source = Given([item(item_id) for item_id in ids])
    found: list[str] = []
    digests = set()
    for number in range(1, count + 1):
        heard: list[str] = []
        mine = PartitionSource(source, Partition(number, count), heard.append)
        mine.survey()
        given_ids = [entry.id for entry in mine.items()]
        assert heard == given_ids
        found += given_ids
        digests.add((mine.digest.text, mine.digest.found))
    assert sorted(found) == sorted(ids)
    assert len(digests) == 1


def test_the_digest_tells_states_apart_but_not_orders() -> None:
    def digest(*items: SourceItem | Reject, schema: dict[str, FieldType] = SCHEMA) -> str:
        made = SourceDigest(schema)
        for one in items:
            made.add(one)
        return made.text

    a, b = item("a"), item("b")
    assert digest(a, b) == digest(b, a)
    others = [
        digest(a),
        digest(a, b),
        digest(a, a),
        digest(a, item("b", 1)),
        digest(a, item("c")),
        digest(a, b, schema={}),
        digest(a, b, schema={"n": FieldType.FLOAT}),
        digest(a, Reject("b", "", "ROW_MALFORMED", "")),
    ]
    assert len(set(others)) == len(others)
