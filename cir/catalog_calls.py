"""Catalogs, versions and items, as calls: the arguments of both clients' methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from cir.call import Answer, Call, Page
from cir.catalog_answers import Catalog, FacetCount, Item, Items, Updated, Version, Written, read_facets
from cir.filters import Where, to_filter
from cir.item_update import ItemUpdate, payload_path
from cir.item_write import ItemWrite
from cir.names import catalog_name, item_name, version_name
from cir.search.v1 import catalog_pb2 as pb


def list_catalogs(
    *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[Page[Catalog]]:
    """A page of the catalogs, by name; `page_size` 0 lets the server choose."""

    def read(response: pb.ListCatalogsResponse) -> Page[Catalog]:
        return Page([Catalog.read(catalog) for catalog in response.catalogs], response.next_page_token)

    request = pb.ListCatalogsRequest(page_size=page_size, page_token=page_token)
    return _call("ListCatalogs", request, pb.ListCatalogsResponse, read, timeout)


def catalog(name: str, *, timeout: float | None = None) -> Call[Catalog]:
    """One catalog. Raises `NotFound`."""
    request = pb.GetCatalogRequest(name=catalog_name(name))
    return _call("GetCatalog", request, pb.Catalog, Catalog.read, timeout)


def list_versions(
    catalog: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[Page[Version]]:
    """A page of a catalog's versions, newest first."""

    def read(response: pb.ListCatalogVersionsResponse) -> Page[Version]:
        return Page([Version.read(version) for version in response.versions], response.next_page_token)

    request = pb.ListCatalogVersionsRequest(
        parent=catalog_name(catalog), page_size=page_size, page_token=page_token
    )
    return _call("ListCatalogVersions", request, pb.ListCatalogVersionsResponse, read, timeout)


def publish(
    catalog: str, version: str, *, allow_model_change: bool = False, timeout: float | None = None
) -> Call[Catalog]:
    """Make a finished version the one that is searched. Raises `NotFound`, `FailedPrecondition`.

    A version whose model is not the embedder's is refused unless `allow_model_change`.
    """
    request = pb.PublishCatalogVersionRequest(
        name=version_name(catalog, version), allow_model_change=allow_model_change
    )
    return _call("PublishCatalogVersion", request, pb.Catalog, Catalog.read, timeout)


def rollback(catalog: str, *, timeout: float | None = None) -> Call[Catalog]:
    """Publish again what was published before. Raises `FailedPrecondition` when there is nothing."""
    request = pb.RollbackCatalogRequest(name=catalog_name(catalog))
    return _call("RollbackCatalog", request, pb.Catalog, Catalog.read, timeout)


def delete_version(catalog: str, version: str, *, timeout: float | None = None) -> Call[None]:
    """Delete a version that is not published. Raises `NotFound`, `FailedPrecondition`."""
    request = pb.DeleteCatalogVersionRequest(name=version_name(catalog, version))
    return _call("DeleteCatalogVersion", request, pb.DeleteCatalogVersionResponse, _nothing, timeout)


def delete_catalog(catalog: str, *, timeout: float | None = None) -> Call[None]:
    """Delete a catalog with all its versions. There is no way back."""
    request = pb.DeleteCatalogRequest(name=catalog_name(catalog))
    return _call("DeleteCatalog", request, pb.DeleteCatalogResponse, _nothing, timeout)


def item(
    catalog: str, item_id: str, *, with_features: bool = False, timeout: float | None = None
) -> Call[Item]:
    """One item. Raises `NotFound`."""
    request = pb.GetItemRequest(name=item_name(catalog, item_id), with_features=with_features)
    return _call("GetItem", request, pb.Item, Item.read, timeout)


def items(
    catalog: str, item_ids: Sequence[str], *, with_features: bool = False, timeout: float | None = None
) -> Call[Items]:
    """Up to 1000 items by id."""
    request = pb.BatchGetItemsRequest(
        parent=catalog_name(catalog), item_ids=item_ids, with_features=with_features
    )
    return _call("BatchGetItems", request, pb.BatchGetItemsResponse, Items.read, timeout)


def list_items(
    catalog: str,
    *,
    where: Where = None,
    page_size: int = 0,
    page_token: str = "",
    with_features: bool = False,
    timeout: float | None = None,
) -> Call[Page[Item]]:
    """A page of the items that pass a filter, in an order that stays the same within a version."""

    def read(response: pb.ListItemsResponse) -> Page[Item]:
        return Page([Item.read(item) for item in response.items], response.next_page_token)

    request = pb.ListItemsRequest(
        parent=catalog_name(catalog),
        page_size=page_size,
        page_token=page_token,
        filter=to_filter(where),
        with_features=with_features,
    )
    return _call("ListItems", request, pb.ListItemsResponse, read, timeout)


def upsert(catalog: str, items: Sequence[ItemWrite], *, timeout: float | None = None) -> Call[Written]:
    """Write items into the published version; searches see them at once. Bad items fail alone."""
    request = pb.UpsertItemsRequest(parent=catalog_name(catalog), items=[item.message() for item in items])
    return _call("UpsertItems", request, pb.UpsertItemsResponse, Written.read, timeout)


def update(
    catalog: str,
    items: Sequence[ItemUpdate],
    *,
    fields: Sequence[str] = (),
    timeout: float | None = None,
) -> Call[Updated]:
    """Change payloads and image locations in the published version; nothing is embedded.

    With `fields` these payload fields alone are set, and removed where an item's payload lacks them; image
    locations then stay. Without, each payload that is given replaces the stored one. Bad items fail alone.
    """
    request = pb.UpdateItemsRequest(parent=catalog_name(catalog), items=[item.message() for item in items])
    request.update_mask.paths.extend(payload_path(field) for field in fields)
    return _call("UpdateItems", request, pb.UpdateItemsResponse, Updated.read, timeout)


def delete(catalog: str, item_ids: Sequence[str], *, timeout: float | None = None) -> Call[int]:
    """Delete items of the published version; answers how many existed."""
    request = pb.DeleteItemsRequest(parent=catalog_name(catalog), item_ids=item_ids)
    return _call("DeleteItems", request, pb.DeleteItemsResponse, _deleted, timeout)


def delete_where(
    catalog: str, where: Where, *, validate_only: bool = False, timeout: float | None = None
) -> Call[int]:
    """Delete all items of the published version that pass a filter; answers how many did.

    A filter without conditions is refused (`InvalidArgument`). With `validate_only` nothing is deleted.
    """
    request = pb.DeleteItemsRequest(
        parent=catalog_name(catalog), filter=to_filter(where), validate_only=validate_only
    )
    return _call("DeleteItems", request, pb.DeleteItemsResponse, _deleted, timeout)


def facets(
    catalog: str, fields: Sequence[str], *, where: Where = None, limit: int = 0, timeout: float | None = None
) -> Call[dict[str, list[FacetCount]]]:
    """The commonest values of keyword, integer or bool fields among the items that pass a filter."""
    request = pb.FacetItemsRequest(
        parent=catalog_name(catalog), fields=fields, limit=limit, filter=to_filter(where)
    )
    return _call("FacetItems", request, pb.FacetItemsResponse, read_facets, timeout)


def _call(
    method: str, request: Message, response: type[Message], read: Any, timeout: float | None
) -> Call[Answer]:
    return Call(f"/cir.search.v1.CatalogService/{method}", request, response, read, timeout)


def _deleted(response: pb.DeleteItemsResponse) -> int:
    return response.deleted


def _nothing(_response: Message) -> None:
    return None
