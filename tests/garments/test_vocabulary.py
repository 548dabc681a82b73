"""Combinations of attributes, their splits, and edits."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garments.vocabulary import (
    COLOURS,
    KINDS,
    PATTERNS,
    VALUES,
    Edit,
    all_changed,
    changed,
    combinations,
    matches,
    names_of,
    possible_edits,
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


GARMENTS = st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind)))
DRESS = {"kind": "dress", "colour": "red", "pattern": "plain", "sleeve": "sleeveless", "length": "long"}


def test_a_new_kind_keeps_what_both_have_and_leaves_the_rest_open() -> None:
    skirt = {"kind": "skirt", "colour": "red", "pattern": "plain", "length": "long"}
    assert changed(DRESS, Edit("kind", "skirt")) == skirt
    assert changed(skirt, Edit("kind", "dress")) == {**skirt, "kind": "dress"}
    assert changed(DRESS, Edit("kind", "t-shirt")) == {"kind": "t-shirt", "colour": "red", "pattern": "plain"}


def test_the_kind_is_changed_first() -> None:
    edits = (Edit("neckline", "v-neck"), Edit("kind", "t-shirt"))
    assert all_changed(DRESS, edits) == all_changed(DRESS, edits[::-1])
    assert all_changed(DRESS, edits)["neckline"] == "v-neck"


@given(GARMENTS, st.data())
def test_an_edit_changes_its_attribute_and_nothing_that_stays(
    garment: dict[str, str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(names_of(garment["kind"])))
    edits = possible_edits(garment, name)
    assert {edit.value for edit in edits} == set(VALUES[name]) - {garment[name]}
    after = changed(garment, data.draw(st.sampled_from(edits)))
    assert after[name] != garment[name]
    assert set(after) <= set(names_of(after["kind"]))
    assert {key: value for key, value in after.items() if key != name}.items() <= garment.items()
    if name != "kind":
        assert after.keys() == garment.keys()


def test_a_kind_without_the_attribute_has_no_such_edits() -> None:
    assert possible_edits({"kind": "hat", "colour": "red", "pattern": "plain"}, "sleeve") == ()
