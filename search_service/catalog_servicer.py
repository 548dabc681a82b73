"""CatalogService over gRPC: catalogs, versions and items of the store."""

from __future__ import annotations

from typing import Any

import grpc.aio

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import catalog_pb2_grpc as rpc
from search_service import names
from search_service.embedder_client import EmbedderClient
from search_service.filter_reading import read_filter
from search_service.item_writes import write_items
from search_service.messages import write_catalog, write_item, write_version
from search_service.page_token import PageToken, decode, digest_of
from search_service.paging import page_of, page_size
from search_service.payload import write_value
from search_service.reading import open_reader
from search_service.settings import SearchSettings
from search_service.store_refusals import store_refusals
from service_runtime.deadlines import downstream
from service_runtime.errors import ServiceError
from vector_store.catalogs import CatalogInfo
from vector_store.contract import VectorStore

MAX_IDS = 1000
MAX_FACETS = 16

Context = grpc.aio.ServicerContext[Any, Any]


class CatalogServicer(rpc.CatalogServiceServicer):
    """Every method is described in protos/cir/search/v1/catalog.proto."""

    def __init__(self, store: VectorStore, embedder: EmbedderClient, settings: SearchSettings) -> None:
        self._store = store
        self._embedder = embedder
        self._settings = settings

    async def ListCatalogs(
        self, request: pb.ListCatalogsRequest, context: Context
    ) -> pb.ListCatalogsResponse:
        """Every catalog, by name."""
        size = page_size(request.page_size)
        with store_refusals():
            catalogs = await self._store.list_catalogs()
        digest = digest_of(request, "page_token", "page_size")
        page, token = page_of(catalogs, size=size, token=request.page_token, digest=digest)
        return pb.ListCatalogsResponse(catalogs=[write_catalog(info) for info in page], next_page_token=token)

    async def GetCatalog(self, request: pb.GetCatalogRequest, context: Context) -> pb.Catalog:
        """One catalog."""
        return await self._catalog(names.parse_catalog(request.name, field="name"))

    async def ListCatalogVersions(
        self, request: pb.ListCatalogVersionsRequest, context: Context
    ) -> pb.ListCatalogVersionsResponse:
        """Every version of a catalog, newest first."""
        catalog = names.parse_catalog(request.parent, field="parent")
        size = page_size(request.page_size)
        with store_refusals():
            versions = (await self._store.list_versions(catalog))[::-1]
        digest = digest_of(request, "page_token", "page_size")
        page, token = page_of(versions, size=size, token=request.page_token, digest=digest)
        return pb.ListCatalogVersionsResponse(
            versions=[write_version(info) for info in page], next_page_token=token
        )

    async def PublishCatalogVersion(
        self, request: pb.PublishCatalogVersionRequest, context: Context
    ) -> pb.Catalog:
        """Switch to a finished version."""
        catalog, version = names.parse_version(request.name, field="name")
        with store_refusals():
            return write_catalog(CatalogInfo(catalog, await self._store.publish(catalog, version)))

    async def RollbackCatalog(self, request: pb.RollbackCatalogRequest, context: Context) -> pb.Catalog:
        """Switch back to the version that was published before."""
        catalog = names.parse_catalog(request.name, field="name")
        with store_refusals():
            return write_catalog(CatalogInfo(catalog, await self._store.rollback(catalog)))

    async def DeleteCatalogVersion(
        self, request: pb.DeleteCatalogVersionRequest, context: Context
    ) -> pb.DeleteCatalogVersionResponse:
        """Drop a version that is not published."""
        catalog, version = names.parse_version(request.name, field="name")
        with store_refusals():
            await self._store.delete_version(catalog, version)
        return pb.DeleteCatalogVersionResponse()

    async def DeleteCatalog(
        self, request: pb.DeleteCatalogRequest, context: Context
    ) -> pb.DeleteCatalogResponse:
        """Drop a catalog."""
        catalog = names.parse_catalog(request.name, field="name")
        with store_refusals():
            await self._store.delete_catalog(catalog)
        return pb.DeleteCatalogResponse()

    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.Item:
        """One item of the published version."""
        catalog, item_id = names.parse_item(request.name, field="name")
        async with open_reader(self._store, catalog) as reader:
            items = await reader.retrieve([item_id], with_features=request.with_features)
            if item_id not in items:
                raise ServiceError(
                    errors.ITEM_NOT_FOUND, f"catalog {catalog} has no item {item_id!r}", field="name"
                )
            return write_item(items[item_id], reader.info.spec)

    async def BatchGetItems(
        self, request: pb.BatchGetItemsRequest, context: Context
    ) -> pb.BatchGetItemsResponse:
        """Several items of the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        ids = _item_ids(request.item_ids)
        async with open_reader(self._store, catalog) as reader:
            items = await reader.retrieve(ids, with_features=request.with_features)
            return pb.BatchGetItemsResponse(
                items=[write_item(items[item_id], reader.info.spec) for item_id in ids if item_id in items],
                missing_ids=[item_id for item_id in ids if item_id not in items],
            )

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        """Items page by page; the pages of one listing are all of one version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        size = page_size(request.page_size)
        where = read_filter(request.filter, max_conditions=self._settings.max_filter_conditions)
        digest = digest_of(request, "page_token", "page_size", "with_features")
        start = decode(request.page_token, digest) if request.page_token else PageToken("", "")
        async with open_reader(self._store, catalog, start.version, paging=bool(start.version)) as reader:
            with store_refusals(field="filter" if where else "page_token"):
                items, after = await reader.scroll(
                    limit=size, after=start.cursor, where=where or None, with_features=request.with_features
                )
            return pb.ListItemsResponse(
                items=[write_item(item, reader.info.spec) for item in items],
                next_page_token=PageToken(reader.info.version, after).encode(digest) if after else "",
            )

    async def UpsertItems(self, request: pb.UpsertItemsRequest, context: Context) -> pb.UpsertItemsResponse:
        """Write items into the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        _count(len(request.items), self._settings.max_write_items, "items")
        timeout = downstream(context, self._settings.call_timeout_seconds)
        async with open_reader(self._store, catalog) as reader:
            return await write_items(
                request.items,
                reader=reader,
                embedder=self._embedder,
                settings=self._settings,
                timeout=timeout,
            )

    async def DeleteItems(self, request: pb.DeleteItemsRequest, context: Context) -> pb.DeleteItemsResponse:
        """Delete items of the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        ids = _item_ids(request.item_ids)
        async with open_reader(self._store, catalog) as reader:
            return pb.DeleteItemsResponse(deleted=await reader.delete(ids))

    async def FacetItems(self, request: pb.FacetItemsRequest, context: Context) -> pb.FacetItemsResponse:
        """The commonest values of fields."""
        catalog = names.parse_catalog(request.parent, field="parent")
        _count(len(request.fields), MAX_FACETS, "fields")
        limit = page_size(request.limit, field="limit", default=20)
        where = read_filter(request.filter, max_conditions=self._settings.max_filter_conditions)
        answer = pb.FacetItemsResponse()
        async with open_reader(self._store, catalog) as reader:
            schema = reader.info.spec.schema
            for index, field in enumerate(request.fields):
                known = field in schema
                with store_refusals(field="filter" if known and where else f"fields[{index}]"):
                    values = await reader.facet(field, limit=limit, where=where or None)
                answer.facets.append(
                    pb.Facet(
                        field=field,
                        values=[
                            pb.FacetCount(
                                value=write_value(entry.value, schema.get(field)), count=entry.count
                            )
                            for entry in values
                        ],
                    )
                )
        return answer

    async def _catalog(self, catalog: str) -> pb.Catalog:
        with store_refusals():
            catalogs = await self._store.list_catalogs()
        for info in catalogs:
            if info.catalog == catalog:
                return write_catalog(info)
        known = ", ".join(info.catalog for info in catalogs[:20]) or "none"
        raise ServiceError(
            errors.CATALOG_NOT_FOUND, f"there is no catalog {catalog!r}; there are: {known}", field="name"
        )


def _item_ids(ids: Any) -> list[str]:
    """Item ids of a request, each once, in their order. Raises `ServiceError`."""
    _count(len(ids), MAX_IDS, "item_ids")
    for index, item_id in enumerate(ids):
        names.check_item_id(item_id, field=f"item_ids[{index}]")
    return list(dict.fromkeys(ids))


def _count(count: int, limit: int, field: str) -> None:
    if not count:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; give at least one", field=field)
    if count > limit:
        raise ServiceError(
            errors.TOO_MANY_ITEMS, f"{count} {field}; at most {limit} are taken in one call", field=field
        )
