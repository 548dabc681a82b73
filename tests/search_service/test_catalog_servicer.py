"""Catalogs, versions and items over gRPC."""

from __future__ import annotations

import numpy as np
import pytest

from cir.common.v1 import payload_pb2
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import filter_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack, unpack
from tests.refused import refused
from tests.search_service.conftest import Stack, publish
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, UNREADABLE, features_of
from vector_store import open_store

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
    assert shop.schema["price"] == pb.INTEGER
    assert shop.model["architecture"] == "test"
    assert (
        await refused(stack.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=-1)))
    ).field == "page_size"


async def test_publish_and_roll_back(stack: Stack) -> None:
    store = open_store(stack.store_url)
    second = await publish(store, "shop", 5, first=100)
    await store.close()
    versions = (await stack.catalogs.ListCatalogVersions(pb.ListCatalogVersionsRequest(parent=SHOP))).versions
    assert [version.state for version in versions] == [pb.PUBLISHED, pb.RETIRED]
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
    answer = await stack.catalogs.UpsertItems(
        pb.UpsertItemsRequest(
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
            ],
        )
    )
    assert answer.written == 2
    reasons = {error.index: error.reason for error in answer.errors}
    assert sorted(reasons) == [1, 3, 4, 5, 6]
    search = await stack.search.Search(
        SearchRequest(catalog=SHOP, turns=[Turn(reference=Reference(image=b"a new picture"))], limit=1)
    )
    assert search.results[0].item.id == "by-picture"
    fetched = await stack.catalogs.GetItem(
        pb.GetItemRequest(name=f"{SHOP}/items/by-features", with_features=True)
    )
    np.testing.assert_allclose(unpack(fetched.features)[0], features_of("own"), atol=1e-4)
    gone = await stack.catalogs.DeleteItems(
        pb.DeleteItemsRequest(parent=SHOP, item_ids=["by-picture", "by-features", "nobody"])
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
