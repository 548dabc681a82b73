"""Values that no door takes today but a store holds: what shows them goes on, on every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import cir
from cir.fields import FieldType, Payload
from tests.search_service.doors import check_copying, check_deleting, check_reading, listed, service
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, features_of
from tests.vector_store.engines import ENGINES, engine
from vector_store.catalog_version import BackendItems
from vector_store.codec import StoredPoints, encode_points
from vector_store.errors import InvalidQueryError
from vector_store.types import PointBatch, VersionSpec, point_id

pytestmark = pytest.mark.service

SCHEMA = {
    "colour": FieldType.KEYWORD,
    "size": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "sale": FieldType.BOOL,
    "added": FieldType.DATETIME,
    "shop": FieldType.GEO,
    "title": FieldType.TEXT,
}

# Values by item, written past every check.
BAD: dict[str, dict[str, Any]] = {
    "before": {"added": "0001-01-01T00:00:00+01:00"},
    "after": {"added": ["9999-12-31T23:59:59-01:00", "soon"]},
    "kinds": {
        "colour": 7,
        "size": "large",
        "price": "cheap",
        "sale": "yes",
        "added": 5,
        "shop": 1,
        "title": 2,
    },
    "objects": {
        "colour": {"a": 1},
        "size": [{"b": 2}],
        "shop": {"lat": "x", "lon": None},
        "title": {"c": []},
    },
    "places": {"shop": [{"lat": 500, "lon": 1}, {"lat": 1}, {}]},
    "lists": {"colour": ["red", None, 3, [["deep"]]], "size": [None], "unknown": [1, "a", None, {"x": 1}]},
    "names": {"x" * 500: 1, "a\nb": 2, "": 3},
    "nothing": {},
}


def without(member: str) -> Callable[[dict[str, Any]], None]:
    """Damage of a document: a member is missing."""
    return lambda document: document.pop(member)


def changed(member: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Damage of a document: a member is something else."""
    return lambda document: document.update({member: value})


DAMAGED = {
    "no image": without("image"),
    "no norm": without("norm"),
    "no data": without("data"),
    "odd image": changed("image", 5),
    "odd norm": changed("norm", "long"),
    "zero norm": changed("norm", 0),
    "odd data": changed("data", "text"),
    "odd exact": changed("exact", {"price": 5}),
}
UNNAMED = [without("id"), changed("id", 5), changed("id", ""), changed("id", None)]


@pytest.mark.parametrize("name", ENGINES)
async def test_no_stored_value_fails_a_page(tmp_path: Path, name: str) -> None:
    spec = VersionSpec(DIMENSION, FINGERPRINT, SCHEMA)
    good: Payload = {"colour": "red", "size": 3, "price": 2.5, "sale": True, "added": "2026-01-01T00:00:00Z"}
    ids = ["good", *BAD, *DAMAGED, *(f"unnamed {number}" for number in range(len(UNNAMED)))]
    features = np.stack([features_of(item_id) for item_id in ids])
    points = encode_points(
        PointBatch(ids, features, [good] * len(ids), [f"{i}.jpg" for i in ids]), spec, online=False
    )
    documents = dict(zip(ids, points.payloads, strict=True))
    for item_id, data in BAD.items():
        documents[item_id]["data"] = data
    for item_id, damage in DAMAGED.items():
        damage(documents[item_id])
    for number, damage in enumerate(UNNAMED):
        damage(documents[f"unnamed {number}"])
    async with engine(name, tmp_path / "store") as store:
        writer = await store.create_version("shop", spec)
        stored = StoredPoints([point_id(i) for i in ids], points.vectors, list(documents.values()))
        await cast(BackendItems, writer)._engine.upsert(stored)
        await store.publish("shop", (await writer.finish()).version)
        async with service(store) as client:
            items = await check_reading(client, "shop", tmp_path / "uploads", with_facets=False)
            assert items.keys() == {"good", *BAD, *DAMAGED}
            assert items["good"].payload == (await client.item("shop", "good")).payload
            assert items["before"].payload == BAD["before"]
            assert items["kinds"].payload["size"] == "large"
            assert items["objects"].payload["colour"] == '{"a": 1}'
            assert items["no data"].payload == {}
            assert items["odd image"].image == ""
            facets = await client.facets("shop", ["colour", "size", "sale"])
            assert "red" in [count.value for count in facets["colour"]]
            for options in ({"diversity": 0.5}, {"group_by": "colour"}, {"group_by": "size"}):
                answer = await client.search("shop", item="good", with_features=True, **options)
                assert len(answer)
            for where in ({"size": {"gte": 3}}, {"added": {"exists": True}}, {"colour": "red"}):
                await client.list_items("shop", where=where)
            # A value that was mended is an ordinary one.
            assert (await client.update("shop", [cir.ItemUpdate("objects", {"colour": "blue"})])).updated == 1
            mended = await listed(client, "shop")
            assert mended["objects"].payload == {"colour": "blue"}
            await check_copying(store, "shop", mended, tmp_path / "snapshot")
            await check_deleting(client, "shop", mended)


async def test_pages_end_early_where_their_bytes_are_used_up_and_lose_nothing(tmp_path: Path) -> None:
    ids = [f"i{number:02d}" for number in range(30)]
    payloads = [{"html": "x" * (60_000 if number % 7 else 900_000)} for number in range(30)]
    spec = VersionSpec(DIMENSION, FINGERPRINT, {})
    async with engine("edge", tmp_path) as store:
        writer = await store.create_version("shop", spec)
        features = np.stack([features_of(item_id) for item_id in ids])
        await writer.upsert(PointBatch(ids, features, payloads, ids))
        await store.publish("shop", (await writer.finish()).version)
        async with service(store, max_page_bytes=500_000) as client:
            page = await client.list_items("shop", page_size=1000)
            assert 1 <= len(page.entries) < 30
            assert page.next_page_token
            assert (await listed(client, "shop", page_size=1000)).keys() == set(ids)
            whole = await client.search("shop", features=features_of("q"), page_size=1)
            answers = [a async for a in client.search_pages("shop", features=features_of("q"), page_size=200)]
            assert len(answers) > 3
            results = [result for answer in answers for result in answer]
            assert [result.rank for result in results] == list(range(1, 31))
            assert {result.id for result in results} == set(ids)
            assert results[0].id == whole.results[0].id
            assert all(sum(len(str(r.payload["html"])) for r in a) < 600_000 or len(a) == 1 for a in answers)
            assert len((await client.items("shop", ids)).found) == 30
            # What the indexer admits is changed field by field.
            changed = await client.update("shop", [cir.ItemUpdate("i00", {"n": 100})], fields=["n"])
            assert changed.updated == 1


async def test_more_than_a_message_holds_is_asked_for_in_parts(tmp_path: Path) -> None:
    ids = [f"i{number}" for number in range(90)]
    spec = VersionSpec(DIMENSION, FINGERPRINT, {"html": FieldType.KEYWORD})
    async with engine("edge", tmp_path) as store:
        writer = await store.create_version("shop", spec)
        features = np.stack([features_of(item_id) for item_id in ids])
        await writer.upsert(PointBatch(ids, features, [{"html": i + "x" * 900_000} for i in ids], ids))
        await store.publish("shop", (await writer.finish()).version)
        async with service(store) as client:
            assert len(await listed(client, "shop")) == 90
            results = [
                r
                async for a in client.search_pages("shop", features=features_of("q"), page_size=90)
                for r in a
            ]
            assert {result.id for result in results} == set(ids)
            with pytest.raises(cir.InvalidArgument, match="ask for fewer at once") as raised:
                await client.items("shop", ids)
            assert raised.value.reason == "TOO_MANY_ITEMS"
            assert len((await client.items("shop", ids[:60])).found) == 60
            counts = (await client.facets("shop", ["html"], limit=1000))["html"]
            assert 1 <= len(counts) <= 9


LARGEST: list[dict[str, Any]] = [
    {"html": "x" * 1_000_000},
    {"numbers": [-1] * 9_000},
    {"numbers": [1 / 3] * 9_000},
    {"texts": ["x" * 90] * 9_000},
    {f"f{number}": number for number in range(9_999)},
]


@pytest.mark.parametrize("payload", LARGEST, ids=["text", "integers", "floats", "texts", "fields"])
async def test_the_largest_payload_of_an_indexer_passes_the_wire(
    tmp_path: Path, payload: dict[str, Any]
) -> None:
    spec = VersionSpec(DIMENSION, FINGERPRINT, {})
    async with engine("edge", tmp_path) as store:
        writer = await store.create_version("shop", spec)
        await writer.upsert(PointBatch(["a"], features_of("a")[None, :], [payload], ["a.jpg"]))
        more = {**payload, "more": ["x" * 100] * 10_000}
        with pytest.raises(InvalidQueryError, match="at most"):
            await writer.upsert(PointBatch(["b"], features_of("b")[None, :], [more], ["b.jpg"]))
        await store.publish("shop", (await writer.finish()).version)
        async with service(store) as client:
            item = await client.item("shop", "a")
            assert item.payload == dict(sorted(payload.items()))
            write = cir.ItemWrite("a", features=features_of("a"), payload=item.payload)
            assert (await client.upsert("shop", [write])).errors == ()
            assert (await client.update("shop", [cir.ItemUpdate("a", item.payload)])).errors == ()
            assert (await client.update("shop", [cir.ItemUpdate("a", {"z": 1})], fields=["z"])).errors == ()
            assert (await client.item("shop", "a")).payload == {**item.payload, "z": 1}
