"""The store's catalogs and items as messages. Pure."""

from __future__ import annotations

from cir.search.v1 import catalog_pb2 as pb
from cir.vectors import pack
from search_service.names import catalog_name, version_name
from search_service.payload import write_payload
from vector_store.catalogs import CatalogInfo, FieldType, VersionInfo, VersionSpec, VersionState
from vector_store.points import Item

_STATES = {
    VersionState.BUILDING: pb.BUILDING,
    VersionState.READY: pb.READY,
    VersionState.PUBLISHED: pb.PUBLISHED,
    VersionState.RETIRED: pb.RETIRED,
}
_FIELD_TYPES = {kind: pb.FieldType.Value(kind.name) for kind in FieldType}


def write_catalog(info: CatalogInfo) -> pb.Catalog:
    """A catalog with its published version."""
    published = write_version(info.published) if info.published is not None else None
    return pb.Catalog(name=catalog_name(info.catalog), published=published)


def write_version(info: VersionInfo) -> pb.CatalogVersion:
    """A version."""
    version = pb.CatalogVersion(
        name=version_name(info.catalog, info.version),
        state=_STATES[info.state],
        item_count=info.points,
        model_fingerprint=info.spec.model_fingerprint,
        dimension=info.spec.dimension,
        schema={name: _FIELD_TYPES[kind] for name, kind in info.spec.schema.items()},
        model=dict(info.spec.model),
    )
    version.create_time.FromDatetime(info.created)
    return version


def write_item(item: Item, spec: VersionSpec) -> pb.Item:
    """An item; its features are there where the store was asked for them."""
    message = pb.Item(id=item.id, payload=write_payload(item.payload, spec.schema), image=item.image)
    if item.features is not None:
        message.features.CopyFrom(pack(item.features[None, :], fingerprint=spec.model_fingerprint))
    return message
