"""Attributes, combinations and their splits."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from combiner_service.garments.attributes import (
    COLOURS,
    KINDS,
    PATTERNS,
    VALUES,
    combinations,
    matches,
    names_of,
    split_of,
)


def _bases() -> list[dict[str, str]]:
    return [
        {"kind": kind, "colour": colour, "pattern": pattern}
        for kind, colour, pattern in product(KINDS, COLOURS, PATTERNS)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_combinations_are_all_and_each_once(kind: str) -> None:
    made = combinations(kind)
    expected = 1
    for name in names_of(kind)[1:]:
        expected *= len(VALUES[name])
    assert len({tuple(each.items()) for each in made}) == len(made) == expected
    assert all(tuple(each) == names_of(kind) and each["kind"] == kind for each in made)


def test_most_combinations_are_train_and_every_value_is_in_every_split() -> None:
    sizes = Counter(split_of(base) for base in _bases())
    assert len(_bases()) == sum(sizes.values()) == 864
    assert 0.65 < sizes["train"] / 864 < 0.75
    assert sizes["val"] > 40
    assert sizes["test"] > 120
    for name in ("kind", "colour", "pattern"):
        for value in VALUES[name]:
            splits = {split_of(base) for base in _bases() if base[name] == value}
            assert splits == {"train", "val", "test"}, value


def test_the_split_of_a_combination_never_changes() -> None:
    # Models that ship were trained on what these say: another split would let them have seen its answers.
    known = {("dress", "red", "striped"): "train", ("hat", "blue", "plain"): "test"}
    for (kind, colour, pattern), split in known.items():
        base = {"kind": kind, "colour": colour, "pattern": pattern}
        assert split_of(base) == split_of({**base, "length": "long"}) == split


def test_matching_asks_for_what_is_named_alone() -> None:
    garment = {"kind": "skirt", "colour": "red", "pattern": "plain", "length": "long"}
    assert matches(garment, {"kind": "skirt", "colour": "red"})
    assert not matches(garment, {"kind": "skirt", "length": "short"})
    assert not matches(garment, {"neckline": "round"})
