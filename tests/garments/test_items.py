"""Items of a catalog and samples are the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from garments.catalog import sample
from garments.items import Shelf, catalog_items, seed_of
from garments.language import caption
from garments.vocabulary import KINDS, SplitName, matches, names_of, split_of


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


SIZE = (48, 64)


def test_a_number_gives_the_same_sample_in_any_order() -> None:
    first = [sample(number, seed=1, size=SIZE) for number in range(4)]
    again = [sample(number, seed=1, size=SIZE) for number in reversed(range(4))][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.captions, one.attributes) == (other.captions, other.attributes)
    assert not np.array_equal(first[0].image, sample(0, seed=2, size=SIZE).image)
    assert first[0].image.shape == (64, 48, 3)
    assert first[0].image.dtype == np.uint8
    assert first[0].captions[0] == caption(first[0].attributes)


def test_samples_are_of_their_split_and_of_every_kind() -> None:
    splits: tuple[SplitName, ...] = ("train", "val", "test")
    for split in splits:
        made = [sample(number, seed=3, split=split, size=SIZE) for number in range(40)]
        assert {split_of(each.attributes) for each in made} == {split}
        assert all(tuple(each.attributes) == names_of(each.attributes["kind"]) for each in made)
    every = [sample(number, seed=3, split=None, size=SIZE) for number in range(120)]
    assert set(Counter(each.attributes["kind"] for each in every)) == set(KINDS)
    assert {split_of(each.attributes) for each in every} == set(splits)
