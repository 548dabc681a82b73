"""CatalogService over gRPC: catalogs, versions and items of the store."""

from __future__ import annotations

from typing import Any

import grpc.aio

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import catalog_pb2_grpc as rpc
from search_service import names
from search_service.convert import catalog_message, item_message, value_message, version_message
from search_service.embedder_client import EmbedderClient
from search_service.filters import parse_filter
from search_service.items import ItemUpdates, delete_items, parse_deletion, parse_update_mask, write_items
from search_service.names import may_use
from search_service.paging import PageToken, decode_page_token, page_size, request_digest, slice_page
from search_service.request import check_count, parse_item_ids
from search_service.settings import SearchSettings
from search_service.store import check_embedder_model, open_reader, store_refusals
from service_runtime.errors import ServiceError
from service_runtime.interceptor import downstream_timeout
from vector_store.base import VectorStore
from vector_store.types import CatalogInfo

MAX_FACETS = 16

Context = grpc.aio.ServicerContext[Any, Any]


class CatalogServicer(rpc.CatalogServiceServicer):
    """Every method is described in protos/cir/search/v1/catalog.proto."""

    def __init__(self, store: VectorStore, embedder: EmbedderClient, settings: SearchSettings) -> None:
        self._store = store
        self._embedder = embedder
        self._settings = settings
        self._updates = ItemUpdates(settings)

    async def ListCatalogs(
        self, request: pb.ListCatalogsRequest, context: Context
    ) -> pb.ListCatalogsResponse:
        """Every catalog that the key is for, by name."""
        size = page_size(request.page_size)
        with store_refusals():
            catalogs = [info for info in await self._store.list_catalogs() if may_use(info.catalog)]
        digest = request_digest(request, "page_token", "page_size")
        page, token = slice_page(catalogs, size=size, token=request.page_token, digest=digest)
        return pb.ListCatalogsResponse(
            catalogs=[catalog_message(info) for info in page], next_page_token=token
        )

    async def GetCatalog(self, request: pb.GetCatalogRequest, context: Context) -> pb.Catalog:
        """One catalog."""
        catalog = names.parse_catalog(request.name, field="name")
        with store_refusals(field="name"):
            return catalog_message(await self._store.get_catalog(catalog))

    async def ListCatalogVersions(
        self, request: pb.ListCatalogVersionsRequest, context: Context
    ) -> pb.ListCatalogVersionsResponse:
        """Every version of a catalog, newest first."""
        catalog = names.parse_catalog(request.parent, field="parent")
        size = page_size(request.page_size)
        with store_refusals():
            versions = (await self._store.list_versions(catalog))[::-1]
        digest = request_digest(request, "page_token", "page_size")
        page, token = slice_page(versions, size=size, token=request.page_token, digest=digest)
        return pb.ListCatalogVersionsResponse(
            versions=[version_message(info) for info in page], next_page_token=token
        )

    async def PublishCatalogVersion(
        self, request: pb.PublishCatalogVersionRequest, context: Context
    ) -> pb.Catalog:
        """Switch to a finished version."""
        catalog, version = names.parse_version(request.name, field="name")
        with store_refusals():
            if not request.allow_model_change:
                timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
                await check_embedder_model(self._store, self._embedder, catalog, version, timeout=timeout)
            return catalog_message(CatalogInfo(catalog, await self._store.publish(catalog, version)))

    async def RollbackCatalog(self, request: pb.RollbackCatalogRequest, context: Context) -> pb.Catalog:
        """Switch back to the version that was published before."""
        catalog = names.parse_catalog(request.name, field="name")
        with store_refusals():
            return catalog_message(CatalogInfo(catalog, await self._store.rollback(catalog)))

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
            return item_message(items[item_id], reader.info.spec)

    async def BatchGetItems(
        self, request: pb.BatchGetItemsRequest, context: Context
    ) -> pb.BatchGetItemsResponse:
        """Several items of the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        ids = parse_item_ids(request.item_ids)
        async with open_reader(self._store, catalog) as reader:
            items = await reader.retrieve(ids, with_features=request.with_features)
            return pb.BatchGetItemsResponse(
                items=[item_message(items[item_id], reader.info.spec) for item_id in ids if item_id in items],
                missing_ids=[item_id for item_id in ids if item_id not in items],
            )

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        """Items page by page; the pages of one listing are all of one version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        size = page_size(request.page_size)
        where = parse_filter(request.filter, max_conditions=self._settings.max_filter_conditions)
        digest = request_digest(request, "page_token", "page_size", "with_features")
        start = decode_page_token(request.page_token, digest) if request.page_token else PageToken("", "")
        async with open_reader(self._store, catalog, start.version, paging=bool(start.version)) as reader:
            with store_refusals(field="filter" if where else "page_token"):
                items, after = await reader.scroll(
                    limit=size, after=start.cursor, where=where or None, with_features=request.with_features
                )
            return pb.ListItemsResponse(
                items=[item_message(item, reader.info.spec) for item in items],
                next_page_token=PageToken(reader.info.version, after).encode(digest) if after else "",
            )

    async def UpsertItems(self, request: pb.UpsertItemsRequest, context: Context) -> pb.UpsertItemsResponse:
        """Write items into the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        check_count(len(request.items), self._settings.max_write_items, "items")
        timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
        async with open_reader(self._store, catalog) as reader:
            return await write_items(
                request.items,
                reader=reader,
                embedder=self._embedder,
                settings=self._settings,
                timeout=timeout,
            )

    async def UpdateItems(self, request: pb.UpdateItemsRequest, context: Context) -> pb.UpdateItemsResponse:
        """Change payloads and image locations of the published version's items."""
        catalog = names.parse_catalog(request.parent, field="parent")
        check_count(len(request.items), self._settings.max_write_items, "items")
        mask = parse_update_mask(request.update_mask)
        async with open_reader(self._store, catalog) as reader:
            return await self._updates.update(request.items, mask, reader)

    async def DeleteItems(self, request: pb.DeleteItemsRequest, context: Context) -> pb.DeleteItemsResponse:
        """Delete items of the published version, by id or by filter."""
        catalog = names.parse_catalog(request.parent, field="parent")
        which = parse_deletion(request, max_conditions=self._settings.max_filter_conditions)
        async with open_reader(self._store, catalog) as reader:
            return pb.DeleteItemsResponse(deleted=await delete_items(which, reader, request.validate_only))

    async def FacetItems(self, request: pb.FacetItemsRequest, context: Context) -> pb.FacetItemsResponse:
        """The commonest values of fields."""
        catalog = names.parse_catalog(request.parent, field="parent")
        check_count(len(request.fields), MAX_FACETS, "fields")
        limit = page_size(request.limit, field="limit", default=20)
        where = parse_filter(request.filter, max_conditions=self._settings.max_filter_conditions)
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
                                value=value_message(entry.value, schema.get(field)), count=entry.count
                            )
                            for entry in values
                        ],
                    )
                )
        return answer
