"""Catalogs, versions and items over gRPC: listed, read, written, updated and deleted."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from cir.client import Client
from cir.common.v1 import payload_pb2
from cir.items import ItemUpdate
from cir.payload import from_payload, to_payload
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import filter_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack, unpack
from tests.refused import refused
from tests.search_service.conftest import Stack, publish
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, UNREADABLE, features_of
from vector_store import open_store

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"


def only(colour: str) -> filter_pb2.Filter:
    match = filter_pb2.MatchAny(field="colour", values=[payload_pb2.Value(string_value=colour)])
    return filter_pb2.Filter(must=[filter_pb2.Condition(match_any=match)])


async def test_catalogs_are_listed_and_paged(stack: Stack) -> None:
    store = open_store(stack.store_url)
    for name in ("b", "a"):
        await publish(store, name, 3)
    await store.close()
    first = await stack.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=2))
    second = await stack.catalogs.ListCatalogs(
        pb.ListCatalogsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [catalog.name for catalog in (*first.catalogs, *second.catalogs)] == [
        "catalogs/a",
        "catalogs/b",
        SHOP,
    ]
    assert second.next_page_token == ""
    shop = second.catalogs[0].published
    assert (shop.item_count, shop.dimension, shop.model_fingerprint) == (40, DIMENSION, FINGERPRINT)
    assert shop.schema["price"] == pb.FIELD_TYPE_INTEGER
    assert shop.model["architecture"] == "test"
    assert (
        await refused(stack.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=-1)))
    ).field == "page_size"


async def test_publish_and_roll_back(stack: Stack) -> None:
    store = open_store(stack.store_url)
    second = await publish(store, "shop", 5, first=100)
    await store.close()
    versions = (await stack.catalogs.ListCatalogVersions(pb.ListCatalogVersionsRequest(parent=SHOP))).versions
    assert [version.state for version in versions] == [pb.VERSION_STATE_PUBLISHED, pb.VERSION_STATE_RETIRED]
    back = await stack.catalogs.RollbackCatalog(pb.RollbackCatalogRequest(name=SHOP))
    assert back.published.item_count == 40
    name = f"{SHOP}/versions/{second}"
    again = await stack.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=name))
    assert again.published.name == name
    refusal = await refused(stack.catalogs.DeleteCatalogVersion(pb.DeleteCatalogVersionRequest(name=name)))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "VERSION_STATE")
    await stack.catalogs.DeleteCatalogVersion(pb.DeleteCatalogVersionRequest(name=back.published.name))
    refusal = await refused(stack.catalogs.RollbackCatalog(pb.RollbackCatalogRequest(name=SHOP)))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "VERSION_STATE")


async def test_a_deleted_catalog_is_gone(stack: Stack) -> None:
    await stack.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name=SHOP))
    refusal = await refused(stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP)))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "CATALOG_NOT_FOUND")


async def test_items_by_name_and_in_batches(stack: Stack) -> None:
    item = await stack.catalogs.GetItem(pb.GetItemRequest(name=f"{SHOP}/items/item-4", with_features=True))
    assert item.payload.fields["price"].integer_value == 4
    assert item.image == "4.jpg"
    np.testing.assert_allclose(unpack(item.features)[0], features_of(b"picture 4"), atol=1e-4)
    batch = await stack.catalogs.BatchGetItems(
        pb.BatchGetItemsRequest(parent=SHOP, item_ids=["item-9", "nobody", "item-1"])
    )
    assert [found.id for found in batch.items] == ["item-9", "item-1"]
    assert list(batch.missing_ids) == ["nobody"]
    refusal = await refused(stack.catalogs.GetItem(pb.GetItemRequest(name=f"{SHOP}/items/a/b")))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "ITEM_NOT_FOUND")
    assert "a/b" in refusal.message


async def test_listing_visits_every_item_once(stack: Stack) -> None:
    request = pb.ListItemsRequest(parent=SHOP, page_size=6, filter=only("red"))
    seen: list[str] = []
    while True:
        page = await stack.catalogs.ListItems(request)
        seen += [item.id for item in page.items]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(seen) == sorted(f"item-{n}" for n in range(0, 40, 3))
    request.page_token = "AAAA"
    assert (await refused(stack.catalogs.ListItems(request))).reason == "PAGE_TOKEN_INVALID"


async def test_facets_count_values(stack: Stack) -> None:
    answer = await stack.catalogs.FacetItems(pb.FacetItemsRequest(parent=SHOP, fields=["colour"]))
    counts = {entry.value.string_value: entry.count for entry in answer.facets[0].values}
    assert counts == {"red": 14, "green": 13, "blue": 13}
    filtered = await stack.catalogs.FacetItems(
        pb.FacetItemsRequest(parent=SHOP, fields=["colour"], filter=only("blue"))
    )
    assert [entry.count for entry in filtered.facets[0].values] == [13]
    refusal = await refused(stack.catalogs.FacetItems(pb.FacetItemsRequest(parent=SHOP, fields=["size"])))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "UNKNOWN_FIELD")
    refusal = await refused(stack.catalogs.FacetItems(pb.FacetItemsRequest(parent=SHOP, fields=["weight"])))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "WRONG_FIELD_TYPE")


async def test_items_are_written_and_each_bad_one_fails_alone(stack: Stack) -> None:
    def item(name: str, **fields: payload_pb2.Value) -> pb.Item:
        return pb.Item(id=name, payload=payload_pb2.Payload(fields=fields))

    wrong_length = item("short")
    wrong_length.features.CopyFrom(pack(np.ones((1, 3), dtype=np.float32)))
    by_features = item("by-features", price=payload_pb2.Value(integer_value=7))
    by_features.features.CopyFrom(pack(features_of("own")[None, :], fingerprint=FINGERPRINT))
    answer = await stack.catalogs.BatchUpsertItems(
        pb.BatchUpsertItemsRequest(
            parent=SHOP,
            items=[
                pb.ItemWrite(item=item("by-picture"), content=b"a new picture"),
                pb.ItemWrite(item=item("unreadable"), content=UNREADABLE),
                pb.ItemWrite(item=by_features),
                pb.ItemWrite(item=wrong_length),
                pb.ItemWrite(
                    item=item("wrong-type", price=payload_pb2.Value(string_value="cheap")), content=b"x"
                ),
                pb.ItemWrite(item=item(""), content=b"x"),
                pb.ItemWrite(item=item("nothing")),
                pb.ItemWrite(item=by_features, content=b"x"),
            ],
        )
    )
    assert answer.written == 2
    reasons = {error.index: error.reason for error in answer.errors}
    assert sorted(reasons) == [1, 3, 4, 5, 6, 7]
    messages = {error.index: error.message for error in answer.errors}
    assert "neither content" in messages[6]
    assert "both content" in messages[7]
    search = await stack.search.Search(
        SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(image=b"a new picture"))], page_size=1)
    )
    assert search.results[0].item.id == "by-picture"
    fetched = await stack.catalogs.GetItem(
        pb.GetItemRequest(name=f"{SHOP}/items/by-features", with_features=True)
    )
    np.testing.assert_allclose(unpack(fetched.features)[0], features_of("own"), atol=1e-4)
    gone = await stack.catalogs.BatchDeleteItems(
        pb.BatchDeleteItemsRequest(parent=SHOP, item_ids=["by-picture", "by-features", "nobody"])
    )
    assert gone.deleted == 2
    assert (await stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))).published.item_count == 40


@pytest.mark.parametrize(
    "name", ["", "shop", "catalogs/", "catalogs/UPPER", "catalogs/shop/items", "catalogs/shop/versions/v1"]
)
async def test_names_that_are_no_items_are_refused(stack: Stack, name: str) -> None:
    assert (
        await refused(stack.catalogs.GetItem(pb.GetItemRequest(name=name)))
    ).code.name == "INVALID_ARGUMENT"


def item_update(item_id: str, image: str = "", **payload: object) -> pb.Item:
    return pb.Item(id=item_id, image=image, payload=to_payload(payload))


async def stored_item(stack: Stack, item_id: str) -> tuple[dict[str, object], str]:
    found = await stack.catalogs.GetItem(
        pb.GetItemRequest(name=f"{SHOP}/items/{item_id}", with_features=True)
    )
    number = int(item_id.removeprefix("item-"))
    np.testing.assert_allclose(unpack(found.features)[0], features_of(f"picture {number}"), atol=1e-4)
    return dict(from_payload(found.payload)), found.image


async def update_items(
    stack: Stack, *items: pb.Item, mask: tuple[str, ...] = ()
) -> pb.BatchUpdateItemsResponse:
    request = pb.BatchUpdateItemsRequest(parent=SHOP, items=items)
    request.update_mask.paths.extend(mask)
    return await stack.catalogs.BatchUpdateItems(request)


async def test_payloads_change_and_vectors_stay(stack: Stack) -> None:
    before, _ = await stored_item(stack, "item-4")
    answer = await update_items(
        stack, item_update("item-1", colour="black"), item_update("item-2", image="new.jpg")
    )
    assert (answer.updated, list(answer.errors)) == (2, [])
    # What an item has is replaced: the message of item-2 has a payload, and it is empty.
    assert await stored_item(stack, "item-1") == ({"colour": "black"}, "1.jpg")
    assert await stored_item(stack, "item-2") == ({}, "new.jpg")
    await update_items(stack, pb.Item(id="item-4", image="4-new.jpg"))
    assert await stored_item(stack, "item-4") == (before, "4-new.jpg")
    assert stack.embedder.images == 0
    found = await stack.search.Search(
        SearchRequest(parent=SHOP, turns=[Turn(text="x")], filter=only("black"), page_size=40)
    )
    assert [result.item.id for result in found.results] == ["item-1"]


async def test_a_mask_says_what_changes(stack: Stack) -> None:
    before, _ = await stored_item(stack, "item-5")
    sent = item_update("item-5", image="elsewhere.jpg", price=99, colour="black", note="new")
    await update_items(stack, sent, mask=("payload.fields.price", "payload.fields.note"))
    assert await stored_item(stack, "item-5") == ({**before, "price": 99, "note": "new"}, "5.jpg")
    await update_items(stack, pb.Item(id="item-5"), mask=("payload.fields.note", "payload.fields.colour"))
    expected = {name: value for name, value in before.items() if name != "colour"} | {"price": 99}
    assert await stored_item(stack, "item-5") == (expected, "5.jpg")
    await update_items(stack, pb.Item(id="item-5"), mask=("image",))
    assert await stored_item(stack, "item-5") == (expected, "")
    await update_items(stack, pb.Item(id="item-5"), mask=("payload",))
    assert await stored_item(stack, "item-5") == ({}, "")


async def test_of_one_id_the_later_entry_changes_what_the_earlier_left(stack: Stack) -> None:
    answer = await update_items(
        stack,
        item_update("item-6", price=1),
        item_update("item-6", weight=2.5),
        mask=("payload.fields.price", "payload.fields.weight"),
    )
    payload, _ = await stored_item(stack, "item-6")
    assert answer.updated == 2
    assert ("price" in payload, payload["weight"]) == (False, 2.5)


async def test_each_bad_item_fails_alone(stack: Stack) -> None:
    with_features = item_update("item-3")
    with_features.features.CopyFrom(pack(features_of("x")[None, :], fingerprint=FINGERPRINT))
    answer = await update_items(
        stack,
        item_update("item-1", price=7),
        item_update("nobody", price=7),
        item_update("item-2", price="cheap"),
        with_features,
        item_update("", price=7),
        pb.Item(id="item-4", image="x" * 5000),
        item_update("item-7", note="x" * 1_100_000),
        pb.Item(id="item-8", payload=payload_pb2.Payload(fields={"a": payload_pb2.Value()})),
        item_update("item-9", price=9),
    )
    assert answer.updated == 2
    assert {error.index: error.reason for error in answer.errors} == {
        1: 42,  # ITEM_NOT_FOUND
        2: 2,  # FIELD_INVALID
        3: 2,
        4: 1,  # FIELD_REQUIRED
        5: 3,  # OUT_OF_RANGE
        6: 3,
        7: 1,
    }
    assert [error.item_id for error in answer.errors][:2] == ["nobody", "item-2"]
    assert (await stored_item(stack, "item-1"))[0] == {"price": 7}
    assert (await stored_item(stack, "item-9"))[0] == {"price": 9}
    assert (await stored_item(stack, "item-2"))[0]["price"] == 2
    # Fields that are set one by one do not add up to more than a payload may have.
    big = "x" * 600_000
    assert (await update_items(stack, item_update("item-7", a=big), mask=("payload.fields.a",))).updated == 1
    answer = await update_items(stack, item_update("item-7", b=big), mask=("payload.fields.b",))
    assert [error.reason for error in answer.errors] == [3]


async def test_changes_of_different_fields_at_the_same_moment_all_count(stack: Stack) -> None:
    fields = [f"f{number}" for number in range(12)]
    await asyncio.gather(
        *(
            update_items(
                stack,
                pb.Item(id="item-1", payload=to_payload({name: 1})),
                mask=(f"payload.fields.{name}",),
            )
            for name in fields
        )
    )
    assert set(fields) <= set((await stored_item(stack, "item-1"))[0])


async def test_requests_that_cannot_be_are_refused_as_a_whole(stack: Stack) -> None:
    for request, reason, field in (
        (pb.BatchUpdateItemsRequest(parent=SHOP), "FIELD_REQUIRED", "items"),
        (pb.BatchUpdateItemsRequest(parent=SHOP, items=[item_update("a")] * 257), "TOO_MANY_ITEMS", "items"),
        (pb.BatchUpdateItemsRequest(items=[item_update("a")]), "FIELD_REQUIRED", "parent"),
        (
            pb.BatchUpdateItemsRequest(
                parent=SHOP, items=[item_update("a")], update_mask=FieldMask(paths=["features"])
            ),
            "FIELD_INVALID",
            "update_mask",
        ),
    ):
        refusal = await refused(stack.catalogs.BatchUpdateItems(request))
        assert (refusal.reason, refusal.field) == (reason, field)
    refusal = await refused(
        stack.catalogs.BatchUpdateItems(
            pb.BatchUpdateItemsRequest(parent="catalogs/none", items=[item_update("a")])
        )
    )
    assert refusal.reason == "CATALOG_NOT_FOUND"


async def test_items_are_deleted_by_filter(stack: Stack) -> None:
    request = pb.BatchDeleteItemsRequest(parent=SHOP, filter=only("red"), validate_only=True)
    assert (await stack.catalogs.BatchDeleteItems(request)).deleted == 14
    by_id = pb.BatchDeleteItemsRequest(parent=SHOP, item_ids=["item-1", "nobody"], validate_only=True)
    assert (await stack.catalogs.BatchDeleteItems(by_id)).deleted == 1
    catalog = await stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))
    assert catalog.published.item_count == 40
    request.validate_only = False
    assert (await stack.catalogs.BatchDeleteItems(request)).deleted == 14
    assert (await stack.catalogs.BatchDeleteItems(request)).deleted == 0
    found = await stack.search.Search(SearchRequest(parent=SHOP, turns=[Turn(text="x")], page_size=40))
    assert len(found.results) == 26


@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_deletion_that_would_empty_the_catalog_is_refused(stack: Stack, validate_only: bool) -> None:
    empty = filter_pb2.Filter()
    nested = filter_pb2.Filter(must=[filter_pb2.Condition(filter=empty)])
    for where in (empty, nested, filter_pb2.Filter(should=[filter_pb2.Condition(filter=nested)])):
        request = pb.BatchDeleteItemsRequest(parent=SHOP, filter=where, validate_only=validate_only)
        refusal = await refused(stack.catalogs.BatchDeleteItems(request))
        assert (refusal.reason, refusal.field) == ("FIELD_REQUIRED", "filter")
        assert "every item would be deleted" in refusal.message
    for request, reason, field in (
        (pb.BatchDeleteItemsRequest(parent=SHOP), "FIELD_REQUIRED", "item_ids"),
        (
            pb.BatchDeleteItemsRequest(parent=SHOP, item_ids=["a"], filter=only("red")),
            "FIELD_INVALID",
            "filter",
        ),
    ):
        refusal = await refused(stack.catalogs.BatchDeleteItems(request))
        assert (refusal.reason, refusal.field) == (reason, field)
    match = filter_pb2.MatchAny(field="size", values=[payload_pb2.Value(string_value="red")])
    unknown = filter_pb2.Filter(must=[filter_pb2.Condition(match_any=match)])
    refusal = await refused(
        stack.catalogs.BatchDeleteItems(pb.BatchDeleteItemsRequest(parent=SHOP, filter=unknown))
    )
    assert (refusal.reason, refusal.field) == ("UNKNOWN_FIELD", "filter")
    catalog = await stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))
    assert catalog.published.item_count == 40


async def test_the_client_updates_and_deletes(stack: Stack) -> None:
    def calls() -> None:
        with Client(stack.address, timeout=10) as client:
            written = client.update("shop", [ItemUpdate("item-1", {"price": 500}), ItemUpdate("nobody")])
            assert written.updated == 1
            assert [error.reason for error in written.errors] == ["ITEM_NOT_FOUND"]
            assert (
                client.update("shop", [ItemUpdate("item-2", {"price": 600})], fields=["price"]).updated == 1
            )
            assert client.item("shop", "item-2").payload["colour"] == "blue"
            expensive = {"price": {"gte": 500}}
            assert client.delete_where("shop", expensive, validate_only=True) == 2
            assert client.delete_where("shop", expensive) == 2
            assert client.delete_where("shop", expensive) == 0

    await asyncio.to_thread(calls)
