"""Items of a catalog and finding them."""

from __future__ import annotations

from collections import Counter

from combiner_service.garments.attributes import KINDS, matches
from combiner_service.garments.items import Shelf, catalog_items, seed_of


def test_a_seed_gives_the_same_items_and_another_gives_others() -> None:
    items = catalog_items(300, 1)
    assert items == catalog_items(300, 1)
    assert items != catalog_items(300, 2)
    assert items[:100] == catalog_items(100, 1)
    assert len({item.id for item in items}) == len({item.seed for item in items}) == 300


def test_kinds_are_even_and_combinations_repeat_only_when_all_were_there() -> None:
    items = catalog_items(12 * 80, 1)
    assert set(Counter(item.attributes["kind"] for item in items).values()) == {80}
    hats = Counter(tuple(item.attributes.values()) for item in items if item.attributes["kind"] == "hat")
    assert len(hats) == 72
    assert sum(hats.values()) == 80
    assert max(hats.values()) == 2
    assert set(KINDS) == {item.attributes["kind"] for item in items}


def test_the_shelf_finds_what_a_look_at_every_item_finds() -> None:
    items = catalog_items(1_000, 3)
    shelf = Shelf(items)
    for item in items[:60]:
        for wanted in (
            dict(item.attributes),
            {name: item.attributes[name] for name in ("kind", "colour", "pattern")},
            {**item.attributes, "colour": "red"},
        ):
            assert shelf.with_all(wanted) == [other for other in items if matches(other.attributes, wanted)]


def test_seeds_depend_on_every_part() -> None:
    assert len({seed_of("a", 1, 2), seed_of("a", 1, 3), seed_of("a", 2, 2), seed_of("b", 1, 2)}) == 4
    assert seed_of("a", 1, 2) == seed_of("a", 1, 2) < 2**64
