"""Calls that create catalogs and versions, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from cir.errors import InvalidArgument
from cir.models import Catalog, Version, catalog_name, version_name
from cir.requests import Call
from cir.search.v1 import catalog_pb2

Number = TypeVar("Number")

_SERVICE = "/cir.search.v1.CatalogService"
_TYPES = {
    "keyword": catalog_pb2.FIELD_TYPE_KEYWORD,
    "integer": catalog_pb2.FIELD_TYPE_INTEGER,
    "float": catalog_pb2.FIELD_TYPE_FLOAT,
    "bool": catalog_pb2.FIELD_TYPE_BOOL,
    "datetime": catalog_pb2.FIELD_TYPE_DATETIME,
    "geo": catalog_pb2.FIELD_TYPE_GEO,
    "text": catalog_pb2.FIELD_TYPE_TEXT,
}
_QUANTIZATIONS = {
    "": catalog_pb2.QUANTIZATION_UNSPECIFIED,
    "none": catalog_pb2.QUANTIZATION_NONE,
    "int8": catalog_pb2.QUANTIZATION_INT8,
    "binary": catalog_pb2.QUANTIZATION_BINARY,
    "product": catalog_pb2.QUANTIZATION_PRODUCT,
}


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Index and storage of the vectors of a version; 0 and "" leave it to the store.

    `quantization` is "none", "int8", "binary" or "product".
    """

    hnsw_m: int = 0
    hnsw_ef_construct: int = 0
    quantization: str = ""
    vectors_on_disk: bool = False
    payload_on_disk: bool = False
    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0

    def message(self) -> catalog_pb2.IndexSettings:
        """The settings as they are sent.

        Raises:
            InvalidArgument: there is no such quantization.
        """
        return catalog_pb2.IndexSettings(
            hnsw_m=self.hnsw_m,
            hnsw_ef_construct=self.hnsw_ef_construct,
            quantization=_choice(_QUANTIZATIONS, self.quantization, "index.quantization"),
            vectors_on_disk=self.vectors_on_disk,
            payload_on_disk=self.payload_on_disk,
            shards=self.shards,
            replicas=self.replicas,
            write_consistency=self.write_consistency,
        )


def create_catalog(
    name: str,
    *,
    schema: Mapping[str, str] | None = None,
    index: IndexSettings | None = None,
    model_fingerprint: str = "",
    dimension: int = 0,
    timeout: float | None = None,
) -> Call[Catalog]:
    """Create a catalog that is empty and searched at once.

    `schema` has the payload fields that can be filtered, by name: "keyword", "integer", "float", "bool",
    "datetime", "geo" or "text". The model is the embedder's, unless `model_fingerprint` and `dimension`
    describe that of features of your own.

    Raises:
        AlreadyExists: there is a catalog of this name.
        InvalidArgument: no catalog can be like this.
    """
    request = catalog_pb2.CreateCatalogRequest(
        catalog_id=name,
        schema=_fields(schema or {}, "schema"),
        index=index.message() if index is not None else None,
        model=_model(model_fingerprint, dimension),
    )
    return Call(f"{_SERVICE}/CreateCatalog", request, catalog_pb2.Catalog, Catalog.read, timeout)


def create_version(
    catalog: str,
    *,
    schema: Mapping[str, str] | None = None,
    index: IndexSettings | None = None,
    model_fingerprint: str = "",
    dimension: int = 0,
    timeout: float | None = None,
) -> Call[Version]:
    """Start a version that nobody searches before it is published, to be filled by `import_items`.

    `schema` and `index` are those of the published version where they are not given.

    Raises:
        NotFound: the catalog does not exist.
        InvalidArgument: no version can be like this.
    """
    request = catalog_pb2.CreateCatalogVersionRequest(
        parent=catalog_name(catalog),
        schema=_fields(schema or {}, "schema"),
        index=index.message() if index is not None else None,
        model=_model(model_fingerprint, dimension),
    )
    method = f"{_SERVICE}/CreateCatalogVersion"
    return Call(method, request, catalog_pb2.CatalogVersion, Version.read, timeout)


def finish_version(
    catalog: str, version: str, *, expected_items: int | None = None, timeout: float | None = None
) -> Call[Version]:
    """Build the indexes of a version, so that it can be published; with many items this takes its time.

    Where `timeout` ends first, the service goes on, and the same call waits for it again.

    Raises:
        FailedPrecondition: it does not hold `expected_items` items, or none beside a published version with
            items, unless `expected_items` is 0.
        Aborted: an import is writing it.
    """
    request = catalog_pb2.FinishCatalogVersionRequest(
        name=version_name(catalog, version), expected_item_count=expected_items
    )
    method = f"{_SERVICE}/FinishCatalogVersion"
    return Call(method, request, catalog_pb2.CatalogVersion, Version.read, timeout)


def abort_version(catalog: str, version: str, *, timeout: float | None = None) -> Call[None]:
    """Drop a version that is being built, with all its items.

    Raises:
        FailedPrecondition: it is finished.
    """
    request = catalog_pb2.AbortCatalogVersionRequest(name=version_name(catalog, version))
    method = f"{_SERVICE}/AbortCatalogVersion"
    return Call(method, request, catalog_pb2.AbortCatalogVersionResponse, lambda _: None, timeout)


def add_fields(catalog: str, fields: Mapping[str, str], *, timeout: float | None = None) -> Call[Catalog]:
    """Make further payload fields of the published version filterable; types are those of `create_catalog`.

    Raises:
        InvalidArgument: a field is there with another type, or an item holds another value.
    """
    request = catalog_pb2.AddCatalogFieldsRequest(
        name=catalog_name(catalog), fields=_fields(fields, "fields")
    )
    return Call(f"{_SERVICE}/AddCatalogFields", request, catalog_pb2.Catalog, Catalog.read, timeout)


def _fields(schema: Mapping[str, str], field: str) -> dict[str, catalog_pb2.FieldType.ValueType]:
    return {name: _choice(_TYPES, kind, f"{field}.{name}") for name, kind in schema.items()}


def _choice(choices: Mapping[str, Number], name: str, field: str) -> Number:
    if name not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise InvalidArgument(
            f"{field} is {name!r}; it is one of {known}", reason="FIELD_INVALID", field=field
        )
    return choices[name]


def _model(fingerprint: str, dimension: int) -> catalog_pb2.VersionModel | None:
    if not fingerprint and not dimension:
        return None
    return catalog_pb2.VersionModel(fingerprint=fingerprint, dimension=dimension)
