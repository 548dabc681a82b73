"""Floats whose text goes along come back as they were written, whatever an engine made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_store import VectorStore
from vector_store.exact_floats import exact_texts, restored

from .samples import batch, build

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DATA: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text(max_size=3),
    st.one_of(
        FLOATS,
        st.lists(FLOATS, max_size=4),
        st.fixed_dictionaries({"lat": FLOATS, "lon": FLOATS}),
        st.integers(),
        st.text(max_size=3),
        st.none(),
    ),
    max_size=4,
)


def off_by_one(value: Any, steps: float) -> Any:
    """A value as a reader leaves it that misses the last digit of longer numbers."""
    if isinstance(value, float):
        near = math.nextafter(value, steps)
        return near if exact_texts({"x": value}) and math.isfinite(near) else value
    if isinstance(value, dict):
        return {key: off_by_one(element, steps) for key, element in value.items()}
    return [off_by_one(element, steps) for element in value] if isinstance(value, list) else value


@given(DATA, st.sampled_from([math.inf, -math.inf]))
def test_what_an_engine_misread_is_restored(data: dict[str, Any], steps: float) -> None:
    read = {key: off_by_one(value, steps) for key, value in data.items()}
    assert restored(read, exact_texts(data)) == data


def test_a_member_that_was_changed_since_is_as_it_is() -> None:
    texts = exact_texts({"a": 139.69170600000001, "b": [1 / 3]})
    changed = {"a": 5.0, "b": [0.5, 0.25], "c": "x"}
    assert restored(changed, texts) == changed
    assert restored({"a": 1.0}, {"a": "no JSON", "b": 7}) == {"a": 1.0}
    assert restored({"a": 1.0}, None) == {"a": 1.0}


def test_short_numbers_need_no_text() -> None:
    assert exact_texts({"a": 19999.95, "b": [0.1, -52.5], "c": 7, "d": {"lat": 48.8566, "lon": 2.3522}}) == {}


@pytest.mark.service
async def test_engines_give_floats_back_to_the_last_digit(store: VectorStore, catalog: str) -> None:
    prices = [1 / 3, 92.04832702368537, 139.69170600000001, 5e-324, 1.7976931348623157e308, 19999.95, 2.0**53]
    place = {"lat": -34.603721700000003, "lon": 92.04832702368537}
    ids = [f"i{row}" for row in range(len(prices))]
    payloads = [{"price": price, "shop": place, "other": [price, -price]} for price in prices]
    await build(store, catalog, batch(ids, payloads=payloads))
    async with store.open_version(catalog) as pinned:
        items = await pinned.retrieve(ids)
        assert [items[item_id].payload for item_id in ids] == payloads
