"""Vectors of two models never meet: wherever they would, the call is refused and both are named."""

from __future__ import annotations

import numpy as np
import pytest

from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack
from tests.refused import Refusal, refused
from tests.search_service.conftest import SCHEMA, Stack
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, features_of
from vector_store import open_store
from vector_store.types import PointBatch, VersionSpec

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"
OTHER = "clip-other"
COMPOSED = SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(item_id="item-1"), text="in red")])
BY_PICTURE = SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(image=b"picture 3"))])


def check(refusal: Refusal) -> None:
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "FINGERPRINT_MISMATCH")
    assert FINGERPRINT in refusal.message
    assert OTHER in refusal.message


async def other_version(stack: Stack) -> str:
    """A finished version of another model, not published; its resource name."""
    store = open_store(stack.store_url)
    writer = await store.create_version("shop", VersionSpec(DIMENSION, OTHER, SCHEMA, {}))
    rows = np.stack([features_of("x")])
    await writer.upsert(PointBatch(ids=["x"], features=rows, payloads=[{}], images=[""]))
    info = await writer.finish()
    await store.close()
    return f"{SHOP}/versions/{info.version}"


async def test_an_embedder_or_a_combiner_of_another_model(stack: Stack) -> None:
    by_text = SearchRequest(parent=SHOP, turns=[Turn(text="red")])
    for looks in (True, False):
        stack.embedder.fingerprint, stack.embedder.looks = OTHER, looks
        for request in (COMPOSED, BY_PICTURE, by_text):
            check(await refused(stack.search.Search(request)))
    stack.embedder.fingerprint = FINGERPRINT
    for looks in (True, False):
        stack.combiner.fingerprint, stack.combiner.looks = OTHER, looks
        check(await refused(stack.search.Search(COMPOSED)))
    assert (await stack.search.Search(by_text)).results


async def test_features_of_another_model(stack: Stack) -> None:
    features = pack(features_of("x")[None, :], fingerprint=OTHER)
    turn = Turn(reference=Reference(features=features))
    refusal = await refused(stack.search.Search(SearchRequest(parent=SHOP, turns=[turn])))
    check(refusal)
    assert refusal.field == "turns[0].reference.features"
    assert refusal.metadata == {"expected": FINGERPRINT, "actual": OTHER}


async def test_written_features_of_another_model_fail_alone(stack: Stack) -> None:
    writes = [
        pb.ItemWrite(item=pb.Item(id=name, features=pack(features_of(name)[None, :], fingerprint=model)))
        for name, model in (("good", FINGERPRINT), ("bad", OTHER))
    ]
    answer = await stack.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=writes))
    assert answer.written == 1
    [error] = answer.errors
    assert (error.index, error.reason, error.code) == (1, 60, 9)
    assert FINGERPRINT in error.message
    assert OTHER in error.message


async def test_written_pictures_with_an_embedder_of_another_model(stack: Stack) -> None:
    write = pb.ItemWrite(item=pb.Item(id="new"), content=b"a picture")
    for looks in (True, False):
        stack.embedder.fingerprint, stack.embedder.looks = OTHER, looks
        check(
            await refused(
                stack.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=[write]))
            )
        )
    refusal = await refused(stack.catalogs.GetItem(pb.GetItemRequest(name=f"{SHOP}/items/new")))
    assert refusal.reason == "ITEM_NOT_FOUND"


async def test_publishing_a_version_of_another_model(stack: Stack) -> None:
    before = await stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))
    name = await other_version(stack)
    refusal = await refused(stack.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=name)))
    check(refusal)
    assert (refusal.field, refusal.metadata) == ("name", {"expected": OTHER, "actual": FINGERPRINT})
    after = await stack.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))
    assert after.published.name == before.published.name
    # On purpose it is possible, and the way back is open whatever the embedder serves.
    request = pb.PublishCatalogVersionRequest(name=name, allow_model_change=True)
    assert (await stack.catalogs.PublishCatalogVersion(request)).published.model_fingerprint == OTHER
    check(await refused(stack.search.Search(BY_PICTURE)))
    back = await stack.catalogs.RollbackCatalog(pb.RollbackCatalogRequest(name=SHOP))
    assert back.published.name == before.published.name


async def test_an_embedder_that_is_away_stops_no_publishing(stack: Stack) -> None:
    name = await other_version(stack)
    await stack.embedder_server.stop(None)
    request = pb.PublishCatalogVersionRequest(name=name)
    assert (await stack.catalogs.PublishCatalogVersion(request)).published.name == name


async def test_publishing_what_is_not_there_says_so(stack: Stack) -> None:
    for name, reason in ((f"{SHOP}/versions/v9999", "VERSION_NOT_FOUND"), ("catalogs/none/versions/v1", "")):
        refusal = await refused(
            stack.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=name))
        )
        assert refusal.code.name == "NOT_FOUND"
        assert refusal.reason == (reason or "CATALOG_NOT_FOUND")
