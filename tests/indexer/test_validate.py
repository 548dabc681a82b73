"""Which items may enter a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir.fields import FieldType
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from indexer.validate import validate_items


def item(item_id: str, **payload: Any) -> SourceItem:
    return SourceItem(item_id, Path("/x"), "x", payload)


@pytest.mark.parametrize("item_id", ["a", "x" * 512, "Hemd/größe 1.jpg", "日本.png", " ", "羽绒\u3000红.jpg"])
def test_usable_ids(item_id: str) -> None:
    assert list(validate_items([item(item_id)], {})) == [item(item_id)]


@pytest.mark.parametrize(
    "item_id", ["", "x" * 2049, "日" * 683, "a\nb", "a\x7f", "a\udc80.jpg", "\x00", "a\x85"]
)
def test_unusable_ids_are_rejected_with_a_reason(item_id: str) -> None:
    (result,) = validate_items([item(item_id)], {})
    assert isinstance(result, Reject)
    assert result.reason == "ID_INVALID"
    assert "an item id" in result.message


def test_the_first_of_equal_ids_wins() -> None:
    results = list(validate_items([item("a", n=1), item("b"), item("a", n=2), item("a", n=3)], {}))
    assert [result.id for result in results if isinstance(result, SourceItem)] == ["a", "b"]
    assert [result.reason for result in results if isinstance(result, Reject)] == ["ID_DUPLICATE"] * 2
    assert isinstance(results[0], SourceItem)
    assert results[0].payload == {"n": 1}


def test_payloads_that_do_not_fit_the_schema_are_rejected() -> None:
    schema = {"price": FieldType.FLOAT}
    results = list(validate_items([item("a", price="n/a"), item("b", price=[1.5, 2.0]), item("c")], schema))
    assert [type(result) for result in results] == [Reject, SourceItem, SourceItem]
    assert "'price'" in results[0].message  # type: ignore[union-attr]


def test_rejects_pass_through_and_do_not_use_up_an_id() -> None:
    reject = Reject("a", "x", "ROW_MALFORMED", "broken")
    assert list(validate_items([reject, item("a")], {})) == [reject, item("a")]
