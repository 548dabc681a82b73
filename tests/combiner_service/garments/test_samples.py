"""Samples for training: pure functions of their number."""

from __future__ import annotations

from collections import Counter

import numpy as np

from combiner_service.garments.attributes import KINDS, SplitName, names_of, split_of
from combiner_service.garments.captions import caption
from combiner_service.garments.samples import sample

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
