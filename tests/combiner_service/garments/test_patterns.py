"""Patterns: they repeat without a seam, and each covers its own share of the cloth."""

from __future__ import annotations

import random

import numpy as np
import pytest

from combiner_service.garments.attributes import PATTERNS
from combiner_service.garments.patterns import pattern_of, turned

SIZE = (384, 512)
BOX = (0, 0, *SIZE)


def test_plain_cloth_has_no_pattern() -> None:
    assert pattern_of("plain", SIZE, random.Random(1)) is None


@pytest.mark.parametrize("name", PATTERNS[1:])
@pytest.mark.parametrize("degrees", [0.0, -30.0, 75.0])
def test_marks_cover_the_whole_box_evenly_and_leave_the_colour_most_of_the_cloth(
    name: str, degrees: float
) -> None:
    for seed in range(6):
        pattern = pattern_of(name, SIZE, random.Random(seed))
        assert pattern is not None
        marks = np.asarray(turned(pattern, degrees, BOX)[0]) / 255
        assert marks.shape == (512, 384)
        assert 0.1 < marks.mean() < 0.55
        quarters = [part.mean() for half in np.split(marks, 2) for part in np.split(half, 2, axis=1)]
        assert max(quarters) - min(quarters) < 0.1


def test_a_turn_turns_the_marks() -> None:
    pattern = pattern_of("striped", SIZE, random.Random(1))
    assert pattern is not None
    straight, upright = (np.asarray(turned(pattern, degrees, BOX)[0]) for degrees in (0.0, 90.0))
    assert straight.std(axis=1).max() == 0
    assert upright.std(axis=0).max() == 0
    assert np.asarray(turned(pattern, 0.0, (10, 10, 40, 50))[0]).shape == (40, 30)
