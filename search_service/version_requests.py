"""Requests that create catalogs, versions and fields, parsed once at the door. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cir.common.v1 import errors_pb2 as errors
from cir.fields import FieldType
from cir.limits import MAX_FIELD_NAME_CHARACTERS, field_name_problem
from cir.search.v1 import catalog_pb2 as pb
from search_service.convert import FIELD_TYPES, QUANTIZATIONS
from search_service.names import parse_catalog, parse_catalog_id, parse_version
from service_runtime.errors import ServiceError
from vector_store.types import IndexOptions, Placement, VersionSpec
from vector_store.validation import MAX_DIMENSION, MAX_NODES

MAX_FIELDS = 256
MAX_FINGERPRINT_CHARACTERS = 256

_TYPES: dict[int, FieldType] = {number: kind for kind, number in FIELD_TYPES.items()}
_QUANTIZATIONS = {number: kind for kind, number in QUANTIZATIONS.items()}


@dataclass(frozen=True, slots=True)
class WantedModel:
    """The model of a version: the embedder's where `fingerprint` is empty.

    Where `dimension` is 0 the embedder must have it.
    """

    fingerprint: str = ""
    dimension: int = 0


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to create. `schema` and `index` are None where those of the published version are taken."""

    catalog: str
    schema: Mapping[str, FieldType] | None
    index: IndexOptions | None
    model: WantedModel


@dataclass(frozen=True, slots=True)
class Finishing:
    """A version to finish; `expected_items` is None where any number will do."""

    catalog: str
    version: str
    expected_items: int | None


def parse_create_catalog(message: pb.CreateCatalogRequest) -> NewVersion:
    """Parse a request for a catalog.

    Raises:
        ServiceError: It names the first field that cannot be used.
    """
    return NewVersion(
        catalog=parse_catalog_id(message.catalog_id, field="catalog_id"),
        schema=_parse_fields(message.schema, "schema"),
        index=_parse_index(message.index),
        model=_parse_model(message),
    )


def parse_create_version(message: pb.CreateCatalogVersionRequest) -> NewVersion:
    """Parse a request for a version.

    Raises:
        ServiceError: It names the first field that cannot be used.
    """
    return NewVersion(
        catalog=parse_catalog(message.parent, field="parent"),
        schema=_parse_fields(message.schema, "schema") or None,
        index=_parse_index(message.index) if message.HasField("index") else None,
        model=_parse_model(message),
    )


def parse_finishing(message: pb.FinishCatalogVersionRequest) -> Finishing:
    """Parse a request to finish a version.

    Raises:
        ServiceError: Its name cannot be used.
    """
    catalog, version = parse_version(message.name, field="name")
    expected = message.expected_item_count if message.HasField("expected_item_count") else None
    return Finishing(catalog, version, expected)


def parse_added_fields(message: pb.AddCatalogFieldsRequest) -> tuple[str, dict[str, FieldType]]:
    """Parse a request for fields; returns the catalog and at least one field.

    Raises:
        ServiceError: It names the first field that cannot be used.
    """
    catalog = parse_catalog(message.name, field="name")
    if not message.fields:
        raise ServiceError(
            errors.FIELD_REQUIRED, "fields is empty; name a field and its type", field="fields"
        )
    return catalog, _parse_fields(message.fields, "fields")


def add_fields(spec: VersionSpec, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
    """Return the schema of a version with further fields.

    Raises:
        ServiceError: FIELD_INVALID for a field that is there with another type; OUT_OF_RANGE for too many.
    """
    for name, kind in fields.items():
        present = spec.schema.get(name)
        if present not in (None, kind):
            raise ServiceError(
                errors.FIELD_INVALID,
                f"field {name!r} has type {present}, not {kind}; a field keeps its type, give another name",
                field=f"fields.{name}",
            )
    schema = {**spec.schema, **fields}
    _check_number(len(schema), "fields")
    return schema


def _parse_fields(fields: Mapping[str, int], where: str) -> dict[str, FieldType]:
    _check_number(len(fields), where)
    parsed: dict[str, FieldType] = {}
    for name, number in sorted(fields.items()):
        path = f"{where}.{name[:MAX_FIELD_NAME_CHARACTERS]}"
        if problem := field_name_problem(name):
            raise ServiceError(errors.FIELD_INVALID, f"{path}: {problem}", field=path)
        kind = _TYPES.get(number)
        if kind is None:
            names = ", ".join(pb.FieldType.Name(known) for known in FIELD_TYPES.values())
            raise ServiceError(
                errors.FIELD_INVALID, f"{path} has type {int(number)}; it is one of {names}", field=path
            )
        parsed[name] = kind
    return parsed


def _check_number(count: int, where: str) -> None:
    if count > MAX_FIELDS:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{where}: a schema has at most {MAX_FIELDS} fields, not {count}",
            field=where,
        )


def _parse_index(message: pb.IndexSettings) -> IndexOptions:
    default = IndexOptions()
    quantization = _QUANTIZATIONS.get(message.quantization)
    if quantization is None:
        names = ", ".join(pb.Quantization.Name(known) for known in QUANTIZATIONS.values())
        raise ServiceError(
            errors.FIELD_INVALID,
            f"index.quantization is {int(message.quantization)}; it is one of {names}",
            field="index.quantization",
        )
    return IndexOptions(
        hnsw_m=_parse_number(message.hnsw_m or default.hnsw_m, 2, 256, "index.hnsw_m"),
        hnsw_ef_construct=_parse_number(
            message.hnsw_ef_construct or default.hnsw_ef_construct, 4, 4096, "index.hnsw_ef_construct"
        ),
        quantization=quantization,
        vectors_on_disk=message.vectors_on_disk,
        payload_on_disk=message.payload_on_disk,
        placement=Placement(
            shards=_parse_number(message.shards, 0, MAX_NODES, "index.shards"),
            replicas=_parse_number(message.replicas, 0, MAX_NODES, "index.replicas"),
            write_consistency=_parse_number(
                message.write_consistency, 0, MAX_NODES, "index.write_consistency"
            ),
        ),
    )


def _parse_number(number: int, least: int, most: int, field: str) -> int:
    if not least <= number <= most:
        raise ServiceError(
            errors.OUT_OF_RANGE, f"{field} is {number}; it is 0 or {least} to {most}", field=field
        )
    return number


def _parse_model(message: pb.CreateCatalogRequest | pb.CreateCatalogVersionRequest) -> WantedModel:
    if not message.HasField("model"):
        return WantedModel()
    fingerprint, dimension = message.model.fingerprint, message.model.dimension
    if not fingerprint:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            "model.fingerprint is empty; name the model, or leave model unset for the embedder's",
            field="model.fingerprint",
        )
    if len(fingerprint) > MAX_FINGERPRINT_CHARACTERS or not fingerprint.isprintable():
        raise ServiceError(
            errors.FIELD_INVALID,
            f"model.fingerprint has 1 to {MAX_FINGERPRINT_CHARACTERS} printable characters",
            field="model.fingerprint",
        )
    return WantedModel(fingerprint, _parse_number(dimension, 0, MAX_DIMENSION, "model.dimension"))
