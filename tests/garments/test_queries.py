"""Queries and dialogues have every right item as a target, and no other."""

from __future__ import annotations

import pytest

from garments.items import Item, catalog_items
from garments.queries import Triplet, dialogues, gallery_of, triplets
from garments.vocabulary import SplitName, all_changed, matches, split_of
from tests.garments.meaning import asked_for

ITEMS = catalog_items(1_500, 5)
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
MADE = {split: list(triplets(ITEMS, split, 300, 7)) for split in SPLITS}


def _right(reference: Item, said: dict[str, str], other: Item) -> bool:
    """Return true if `other` has what was said, and is for the rest like the reference."""
    for name, value in other.attributes.items():
        expected = said.get(name, reference.attributes.get(name))
        if expected is not None and expected != value:
            return False
    return all(other.attributes.get(name) == value for name, value in said.items())


@pytest.mark.parametrize("split", SPLITS)
def test_every_right_item_is_a_target_and_no_other(split: SplitName) -> None:
    gallery = gallery_of(ITEMS, split)
    assert len(MADE[split]) == 300
    for made in MADE[split][:120]:
        said = asked_for(made.text)
        right = [item.id for item in gallery if _right(made.reference, said, item)]
        assert [target.id for target in made.targets] == right, made.text
        assert made.reference.id not in right


@pytest.mark.parametrize("split", SPLITS)
def test_targets_are_of_the_splits_combinations(split: SplitName) -> None:
    for made in MADE[split]:
        assert {split_of(target.attributes) for target in made.targets} == {split}


def test_no_combination_of_train_is_asked_for_in_val_or_test() -> None:
    def bases(split: SplitName, of: str) -> set[tuple[str, ...]]:
        items = [
            item
            for made in MADE[split]
            for item in ((made.reference,) if of == "reference" else made.targets)
        ]
        return {tuple(item.attributes[name] for name in ("kind", "colour", "pattern")) for item in items}

    trained = bases("train", "reference") | bases("train", "target")
    assert trained.isdisjoint(bases("val", "target"))
    assert trained.isdisjoint(bases("test", "target"))
    assert bases("val", "reference").isdisjoint(bases("test", "target"))
    assert {split_of(item.attributes) for item in gallery_of(ITEMS, "train")} == {"train"}
    assert gallery_of(ITEMS, "test") == ITEMS


@pytest.mark.parametrize("split", SPLITS)
def test_hard_negatives_miss_the_target_by_one_attribute(split: SplitName) -> None:
    for made in MADE[split]:
        assert 1 <= len(made.hard_negatives) <= 4
        assert len({item.id for item in made.hard_negatives}) == len(made.hard_negatives)
        wanted = all_changed(made.reference.attributes, made.edits)
        said = asked_for(made.text)
        for item in made.hard_negatives:
            assert item.id != made.reference.id
            assert not _right(made.reference, said, item), made.text
            missed = {name for name, value in wanted.items() if item.attributes.get(name) != value}
            # Another kind may lack what this one has.
            assert len(missed) == 1 or "kind" in missed


def test_one_and_two_edits_come_about_equally_often() -> None:
    for split in SPLITS:
        single = sum(len(made.edits) == 1 for made in MADE[split])
        assert 100 < single < 200


def test_a_seed_gives_the_same_queries_and_none_comes_twice() -> None:
    again = list(triplets(ITEMS, "val", 300, 7))
    assert again == MADE["val"]
    assert list(triplets(ITEMS, "val", 300, 8)) != again

    def key(made: Triplet) -> tuple[str, str]:
        return made.reference.id, made.text

    assert len({key(made) for made in again}) == 300


def test_a_catalog_without_answers_gives_no_queries() -> None:
    assert list(triplets(ITEMS[:1], "test", 5, 1)) == []
    assert list(triplets((), "test", 5, 1)) == []


@pytest.mark.parametrize("split", SPLITS)
def test_each_turn_has_every_right_item_and_the_last_is_of_the_split(split: SplitName) -> None:
    made = list(dialogues(ITEMS, split, 40, 3))
    assert len(made) == 40
    assert {len(dialogue.turns) for dialogue in made} == {3, 4, 5}
    gallery = gallery_of(ITEMS, split)
    for dialogue in made:
        wanted = dict(dialogue.reference.attributes)
        seen = [wanted]
        for turn in dialogue.turns:
            assert asked_for(turn.text) == {edit.attribute: edit.value for edit in turn.edits}
            wanted = all_changed(wanted, turn.edits)
            right = [item.id for item in gallery if matches(item.attributes, wanted)]
            assert [item.id for item in turn.targets] == right
            assert wanted not in seen
            seen.append(wanted)
        assert split_of(wanted) == split


def test_a_seed_gives_the_same_dialogues() -> None:
    made = list(dialogues(ITEMS, "test", 10, 3))
    assert made == list(dialogues(ITEMS, "test", 10, 3))
    assert made != list(dialogues(ITEMS, "test", 10, 4))


def test_a_catalog_without_answers_gives_no_dialogues() -> None:
    assert list(dialogues(ITEMS[:1], "test", 2, 1)) == []
    assert list(dialogues((), "test", 2, 1)) == []
