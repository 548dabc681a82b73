"""Catalogs, items and payloads between the wire and the store. Pure.

In the store datetimes are RFC 3339 strings and geo points {"lat", "lon"}; on the wire they are typed.
The catalog's schema says which strings are datetimes. What is read from the store is sent as best it can be:
a value that no rule of today admits never fails its page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cir.common.v1 import errors_pb2, payload_pb2
from cir.datetimes import format_datetime
from cir.datetimes import parse_datetime as read_datetime
from cir.fields import EXACT_IN_FLOAT, INT64, FieldType, Payload, PayloadValue, has_type
from cir.limits import MAX_FIELD_NAME_CHARACTERS, field_name_problem, is_text
from cir.search.v1 import catalog_pb2 as pb
from cir.vectors import pack
from search_service.names import catalog_name, version_name
from service_runtime.errors import ServiceError
from vector_store.types import (
    CatalogInfo,
    IndexOptions,
    Item,
    Quantization,
    VersionInfo,
    VersionSpec,
    VersionState,
)

_STATES = {
    VersionState.BUILDING: pb.VERSION_STATE_BUILDING,
    VersionState.READY: pb.VERSION_STATE_READY,
    VersionState.PUBLISHED: pb.VERSION_STATE_PUBLISHED,
    VersionState.RETIRED: pb.VERSION_STATE_RETIRED,
}
FIELD_TYPES = {kind: pb.FieldType.Value(f"FIELD_TYPE_{kind.name}") for kind in FieldType}
QUANTIZATIONS = {
    Quantization.AUTO: pb.QUANTIZATION_UNSPECIFIED,
    Quantization.NONE: pb.QUANTIZATION_NONE,
    Quantization.INT8: pb.QUANTIZATION_INT8,
    Quantization.BINARY: pb.QUANTIZATION_BINARY,
    Quantization.PRODUCT: pb.QUANTIZATION_PRODUCT,
}


def catalog_message(info: CatalogInfo) -> pb.Catalog:
    """Return a catalog with its published version as a message."""
    published = version_message(info.published) if info.published is not None else None
    return pb.Catalog(name=catalog_name(info.catalog), published=published)


def version_message(info: VersionInfo) -> pb.CatalogVersion:
    """Return a version as a message."""
    version = pb.CatalogVersion(
        name=version_name(info.catalog, info.version),
        state=_STATES[info.state],
        item_count=info.points,
        model_fingerprint=info.spec.model_fingerprint,
        dimension=info.spec.dimension,
        schema={name: FIELD_TYPES[kind] for name, kind in info.spec.schema.items()},
        model=dict(info.spec.model),
        image_folders=info.spec.image_folders,
        index=_index_message(info.spec.index),
        image_length=info.image_length,
    )
    version.create_time.FromDatetime(info.created)
    return version


def _index_message(index: IndexOptions) -> pb.IndexSettings:
    return pb.IndexSettings(
        hnsw_m=index.hnsw_m,
        hnsw_ef_construct=index.hnsw_ef_construct,
        quantization=QUANTIZATIONS[index.quantization],
        vectors_on_disk=index.vectors_on_disk,
        payload_on_disk=index.payload_on_disk,
        shards=index.placement.shards,
        replicas=index.placement.replicas,
        write_consistency=index.placement.write_consistency,
    )


def item_message(item: Item, spec: VersionSpec) -> pb.Item:
    """Return an item as a message; with its features where the store was asked for them."""
    message = pb.Item(id=item.id, payload=payload_message(item.payload, spec.schema), image=_text(item.image))
    if item.features is not None:
        message.features.CopyFrom(pack(item.features[None, :], fingerprint=spec.model_fingerprint))
    return message


def payload_message(payload: Payload, schema: Mapping[str, FieldType]) -> payload_pb2.Payload:
    """Return a stored payload as a message."""
    return payload_pb2.Payload(
        fields={_text(name): value_message(value, schema.get(name)) for name, value in payload.items()}
    )


def value_message(value: PayloadValue, kind: FieldType | None) -> payload_pb2.Value:
    """Return a stored value as a message.

    A value that does not fit its field's type stays what it is. What is no payload value at all (an object
    that is no place, a list within a list, an integer of more than 64 bits, NaN) becomes its JSON as
    text, with names in order.
    """
    if value is None:
        return payload_pb2.Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, (list, tuple)):
        elements = [_scalar_message(element, kind) for element in value]
        return payload_pb2.Value(list_value=payload_pb2.ListValue(values=elements))
    return _scalar_message(value, kind)


def _scalar_message(value: object, kind: FieldType | None) -> payload_pb2.Value:
    match value:
        case bool():
            return payload_pb2.Value(bool_value=value)
        case int() if kind is FieldType.FLOAT and abs(value) <= EXACT_IN_FLOAT:
            return payload_pb2.Value(float_value=float(value))
        case int() if value in INT64:
            return payload_pb2.Value(integer_value=value)
        case float() if math.isfinite(value):
            return payload_pb2.Value(float_value=value)
        case str():
            return _string_message(value, kind)
        case Mapping() if has_type(value, FieldType.GEO):
            point = payload_pb2.GeoPoint(latitude=value["lat"], longitude=value["lon"])
            return payload_pb2.Value(geo_value=point)
    # A server keeps no order of names: without one, two readings of a value would differ.
    text = json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)
    return payload_pb2.Value(string_value=_text(text))


def _string_message(value: str, kind: FieldType | None) -> payload_pb2.Value:
    if kind is FieldType.DATETIME:
        with suppress(ValueError):
            message = payload_pb2.Value()
            message.datetime_value.FromDatetime(read_datetime(value))
            return message
    return payload_pb2.Value(string_value=_text(value))


def _text(value: str) -> str:
    """Return a text as it can be sent: lone surrogates, which UTF-8 cannot write, become "?"."""
    return value if is_text(value) else value.encode(errors="replace").decode()


def parse_payload(payload: payload_pb2.Payload, *, field: str) -> dict[str, PayloadValue]:
    """Return a message as a payload to store.

    Raises:
        ServiceError: It names the field at fault.
    """
    parsed: dict[str, PayloadValue] = {}
    for name, value in payload.fields.items():
        path = f"{field}.{name[:MAX_FIELD_NAME_CHARACTERS]}"
        problem = field_name_problem(name)
        if problem:
            raise _invalid(path, problem)
        parsed[name] = parse_value(value, field=path)
    return parsed


def parse_value(value: payload_pb2.Value, *, field: str) -> Any:
    """Return a message as a value to store or filter by.

    Raises:
        ServiceError: FIELD_REQUIRED or FIELD_INVALID.
    """
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "string_value":
            return value.string_value
        case "integer_value":
            return value.integer_value
        case "bool_value":
            return value.bool_value
        case "float_value":
            if not math.isfinite(value.float_value):
                raise _invalid(field, "a float must be finite")
            return value.float_value
        case "datetime_value":
            return format_datetime(parse_datetime(value, field=field))
        case "geo_value":
            return parse_geo_point(value.geo_value, field=field)
        case "list_value":
            kinds = {element.WhichOneof("kind") for element in value.list_value.values}
            if "list_value" in kinds:
                raise _invalid(field, "lists do not nest")
            if "null_value" in kinds:
                raise _invalid(field, "a list holds no null")
            if len(kinds) > 1 and kinds != {"integer_value", "float_value"}:
                raise _invalid(field, "the values of a list have one type")
            return [parse_value(element, field=field) for element in value.list_value.values]
    raise ServiceError(errors_pb2.FIELD_REQUIRED, f"{field} has no value; set one of its kinds", field=field)


def parse_datetime(value: payload_pb2.Value, *, field: str) -> datetime:
    """Return a datetime value in UTC.

    Raises:
        ServiceError: FIELD_INVALID outside the years 1 to 9999.
    """
    try:
        return value.datetime_value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _invalid(field, "a timestamp lies in the years 1 to 9999") from error


def parse_geo_point(point: payload_pb2.GeoPoint, *, field: str) -> dict[str, float]:
    """Return a geo point as it is stored.

    Raises:
        ServiceError: FIELD_INVALID for a place that does not exist.
    """
    if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
        raise _invalid(field, "latitude lies in -90 to 90 degrees, longitude in -180 to 180")
    return {"lat": point.latitude, "lon": point.longitude}


def _invalid(field: str, expected: str) -> ServiceError:
    return ServiceError(errors_pb2.FIELD_INVALID, f"{field}: {expected}", field=field)
