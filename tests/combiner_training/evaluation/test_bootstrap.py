"""Paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from combiner_training.evaluation.bootstrap import paired_difference


def test_a_difference_beyond_chance_is_told_from_one_within() -> None:
    random = np.random.default_rng(2)
    old = random.random(500) < 0.5
    better, alike = old | (random.random(500) < 0.2), random.random(500) < 0.5

    assert paired_difference(better, old).better
    assert not paired_difference(old, better).better
    assert not paired_difference(alike, old).better
    assert not paired_difference(old, old).better


def test_bounds_are_those_of_the_normal_approximation() -> None:
    scores = np.random.default_rng(1).random(2000)
    found = paired_difference(scores, np.zeros(2000))

    error = scores.std() / np.sqrt(2000)
    assert found.mean == pytest.approx(scores.mean())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)
    assert paired_difference(scores, np.zeros(2000)) == found


def test_scores_must_be_of_the_same_queries() -> None:
    with pytest.raises(ValueError, match="no queries"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="broadcast"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
