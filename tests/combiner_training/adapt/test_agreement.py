"""Columns beside images: what images show, and what they correct."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.adapt.agreement import compare_with_images, isotonic, sure_margin
from combiner_training.adapt.columns import Attribute, read_columns
from tests.combiner_training.adapt.shop import features_of, payloads, troubled

ROWS = payloads()
FEATURES = features_of(ROWS)


def right(attribute: Attribute, rows: list[dict[str, Any]]) -> float:
    """Share of the known values that are those of `rows`."""
    known = np.flatnonzero(attribute.known)
    return float(
        np.mean([attribute.values[attribute.codes[row]] == rows[row].get(attribute.name) for row in known])
    )


def test_a_column_that_another_tells_as_well_is_not_visible() -> None:
    attributes, agreements = compare_with_images(read_columns(ROWS)[0], FEATURES)
    found = {one.name: one for one in agreements}

    assert {one.name for one in attributes if one.visible > 0.9} == {"kind", "colour", "pattern", "length"}
    assert found["price"].visible < 0.3
    assert found["price"].guessed_from == "kind"


def test_clean_values_stay_as_they_are() -> None:
    before = read_columns(ROWS)[0]
    after, agreements = compare_with_images(before, FEATURES)

    for old, new, agreement in zip(before, after, agreements, strict=True):
        if agreement.visible > 0.5:
            assert agreement.set_aside <= 0.01 * old.known.sum()
            assert right(new, ROWS) > 0.99


def test_unknown_values_are_filled_in_and_wrong_ones_set_aside() -> None:
    rows = troubled(ROWS, missing=0.2, wrong=0.1, doubled=0.05)
    before = {one.name: one for one in read_columns(rows)[0]}
    after = {one.name: one for one in compare_with_images(list(before.values()), FEATURES)[0]}

    for name in ("kind", "colour", "pattern"):
        assert right(before[name], ROWS) < 0.92
        assert right(after[name], ROWS) > 0.97
        assert after[name].known.sum() > before[name].known.sum()
    kept = {one.name: one for one in compare_with_images(list(before.values()), FEATURES, correct=False)[0]}
    assert (kept["kind"].codes == before["kind"].codes).all()


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_values_are_not_judged(count: int) -> None:
    attribute = Attribute("kind", "kind", ("a", "b"), np.arange(count, dtype=np.int32) % 2)

    assert compare_with_images([attribute], FEATURES[:count])[1][0].visible == 0.0


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_isotonic_regression_grows_and_keeps_the_mean(values: list[float]) -> None:
    fitted = isotonic(np.array(values))

    assert (np.diff(fitted) >= -1e-9).all()
    assert fitted.mean() == pytest.approx(np.mean(values), abs=1e-9)


def test_the_margin_is_where_judgements_agree_as_often_as_the_surest() -> None:
    margin = np.linspace(0, 1, 1000, dtype=np.float32)
    agrees = np.where(margin > 0.5, True, np.arange(1000) % 2 == 0)

    assert sure_margin(margin, agrees) == pytest.approx(0.5, abs=0.05)
    assert sure_margin(margin, np.ones(1000, bool)) == 0.0
