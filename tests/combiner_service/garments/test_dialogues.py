"""Dialogues with known answers."""

from __future__ import annotations

import pytest

from combiner_service.garments.attributes import SplitName, matches, split_of
from combiner_service.garments.dialogues import dialogues
from combiner_service.garments.edits import all_changed
from combiner_service.garments.items import catalog_items
from combiner_service.garments.triplets import gallery_of
from tests.combiner_service.garments.meaning import asked_for

ITEMS = catalog_items(1_500, 5)
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


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
