"""CatalogService over gRPC: catalogs, versions and items of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import catalog_pb2_grpc as rpc
from search_service import names
from search_service.catalog_requests import (
    parse_deletion,
    parse_facets,
    parse_list_items,
    parse_updates,
    parse_writes,
)
from search_service.convert import catalog_message, item_message, version_message
from search_service.embedder_client import EmbedderClient
from search_service.import_items import Imports
from search_service.items import ItemUpdates, delete_items, write_items
from search_service.pages import ItemsMessage, check_fits, facet_message, page_bytes
from search_service.request import parse_item_ids
from search_service.settings import SearchSettings
from search_service.store import (
    check_embedder_model,
    check_facets_fit,
    check_filter_fits,
    open_version,
    to_service_error,
    version_token,
)
from search_service.version_requests import (
    parse_added_fields,
    parse_create_catalog,
    parse_create_version,
    parse_finishing,
)
from search_service.versions import OnlineChanges, Versions
from service_runtime.errors import ServiceError
from service_runtime.interceptor import downstream_timeout
from service_runtime.page_token import PageToken, check_page_size, request_digest
from service_runtime.receive import aside, parse_aside
from vector_store.base import VectorStore
from vector_store.errors import CatalogNotFoundError, InvalidQueryError
from vector_store.types import CatalogInfo
from vector_store.versions import MAX_NUMBER, version_number

Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")


class CatalogServicer(rpc.CatalogServiceServicer):
    """The service's methods; each is described in protos/cir/search/v1/catalog.proto."""

    def __init__(self, store: VectorStore, embedder: EmbedderClient, settings: SearchSettings) -> None:
        self._store = store
        self._embedder = embedder
        self._settings = settings
        self._updates = ItemUpdates()
        self._changes = OnlineChanges()
        self._versions = Versions(store, embedder, self._changes)
        self._imports = Imports(store, embedder, settings)

    async def drain(self) -> None:
        """End what would outlast the service."""
        await self._imports.drain()

    async def close(self) -> None:
        """End what goes on without a call, before the store is closed."""
        await self._imports.close()
        await self._versions.close()

    async def ListCatalogs(
        self, request: pb.ListCatalogsRequest, context: Context
    ) -> pb.ListCatalogsResponse:
        """List the catalogs that the key is for, by name."""
        size = check_page_size(request.page_size)
        catalogs = [info for info in await self._store.list_catalogs() if names.may_use(info.catalog)]
        page, token = _slice_page([(info.catalog, info) for info in catalogs], size, request)
        return pb.ListCatalogsResponse(
            catalogs=[catalog_message(info) for info in page], next_page_token=token
        )

    async def GetCatalog(self, request: pb.GetCatalogRequest, context: Context) -> pb.Catalog:
        """Return one catalog."""
        catalog = names.parse_catalog(request.name, field="name")
        try:
            return catalog_message(await self._store.get_catalog(catalog))
        except CatalogNotFoundError as error:
            raise to_service_error(error, field="name") from error

    async def ListCatalogVersions(
        self, request: pb.ListCatalogVersionsRequest, context: Context
    ) -> pb.ListCatalogVersionsResponse:
        """List the versions of a catalog, newest first."""
        catalog = names.parse_catalog(request.parent, field="parent")
        size = check_page_size(request.page_size)
        versions = (await self._store.list_versions(catalog))[::-1]
        page, token = _slice_page([(_newest_first(info.version), info) for info in versions], size, request)
        return pb.ListCatalogVersionsResponse(
            versions=[version_message(info) for info in page], next_page_token=token
        )

    async def CreateCatalog(self, request: pb.CreateCatalogRequest, context: Context) -> pb.Catalog:
        """Create a catalog that is empty and published."""
        wanted = parse_create_catalog(request)
        timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
        return catalog_message(await self._versions.create_catalog(wanted, timeout=timeout))

    async def CreateCatalogVersion(
        self, request: pb.CreateCatalogVersionRequest, context: Context
    ) -> pb.CatalogVersion:
        """Start a version."""
        wanted = parse_create_version(request)
        timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
        return version_message(await self._versions.create_version(wanted, timeout=timeout))

    async def ImportItems(
        self, request_iterator: AsyncIterator[pb.ImportItemsRequest], context: Context
    ) -> AsyncIterator[pb.ImportItemsResponse]:
        """Write items into a version that is being built."""
        async with aclosing(self._imports.stream(request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def FinishCatalogVersion(
        self, request: pb.FinishCatalogVersionRequest, context: Context
    ) -> pb.CatalogVersion:
        """Build the indexes of a version."""
        wanted = parse_finishing(request)
        return version_message(await self._versions.finish(wanted, self._imports.closed))

    async def AbortCatalogVersion(
        self, request: pb.AbortCatalogVersionRequest, context: Context
    ) -> pb.AbortCatalogVersionResponse:
        """Drop a version that is being built."""
        catalog, version = names.parse_version(request.name, field="name")
        await self._imports.end(catalog, version)
        await self._versions.abort(catalog, version)
        return pb.AbortCatalogVersionResponse()

    async def AddCatalogFields(self, request: pb.AddCatalogFieldsRequest, context: Context) -> pb.Catalog:
        """Add payload fields to the schema."""
        catalog, fields = parse_added_fields(request)
        return catalog_message(await self._versions.add_fields(catalog, fields))

    async def PublishCatalogVersion(
        self, request: pb.PublishCatalogVersionRequest, context: Context
    ) -> pb.Catalog:
        """Switch to a finished version."""
        catalog, version = names.parse_version(request.name, field="name")
        if not request.allow_model_change:
            timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
            await check_embedder_model(self._store, self._embedder, catalog, version, timeout=timeout)
        return catalog_message(CatalogInfo(catalog, await self._store.publish(catalog, version)))

    async def RollbackCatalog(self, request: pb.RollbackCatalogRequest, context: Context) -> pb.Catalog:
        """Switch back to the version that was published before."""
        catalog = names.parse_catalog(request.name, field="name")
        return catalog_message(CatalogInfo(catalog, await self._store.rollback(catalog)))

    async def DeleteCatalogVersion(
        self, request: pb.DeleteCatalogVersionRequest, context: Context
    ) -> pb.DeleteCatalogVersionResponse:
        """Delete a version that is not published."""
        catalog, version = names.parse_version(request.name, field="name")
        await self._store.delete_version(catalog, version)
        return pb.DeleteCatalogVersionResponse()

    async def DeleteCatalog(
        self, request: pb.DeleteCatalogRequest, context: Context
    ) -> pb.DeleteCatalogResponse:
        """Delete a catalog."""
        catalog = names.parse_catalog(request.name, field="name")
        await self._store.delete_catalog(catalog)
        return pb.DeleteCatalogResponse()

    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.Item:
        """Return one item of the published version."""
        catalog, item_id = names.parse_item(request.name, field="name")
        async with open_version(self._store, catalog, field="name") as version:
            items = await version.retrieve([item_id], with_features=request.with_features)
            if item_id not in items:
                raise ServiceError(
                    errors.ITEM_NOT_FOUND, f"catalog {catalog} has no item {item_id!r}", field="name"
                )
            return item_message(items[item_id], version.info.spec)

    async def BatchGetItems(
        self, request: pb.BatchGetItemsRequest, context: Context
    ) -> pb.BatchGetItemsResponse:
        """Return several items of the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        ids = parse_item_ids(request.item_ids)
        async with open_version(self._store, catalog) as version:
            items = await version.retrieve(ids, with_features=request.with_features)
            found = [item_message(items[item_id], version.info.spec) for item_id in ids if item_id in items]
            check_fits(found, self._settings)
            return pb.BatchGetItemsResponse(
                items=found, missing_ids=[item_id for item_id in ids if item_id not in items]
            )

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        """List items page by page; the pages of one listing are all of one version."""
        page = await parse_aside(parse_list_items, request, self._settings)
        start = page.start
        async with open_version(self._store, page.catalog, start.version, created=start.created) as version:
            check_filter_fits(page.where, version.info.spec)
            found = ItemsMessage(version.info.spec, page_bytes(self._settings))
            try:
                _, after = await version.scroll(
                    limit=page.size,
                    after=start.cursor,
                    where=page.where,
                    with_features=page.with_features,
                    take=found.take,
                )
            except InvalidQueryError as error:  # the filter fits, so the token's cursor does not
                raise to_service_error(error, field="page_token") from error
            return pb.ListItemsResponse(
                items=found.items,
                next_page_token=version_token(version.info, after).encode(page.digest) if after else "",
            )

    async def BatchUpsertItems(
        self, request: pb.BatchUpsertItemsRequest, context: Context
    ) -> pb.BatchUpsertItemsResponse:
        """Write items into the published version."""
        catalog = names.parse_catalog(request.parent, field="parent")
        # Many values take their time, in which other calls go on.
        writes, failed = await aside(parse_writes, request.items, self._settings)
        timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
        with self._changes.change(catalog):
            async with open_version(self._store, catalog) as version:
                written = await write_items(
                    writes, failed, version=version, embedder=self._embedder, timeout=timeout
                )
        return pb.BatchUpsertItemsResponse(
            written=written, errors=[failed[index] for index in sorted(failed)]
        )

    async def BatchUpdateItems(
        self, request: pb.BatchUpdateItemsRequest, context: Context
    ) -> pb.BatchUpdateItemsResponse:
        """Change payloads and image locations of the published version's items."""
        catalog = names.parse_catalog(request.parent, field="parent")
        updates, failed = await aside(parse_updates, request.items, request.update_mask, self._settings)
        with self._changes.change(catalog):
            async with open_version(self._store, catalog) as version:
                updated = await self._updates.update(updates, failed, version)
        return pb.BatchUpdateItemsResponse(
            updated=updated, errors=[failed[index] for index in sorted(failed)]
        )

    async def BatchDeleteItems(
        self, request: pb.BatchDeleteItemsRequest, context: Context
    ) -> pb.BatchDeleteItemsResponse:
        """Delete items of the published version, by id or by filter."""
        deletion = await parse_aside(parse_deletion, request, self._settings)
        with self._changes.change(deletion.catalog):
            async with open_version(self._store, deletion.catalog) as version:
                return pb.BatchDeleteItemsResponse(deleted=await delete_items(deletion, version))

    async def FacetItems(self, request: pb.FacetItemsRequest, context: Context) -> pb.FacetItemsResponse:
        """Return the commonest values of fields."""
        query = await parse_aside(parse_facets, request, self._settings)
        async with open_version(self._store, query.catalog) as version:
            spec = version.info.spec
            check_facets_fit(query.fields, spec)
            check_filter_fits(query.where, spec)
            response = pb.FacetItemsResponse()
            each_bytes = page_bytes(self._settings) // len(query.fields)
            for field in query.fields:
                values = await version.facet(field, limit=query.limit, where=query.where)
                response.facets.append(facet_message(field, values, spec.schema.get(field), each_bytes))
        return response


def _newest_first(version: str) -> str:
    """Return a text by which versions are in the order of their list."""
    return f"{MAX_NUMBER - version_number(version):018d}"


def _slice_page(
    entries: Sequence[tuple[str, _T]],
    size: int,
    request: pb.ListCatalogsRequest | pb.ListCatalogVersionsRequest,
) -> tuple[list[_T], str]:
    """Return the page that a request's token points at, and the token of the next ('' on the last page).

    Entries are in the order of their keys. A token says behind which key its page begins, so that what is
    created and deleted meanwhile makes no other entry appear twice, or nowhere.
    """
    digest = request_digest(request, "page_token", "page_size")
    start = PageToken.decode(request.page_token, digest).cursor if request.page_token else ""
    following = [entry for entry in entries if entry[0] > start]
    page = following[:size]
    token = PageToken("", page[-1][0]).encode(digest) if len(following) > size else ""
    return [entry for _, entry in page], token
