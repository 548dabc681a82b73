"""Catalogs, versions and fields made by calls, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cir.common.v1 import payload_pb2
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import filter_pb2
from cir.vectors import pack
from tests.refused import refused
from tests.search_service.either_engine import Service, running_service
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, features_of
from tests.vector_store.engines import ENGINES

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"
FIRST, SECOND = f"{SHOP}/versions/v0001", f"{SHOP}/versions/v0002"
KINDS = {"colour": pb.FIELD_TYPE_KEYWORD, "price": pb.FIELD_TYPE_INTEGER}


@pytest.fixture(params=ENGINES)
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """A service without catalogs on each engine."""
    async with running_service(request.param, tmp_path) as running:
        yield running


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Service]:
    """The same on one engine, for what no engine has a part in."""
    async with running_service("local", tmp_path) as running:
        yield running


def value(of: Any) -> payload_pb2.Value:
    if isinstance(of, bool):
        return payload_pb2.Value(bool_value=of)
    return payload_pb2.Value(integer_value=of) if isinstance(of, int) else payload_pb2.Value(string_value=of)


def write(item_id: str, **payload: Any) -> pb.ItemWrite:
    fields = {name: value(of) for name, of in payload.items()}
    return pb.ItemWrite(
        item=pb.Item(
            id=item_id,
            payload=payload_pb2.Payload(fields=fields),
            features=pack(features_of(item_id)[None, :], fingerprint=FINGERPRINT),
        )
    )


async def listed(service: Service, **condition: Any) -> list[str]:
    """Ids of the items of a shop whose field has a value."""
    must = [
        filter_pb2.Condition(match_any=filter_pb2.MatchAny(field=name, values=[value(of)]))
        for name, of in condition.items()
    ]
    request = pb.ListItemsRequest(parent=SHOP, filter=filter_pb2.Filter(must=must))
    return sorted(item.id for item in (await service.catalogs.ListItems(request)).items)


async def create(service: Service, **options: Any) -> pb.Catalog:
    return await service.catalogs.CreateCatalog(
        pb.CreateCatalogRequest(catalog_id="shop", schema=KINDS, **options)
    )


async def test_a_catalog_is_created_and_takes_items_at_once(service: Service) -> None:
    index = pb.IndexSettings(hnsw_m=8, quantization=pb.QUANTIZATION_INT8)
    created = await create(service, index=index)
    published = created.published
    assert (created.name, published.name, published.state) == (SHOP, FIRST, pb.VERSION_STATE_PUBLISHED)
    assert (published.item_count, published.dimension) == (0, DIMENSION)
    assert (published.model_fingerprint, dict(published.schema)) == (FINGERPRINT, KINDS)
    assert (published.index.hnsw_m, published.index.hnsw_ef_construct) == (8, 100)
    assert published.index.quantization == pb.QUANTIZATION_INT8
    assert await service.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP)) == created
    answer = await service.catalogs.BatchUpsertItems(
        pb.BatchUpsertItemsRequest(parent=SHOP, items=[write("a", colour="red"), write("b", colour="blue")])
    )
    assert answer.written == 2
    assert await listed(service, colour="red") == ["a"]
    refusal = await refused(create(service))
    assert (refusal.code.name, refusal.reason, refusal.field) == (
        "ALREADY_EXISTS",
        "CATALOG_EXISTS",
        "catalog_id",
    )
    assert await listed(service) == ["a", "b"]


async def test_of_calls_that_create_one_catalog_at_once_one_does(service: Service) -> None:
    done = await asyncio.gather(*(create(service) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, pb.Catalog) for one in done) == 1
    versions = await service.catalogs.ListCatalogVersions(pb.ListCatalogVersionsRequest(parent=SHOP))
    assert len(versions.versions) == 1


async def test_each_call_that_finishes_a_version_is_held_to_its_own_number(local: Service) -> None:
    await create(local)
    await local.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent=SHOP))
    numbers = [1, 0, 1, 0]
    calls = [pb.FinishCatalogVersionRequest(name=SECOND, expected_item_count=number) for number in numbers]
    done = await asyncio.gather(
        *(local.catalogs.FinishCatalogVersion(call) for call in calls), return_exceptions=True
    )
    assert [isinstance(one, pb.CatalogVersion) for one in done] == [number == 0 for number in numbers]


async def test_a_version_is_filled_finished_and_published_or_dropped(service: Service) -> None:
    await create(service)
    start = pb.CreateCatalogVersionRequest(parent=SHOP)
    started = await service.catalogs.CreateCatalogVersion(start)
    assert (started.name, started.state, dict(started.schema)) == (SECOND, pb.VERSION_STATE_BUILDING, KINDS)
    publish = pb.PublishCatalogVersionRequest(name=SECOND)
    assert (await refused(service.catalogs.PublishCatalogVersion(publish))).reason == "VERSION_STATE"
    wrong = pb.FinishCatalogVersionRequest(name=SECOND, expected_item_count=1)
    refusal = await refused(service.catalogs.FinishCatalogVersion(wrong))
    assert (refusal.reason, refusal.field) == ("VERSION_STATE", "expected_item_count")
    finish = pb.FinishCatalogVersionRequest(name=SECOND, expected_item_count=0)
    many = await asyncio.gather(*(service.catalogs.FinishCatalogVersion(finish) for _ in range(16)))
    assert {version.state for version in many} == {pb.VERSION_STATE_READY}
    assert (await service.catalogs.FinishCatalogVersion(finish)).state == pb.VERSION_STATE_READY
    assert (await refused(service.catalogs.FinishCatalogVersion(wrong))).reason == "VERSION_STATE"
    abort = pb.AbortCatalogVersionRequest(name=SECOND)
    assert (await refused(service.catalogs.AbortCatalogVersion(abort))).reason == "VERSION_STATE"
    assert (await service.catalogs.PublishCatalogVersion(publish)).published.name == SECOND

    third = await service.catalogs.CreateCatalogVersion(
        pb.CreateCatalogVersionRequest(parent=SHOP, schema={"size": pb.FIELD_TYPE_FLOAT})
    )
    assert dict(third.schema) == {"size": pb.FIELD_TYPE_FLOAT}
    await service.catalogs.AbortCatalogVersion(pb.AbortCatalogVersionRequest(name=third.name))
    again = pb.AbortCatalogVersionRequest(name=third.name)
    assert (await refused(service.catalogs.AbortCatalogVersion(again))).reason == "VERSION_NOT_FOUND"
    finish_none = pb.FinishCatalogVersionRequest(name=third.name)
    assert (await refused(service.catalogs.FinishCatalogVersion(finish_none))).reason == "VERSION_NOT_FOUND"


async def test_the_model_is_the_embedders_or_one_that_is_described(local: Service) -> None:
    async def attempt(**model: Any) -> str:
        return (await refused(create(local, model=pb.VersionModel(**model)))).reason

    assert await attempt() == "FIELD_REQUIRED"
    assert await attempt(dimension=4) == "FIELD_REQUIRED"
    assert await attempt(fingerprint="other") == "FINGERPRINT_MISMATCH"
    assert await attempt(fingerprint=FINGERPRINT, dimension=DIMENSION + 1) == "WRONG_DIMENSION"
    assert await attempt(fingerprint="other", dimension=65_537) == "OUT_OF_RANGE"
    assert await attempt(fingerprint="a\nb", dimension=4) == "FIELD_INVALID"
    assert await attempt(fingerprint="x" * 257, dimension=4) == "FIELD_INVALID"
    created = await create(local, model=pb.VersionModel(fingerprint="other", dimension=4))
    assert (created.published.model_fingerprint, created.published.dimension) == ("other", 4)
    # The next version is of the embedder's model again.
    next_one = await local.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent=SHOP))
    assert (next_one.model_fingerprint, next_one.dimension) == (FINGERPRINT, DIMENSION)


@pytest.mark.parametrize(
    "fields", [{"": pb.FIELD_TYPE_KEYWORD}, {"a\nb": pb.FIELD_TYPE_KEYWORD}, {"a": 0}, {"a": 99}]
)
async def test_fields_that_cannot_be_are_refused(local: Service, fields: dict[str, Any]) -> None:
    request = pb.CreateCatalogRequest(catalog_id="shop", schema=fields)
    refusal = await refused(local.catalogs.CreateCatalog(request))
    assert (refusal.reason, refusal.field) == ("FIELD_INVALID", f"schema.{next(iter(fields))}")
    assert not (await local.catalogs.ListCatalogs(pb.ListCatalogsRequest())).catalogs


async def test_bad_names_numbers_and_catalogs(local: Service) -> None:
    for name, reason in (("", "FIELD_REQUIRED"), ("catalogs/shop", "FIELD_INVALID"), ("A", "FIELD_INVALID")):
        refusal = await refused(local.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id=name)))
        assert (refusal.reason, refusal.field) == (reason, "catalog_id")
    many: dict[str, Any] = {f"f{number}": pb.FIELD_TYPE_FLOAT for number in range(257)}
    refusal = await refused(
        local.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="shop", schema=many))
    )
    assert (refusal.reason, refusal.field) == ("OUT_OF_RANGE", "schema")
    for setting in ("hnsw_m", "hnsw_ef_construct", "shards", "replicas", "write_consistency"):
        refusal = await refused(create(local, index=pb.IndexSettings(**{setting: 5000})))  # type: ignore[arg-type]
        assert (refusal.reason, refusal.field) == ("OUT_OF_RANGE", f"index.{setting}")
    unknown = pb.IndexSettings()
    unknown.quantization = 77  # type: ignore[assignment]
    assert (await refused(create(local, index=unknown))).field == "index.quantization"
    missing = pb.CreateCatalogVersionRequest(parent="catalogs/none")
    refusal = await refused(local.catalogs.CreateCatalogVersion(missing))
    assert refusal.reason == "CATALOG_NOT_FOUND"


async def test_added_fields_can_be_filtered_and_faceted(service: Service) -> None:
    await create(service)
    items = [
        write("a", colour="red", sale=True, title="Long blue dress", season="summer"),
        write("b", colour="blue", sale=False, title="hat", season="winter"),
        write("c", colour="blue"),
    ]
    await service.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=items))
    fields: dict[str, Any] = {
        "season": pb.FIELD_TYPE_KEYWORD,
        "sale": pb.FIELD_TYPE_BOOL,
        "title": pb.FIELD_TYPE_TEXT,
        "colour": pb.FIELD_TYPE_KEYWORD,
    }
    added = await service.catalogs.AddCatalogFields(pb.AddCatalogFieldsRequest(name=SHOP, fields=fields))
    assert dict(added.published.schema) == {**KINDS, **fields}
    assert (added.published.name, added.published.item_count) == (SECOND, 3)
    assert await listed(service, season="summer") == ["a"]
    assert await listed(service, sale=True) == ["a"]
    assert await listed(service, sale=False, colour="blue") == ["b"]
    words = filter_pb2.Condition(match_text=filter_pb2.MatchText(field="title", text="BLUE"))
    request = pb.ListItemsRequest(parent=SHOP, filter=filter_pb2.Filter(must=[words]))
    assert [item.id for item in (await service.catalogs.ListItems(request)).items] == ["a"]
    facets = await service.catalogs.FacetItems(pb.FacetItemsRequest(parent=SHOP, fields=["season", "sale"]))
    assert [len(facet.values) for facet in facets.facets] == [2, 2]
    stored = await service.catalogs.GetItem(pb.GetItemRequest(name=f"{SHOP}/items/a", with_features=True))
    assert stored.payload == items[0].item.payload
    # Once more, nothing is left to do.
    again = await service.catalogs.AddCatalogFields(pb.AddCatalogFieldsRequest(name=SHOP, fields=fields))
    assert again == added
    back = await service.catalogs.RollbackCatalog(pb.RollbackCatalogRequest(name=SHOP))
    assert dict(back.published.schema) == KINDS


async def test_a_rollback_past_the_first_upload_is_refused(service: Service) -> None:
    await create(service)
    started = await service.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent=SHOP))
    await service.catalogs.FinishCatalogVersion(pb.FinishCatalogVersionRequest(name=started.name))
    await service.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=started.name))
    await service.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=[write("a")]))
    refusal = await refused(service.catalogs.RollbackCatalog(pb.RollbackCatalogRequest(name=SHOP)))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "VERSION_STATE")
    assert "has no items" in refusal.message
    assert await listed(service) == ["a"]
    named = await service.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=FIRST))
    assert named.published.item_count == 0


async def test_an_empty_version_does_not_replace_items_unless_that_is_said(service: Service) -> None:
    await create(service)
    await service.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=[write("a")]))
    await service.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent=SHOP))
    finish = pb.FinishCatalogVersionRequest(name=SECOND)
    refusal = await refused(service.catalogs.FinishCatalogVersion(finish))
    assert (refusal.reason, refusal.field) == ("VERSION_STATE", "expected_item_count")
    publish = pb.PublishCatalogVersionRequest(name=SECOND)
    assert (await refused(service.catalogs.PublishCatalogVersion(publish))).reason == "VERSION_STATE"
    assert await listed(service) == ["a"]
    meant = pb.FinishCatalogVersionRequest(name=SECOND, expected_item_count=0)
    assert (await service.catalogs.FinishCatalogVersion(meant)).state == pb.VERSION_STATE_READY
    await service.catalogs.PublishCatalogVersion(publish)
    assert await listed(service) == []


async def test_fields_that_contradict_schema_or_items_change_nothing(service: Service) -> None:
    await create(service)
    items = [write("a", colour="red", season=7), write("b", season="winter")]
    await service.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=items))
    before = await service.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP))

    async def attempt(**fields: Any) -> tuple[str, str]:
        request = pb.AddCatalogFieldsRequest(name=SHOP, fields=fields)
        refusal = await refused(service.catalogs.AddCatalogFields(request))
        return refusal.reason, refusal.field

    assert await attempt() == ("FIELD_REQUIRED", "fields")
    assert await attempt(colour=pb.FIELD_TYPE_INTEGER) == ("FIELD_INVALID", "fields.colour")
    assert await attempt(season=pb.FIELD_TYPE_KEYWORD) == ("FIELD_INVALID", "fields.season")
    assert await attempt(size=77) == ("FIELD_INVALID", "fields.size")
    assert await service.catalogs.GetCatalog(pb.GetCatalogRequest(name=SHOP)) == before
    versions = await service.catalogs.ListCatalogVersions(pb.ListCatalogVersionsRequest(parent=SHOP))
    assert len(versions.versions) == 1


async def test_no_change_is_lost_while_fields_are_added(service: Service) -> None:
    await create(service)
    add = pb.AddCatalogFieldsRequest(name=SHOP, fields={"season": pb.FIELD_TYPE_KEYWORD})
    written: list[str] = []

    async def keep_writing() -> None:
        for number in range(40):
            request = pb.BatchUpsertItemsRequest(parent=SHOP, items=[write(f"item-{number:02d}")])
            try:
                await service.catalogs.BatchUpsertItems(request)
            except Exception:  # refused meanwhile
                continue
            written.append(f"item-{number:02d}")

    writing = asyncio.ensure_future(keep_writing())
    while len(written) < 3:  # noqa: ASYNC110  # the service knows no events
        await asyncio.sleep(0)
    added = await service.catalogs.AddCatalogFields(add)
    await writing
    assert "season" in added.published.schema
    assert await listed(service) == written
