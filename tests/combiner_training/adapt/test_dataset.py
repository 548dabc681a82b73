"""A shop's items as queries with known answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from combiner_training.adapt.columns import AdaptError, ColumnWords
from combiner_training.adapt.dataset import AdaptData, DatasetOptions, feature_rows, make_dataset
from combiner_training.adapt.phrasings import SPLITS, PhrasingFile
from combiner_training.datasets.base import Query
from tests.combiner_training.adapt.shop import features_of, payloads, shop, troubled

ROWS = payloads()
FEATURES = features_of(ROWS)
MAIN = ("kind", "colour", "pattern")


def made(rows: list[dict[str, Any]] = ROWS, **options: Any) -> AdaptData:
    chosen = DatasetOptions(most_triplets=400, **options)
    return make_dataset(shop(rows, FEATURES[: len(rows)]), chosen)


@pytest.fixture(scope="module")
def data() -> AdaptData:
    return made()


def row_of(name: str) -> dict[str, Any]:
    return ROWS[int(name.removeprefix("item-"))]


def combinations(queries: Iterable[Query], *, references: bool = False) -> set[tuple[str, ...]]:
    names = {
        name for query in queries for name in (*query.targets, *([query.reference] if references else ()))
    }
    return {tuple(row_of(name)[column] for column in MAIN) for name in names}


def test_the_attributes_that_images_show_are_taken_and_each_decision_is_told(data: AdaptData) -> None:
    roles = {one.name: one.role for one in data.columns}

    assert roles == {
        "kind": "attribute",
        "colour": "attribute",
        "pattern": "attribute",
        "length": "attribute",
        "price": "left out",
        "sku": "left out",
        "title": "left out",
    }
    assert all(one.reason for one in data.columns)


def test_every_target_changes_what_is_asked_for_and_keeps_the_rest(data: AdaptData) -> None:
    for split in SPLITS:
        for query in data.splits[split].queries:
            before = row_of(query.reference)
            changes = set()
            for name in query.targets:
                after = row_of(name)
                changed = [
                    column
                    for column in (*MAIN, "length")
                    if column in after and column in before and after[column] != before[column]
                ]
                assert 1 <= len(changed) <= 2
                changes.add(tuple((column, after[column]) for column in changed))
            (only,) = changes
            assert all(value in query.texts[0] for _, value in only), query
            assert query.reference not in query.targets


def test_what_is_tested_was_never_trained_on(data: AdaptData) -> None:
    trained = combinations(data.splits["train"].queries, references=True)
    validated, tested = (combinations(data.splits[split].queries) for split in ("val", "test"))

    assert not trained & validated
    assert not trained & tested
    assert not validated & tested
    texts = {query.texts for query in data.splits["train"].queries}
    assert not texts & {query.texts for query in data.splits["test"].queries}


def test_hard_negatives_miss_what_is_asked_for(data: AdaptData) -> None:
    groups = [query for query in data.splits["test"].queries if query.group]

    assert len(groups) > 0.8 * len(data.splits["test"].queries)
    for query in groups:
        assert query.group[:2] == (query.reference, query.targets[0])
        assert not set(query.group[2:]) & {query.reference, *query.targets}


def test_dialogues_lead_from_turn_to_turn(data: AdaptData) -> None:
    assert data.dialogues
    for dialogue in data.dialogues:
        assert len(dialogue.turns) == 3
        before = {name: row_of(dialogue.reference)[name] for name in MAIN}
        for turn in dialogue.turns:
            (after,) = {tuple(row_of(name)[column] for column in MAIN) for name in turn.targets}
            assert sum(old != new for old, new in zip(before.values(), after, strict=True)) <= 1
            before = dict(zip(MAIN, after, strict=True))


def test_the_same_seed_draws_the_same_and_another_draws_others(data: AdaptData) -> None:
    again, other = made(), made(seed=1)

    assert again.splits["train"].queries == data.splits["train"].queries
    assert other.splits["train"].queries != data.splits["train"].queries
    tested = combinations(other.splits["test"].queries)
    assert not combinations(data.splits["train"].queries) & tested


def test_items_of_which_something_is_unknown_are_neither_asked_from_nor_answers() -> None:
    data = made(troubled(ROWS, missing=0.1, doubled=0.1), correct=False)

    assert 200 < data.usable < 500
    assert len(data.splits["test"].gallery) == data.usable
    gallery = set(data.splits["test"].gallery)
    for split in SPLITS:
        for query in data.splits[split].queries:
            assert gallery.issuperset((query.reference, *query.targets))


def test_titles_alone_are_enough() -> None:
    rows = [{"title": row["title"]} for row in ROWS]
    data = made(rows)

    assert {one.name: one.role for one in data.columns} == {"title": "title"}
    for query in data.splits["train"].queries[:200]:
        before, after = (set(row_of(name)["title"].split()) for name in (query.reference, query.targets[0]))
        assert all(word in query.texts[0] for word in after - before)
    assert made(title="title").splits["train"].queries == data.splits["train"].queries


def test_columns_are_named_and_excluded() -> None:
    named = made(columns=("kind", "colour"))
    without = made(exclude=("pattern",))

    assert {one.name for one in named.columns if one.role == "attribute"} == {"kind", "colour"}
    assert "pattern" not in {one.name for one in without.columns if one.role == "attribute"}
    with pytest.raises(AdaptError, match="'kind' is both taken and excluded"):
        DatasetOptions(columns=("kind",), exclude=("kind",))


def test_words_of_the_file_are_used_and_unknown_columns_refused() -> None:
    items = shop(ROWS, FEATURES)
    file = PhrasingFile(columns={"colour": ColumnWords(values={"red": "crimson"})})
    data = make_dataset(items, DatasetOptions(most_triplets=400), file)

    assert any("crimson" in query.texts[0] for query in data.splits["train"].queries)
    with pytest.raises(AdaptError, match="name a column 'brand' that the catalog does not have"):
        make_dataset(items, DatasetOptions(), PhrasingFile(columns={"brand": ColumnWords()}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:150], "of 150 items have a single known value in every attribute; at least 200 are needed"),
        ([{"sku": row["sku"]} for row in ROWS], "no column of 600 items can be learnt from"),
        ([{"kind": "dress"}] * 600, "one value everywhere: 'dress' in 600 of 600 items"),
        ([{}] * 600, "there are no columns"),
        (
            [{"price": row["price"] % 1, "flag": bool(at % 2)} for at, row in enumerate(ROWS)],
            "the images do not show",
        ),
        ([{"title": f"{row['sku']} {at}"} for at, row in enumerate(ROWS)], "0 of 600 items have a title"),
    ],
)
def test_a_catalog_that_nothing_can_be_learnt_from_is_told_so(
    rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(AdaptError, match=message):
        made(rows)


def test_rows_of_features_that_cannot_be_used() -> None:
    features = np.ones((4, 3), np.float32)
    features[1, 2], features[2] = np.nan, 0.0

    assert feature_rows(features).tolist() == [True, False, False, True]
